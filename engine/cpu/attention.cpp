// Attention with factorised two-dimensional relative position, one (image, head) at a time, its matrices in the L2
// cache.
// T: the joined table of engine/cpu/attention_position.h, a row for each of 4 side - 1 places.
//
//   forward    A = Q Tk^T,  S = lookups of A + Q K^T,  P = softmax(scale S),  W = sums of P by place
//              Y = P V + W Tv
//   backward   B = dY Tv^T,  dP = lookups of B + dY V^T,  G = scale P (dP - D),  C = sums of G by place
//              dQ = G K + C Tk,  dK = G^T Q,  dV = P^T dY,  dTk = C^T Q,  dTv = W^T dY
//
// S and dP are formed kBlock queries at a time in a buffer inside the L1 cache: the lookups are written there first,
// the product is added to them, and the row operations read the result at once.
//
// The operands of all products are of the precision P, a template parameter here; the rest is fp32.
//
// Table gradients are summed per fixed chunk of (image, head) pairs, then over chunks in order.
#include "engine/cpu/attention_position.h"
#include "engine/cpu/attention_product.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kMostChunks = 64, kBlock = 16 };  // kBlock: two tiles' rows or more, and its scores fit the L1 cache

// Sizes of one (image, head). Rows of keys lie `row` apart in P and G, `line` apart in a block; rows of places `terms`.
struct Plan {
  const AttentionShape& s;
  Grid grid;
  int64_t n, d, places, row, line, terms, qkv_row, y_row, pairs, per_chunk, chunks;

  explicit Plan(const AttentionShape& shape)
      : s(shape),
        grid{shape.side, shape.max_relative_position},
        n(shape.tokens),
        d(shape.head_dim),
        places(grid.places()),
        row(attention_row(shape.tokens)),
        line(row + kLanes),
        terms(chunks_of(places, kLanes) * kLanes),
        qkv_row(3 * shape.heads * shape.head_dim),
        y_row(shape.heads * shape.head_dim),
        pairs(shape.batch * shape.heads),
        per_chunk(max_of(1, chunks_of(pairs, kMostChunks))),
        chunks(chunks_of(pairs, per_chunk)) {}

  bool relative() const { return places > 0; }
  int64_t whole_n() const { return chunks_of(n, kLanes) * kLanes; }
  int64_t qkv_offset(int64_t pair) const { return pair / s.heads * n * qkv_row + pair % s.heads * d; }
  int64_t y_offset(int64_t pair) const { return pair / s.heads * n * y_row + pair % s.heads * d; }
};

// A pair of tables, joined and packed both ways for all (image, head) pairs of a call.
template <class P>
struct Tables {
  Packed<P> rows, transposed;  // [places, D], [D, places]

  static size_t bytes(const Plan& plan) {
    const Packed<P> rows = {nullptr, plan.places, plan.d}, transposed = {nullptr, plan.d, plan.places};
    return static_cast<size_t>(plan.places * plan.d + rows.elements() + transposed.elements()) * sizeof(float);
  }
  Tables(const Plan& plan, const float* vertical, const float* horizontal, char* memory)
      : rows{nullptr, plan.places, plan.d}, transposed{nullptr, plan.d, plan.places} {
    if (!plan.relative()) return;
    float* joined = reinterpret_cast<float*>(memory);
    rows.data = reinterpret_cast<typename P::Element*>(joined + plan.places * plan.d);
    transposed.data = rows.data + rows.elements();
    join_tables(plan.grid, plan.d, vertical, horizontal, joined);
    pack_rows(joined, plan.d, rows);
    pack_transposed(joined, plan.d, transposed);
  }
};

// Scratch of one thread. What the left operands' elements need, four bytes each, is empty where none is converted.
template <class P>
struct Workspace {
  typedef typename P::Element Element;
  Packed<P> keys;                  // [D, N]: K^T or V^T
  Packed<P> first, second, third;  // [N, D]: V; or K, Q and dY
  float *scores, *kept;            // [N, row]: P or G; P with dropout applied
  float *terms, *sums;             // [N, terms]: A or B; W or C
  float *block, *last;             // [kBlock, line]; one line
  Element *queries, *left;         // [N, D]: Q or dY; [N, row]: another one

  explicit Workspace(const Plan& plan) {
    keys = {nullptr, plan.d, plan.n};
    first = second = third = {nullptr, plan.n, plan.d};
    const size_t bytes = static_cast<size_t>(lay_out(plan, nullptr)) * sizeof(float);
    lay_out(plan, static_cast<float*>(scratch(Scratch::attention, bytes)));
  }

  // Points all parts into memory, or at nothing; returns how many floats they take. A part begins at a cache line,
  // and vectors may reach beyond its last row.
  int64_t lay_out(const Plan& plan, float* memory) {
    int64_t used = 0;
    const auto take = [&](auto*& part, int64_t elements) {
      void* begin = memory == nullptr ? nullptr : memory + used;
      part = static_cast<decltype(+part)>(begin);
      used += (elements + kLanes + 15) / 16 * 16;
    };
    const int64_t square = plan.n * plan.row, converted = P::kInPlace ? 0 : plan.n + P::kStep;
    take(keys.data, keys.elements());
    take(first.data, first.elements());
    take(second.data, second.elements());
    take(third.data, third.elements());
    take(scores, square);
    take(kept, plan.s.dropout > 0 ? square : 0);
    take(terms, plan.n * plan.terms);
    take(sums, plan.n * plan.terms);
    take(block, kBlock * plan.line);
    take(last, plan.line);
    take(queries, converted * plan.d);
    take(left, converted * max_of(plan.row, plan.terms));
    return used;
  }

  // m[rows, depth] as left operand, and the transpose of m[depth, columns].
  View<Element> operand(int64_t rows, int64_t depth, const float* m, int64_t stride) const {
    return left_operand<P>(rows, depth, m, stride, left);
  }
  View<Element> transposed(int64_t depth, int64_t columns, const float* m, int64_t stride) const {
    return transposed_operand<P>(depth, columns, m, stride, left);
  }
};

// block = lookups of the terms + rows . keys for queries [first, first + count).
template <class P>
static inline void score_block(const Plan& plan, const Workspace<P>& w, int64_t first, int64_t count,
                               const View<typename P::Element>& rows) {
  for (int64_t i = first; plan.relative() && i < first + count; ++i) {
    look_up(plan.grid, i, w.terms + i * plan.terms, w.block + (i - first) * plan.line);
  }
  multiply(count, {rows.data + first * rows.row, rows.row, rows.col}, w.keys, plan.relative() ? w.block : nullptr,
           plan.line, w.block, plan.line, plan.whole_n());
}

// A vector for each row of a block, and what is in all lanes of a row's: one number for each.
enum { kBlockLanes = (kBlock + kLanes - 1) / kLanes * kLanes };
struct BlockVectors {
  vec of_row[kBlockLanes] = {};
};
struct BlockNumbers {
  float of_row[kBlockLanes];
};

template <class F>
static inline BlockNumbers over_rows(BlockVectors& x, const F& f) {
  BlockNumbers result;
  for (int i = 0; i < kBlockLanes; i += kLanes) store(result.of_row + i, over_lanes(x.of_row + i, f));
  return result;
}

// The largest of a line's N scores, lane by lane; the last vector's lanes beyond them are set to the lowest number.
static inline vec largest_scores(int64_t n, float* line) {
  const int64_t last = (n - 1) / kLanes * kLanes;
  vec most = first_of(load(line + last), n - last, splat(-3.0e38f));
  store(line + last, most);
  for (int64_t j = 0; j < last; j += kLanes) most = larger(most, load(line + j));
  return most;
}

// line = exp(scale * (line - most)), as powers of two, zeros beyond its N scores; returns the sums, lane by lane.
// Differences of more than 120 powers are taken for 120, so the lanes beyond N add 2^-120 to a sum of at least 1, which
// changes no bit.
static inline vec exponentials(int64_t n, int64_t row, float powers, float most, float* line) {
  const vec scale = splat(powers), shift = splat(most * powers), lowest = splat(most - 120.0f / powers);
  vec sum = {};
  for (int64_t j = 0; j < n; j += kLanes) {
    const vec e = power_of_two(larger(load(line + j), lowest) * scale - shift);
    store(line + j, e);
    sum += e;
  }
  const int64_t last = (n - 1) / kLanes * kLanes;
  store(line + last, keep_first(load(line + last), n - last));
  for (int64_t j = last + kLanes; j < row; j += kLanes) store(line + j, vec{});
  return sum;
}

// p = softmax(scale * block), row by row; the block is overwritten. One step for all rows and then the next.
static inline void softmax_block(const Plan& plan, int64_t count, float* block, float* p) {
  const int64_t n = plan.n, row = plan.row, line = plan.line;
  const float powers = plan.s.scale * 1.44269504f;
  BlockVectors scores, sums;
  for (int64_t i = 0; i < count; ++i) scores.of_row[i] = largest_scores(n, block + i * line);
  const BlockNumbers most = over_rows(scores, larger);
  for (int64_t i = 0; i < count; ++i) {
    sums.of_row[i] = exponentials(n, row, powers, most.of_row[i], block + i * line);
  }
  const BlockNumbers sum = over_rows(sums, plus);
  for (int64_t i = 0; i < count; ++i) {
    const float *e = block + i * line, inverse = 1.0f / sum.of_row[i];
    for (int64_t j = 0; j < row; j += kLanes) store(p + i * row + j, load(e + j) * inverse);
  }
}

// Multiplies row i of a matrix by the dropout mask, kept entries by 1 / (1 - rate).
static inline void mask_row(const Plan& plan, int64_t pair, int64_t i, const float* from, float* to) {
  const float keep = 1.0f / (1.0f - plan.s.dropout);
  const uint64_t first = attention_mask_index(plan.s, pair, i);
  for (int64_t j = 0; j < plan.n; ++j) {
    to[j] = rng_uniform(plan.s.key, first + static_cast<uint64_t>(j)) >= plan.s.dropout ? from[j] * keep : 0.0f;
  }
}

// Row i of P with dropout applied, and its sums by place. A row of P may end where memory does: the sums, whose vectors
// reach beyond a row, read the last one from a copy.
template <class P>
static inline void keep_row(const Plan& plan, const Workspace<P>& w, int64_t pair, int64_t i, const float* p) {
  const bool masked = plan.s.dropout > 0;
  if (masked) mask_row(plan, pair, i, p, w.kept + i * plan.row);
  if (!plan.relative()) return;
  const float* kept = masked ? w.kept + i * plan.row : p;
  if (!masked && i == plan.n - 1) {
    memcpy(w.last, p, static_cast<size_t>(plan.row) * sizeof(float));
    kept = w.last;
  }
  sum_places(plan.grid, i, kept, w.sums + i * plan.terms);
}

// out[N, D] = m . b + sums . table, m [N, row], the first term added to what is there when `add`.
template <class P>
static inline void multiply_with_table(const Plan& plan, const Workspace<P>& w, const float* m, const Packed<P>& b,
                                       const Packed<P>& table, float* out, int64_t stride, bool add) {
  multiply(plan.n, w.operand(plan.n, plan.n, m, plan.row), b, add ? out : nullptr, stride, out, stride, plan.d);
  if (plan.relative()) {
    multiply(plan.n, w.operand(plan.n, plan.places, w.sums, plan.terms), table, out, stride, out, stride, plan.d);
  }
}

// P, and with dropout and by place what keep_row makes of it.
template <class P>
static void probabilities(const Plan& plan, const Workspace<P>& w, int64_t pair, const float* qkv, const Tables<P>& key,
                          float* p) {
  const float* q = qkv + plan.qkv_offset(pair);
  const auto queries = left_operand<P>(plan.n, plan.d, q, plan.qkv_row, w.queries);
  pack_transposed(q + plan.y_row, plan.qkv_row, w.keys);
  if (plan.relative()) multiply(plan.n, queries, key.transposed, nullptr, 0, w.terms, plan.terms, plan.terms);
  for (int64_t first = 0; first < plan.n; first += kBlock) {
    const int64_t count = min_of(kBlock, plan.n - first);
    score_block(plan, w, first, count, queries);
    softmax_block(plan, count, w.block, p + first * plan.row);
    for (int64_t i = first; i < first + count; ++i) {
      // The next block's stores would wait for memory, one cache line after another.
      if (i + kBlock < plan.n) prefetch(plan.row, p + (i + kBlock) * plan.row);
      prefetch(plan.d, q + 2 * plan.y_row + i * plan.qkv_row);
      keep_row(plan, w, pair, i, p + i * plan.row);
    }
  }
}

template <class P>
static void forward_pair(const Plan& plan, const Workspace<P>& w, int64_t pair, const float* qkv, const Tables<P>& key,
                         const Tables<P>& value, float* y, float* p) {
  probabilities(plan, w, pair, qkv, key, p);
  pack_rows(qkv + plan.qkv_offset(pair) + 2 * plan.y_row, plan.qkv_row, w.first);
  multiply_with_table(plan, w, plan.s.dropout > 0 ? w.kept : p, w.first, value.rows, y + plan.y_offset(pair),
                      plan.y_row, false);
}

template <class P>
static void forward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                    const float* value_v, const float* value_h, float* y, float* p) {
  const Plan plan(s);
  const size_t table = Tables<P>::bytes(plan);
  char* memory = static_cast<char*>(scratch(Scratch::packed, 2 * table + 1));
  const Tables<P> key(plan, key_v, key_h, memory), value(plan, value_v, value_h, memory + table);
  parallel_for(plan.chunks, [&](int64_t chunk) {
    const Workspace<P> w(plan);
    for (int64_t pair = chunk * plan.per_chunk; pair < min_of(plan.pairs, (chunk + 1) * plan.per_chunk); ++pair) {
      forward_pair(plan, w, pair, qkv, key, value, y, p == nullptr ? w.scores : p + pair * plan.n * plan.row);
    }
  });
}

void attention_forward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                       const float* value_v, const float* value_h, float* y, float* p) {
  (s.precision == Precision::bf16 ? forward<Bf16> : forward<Fp32>)(s, qkv, key_v, key_h, value_v, value_h, y, p);
}

// g = scale p (mask dp - D), D = sum p mask dp, for the rows of a block from row `first`; dp is overwritten.
static inline void score_gradient_block(const Plan& plan, int64_t pair, int64_t first, int64_t count, const float* p,
                                        float* dp, float* g) {
  const int64_t row = plan.row, line = plan.line;
  BlockVectors products;
  for (int64_t i = 0; i < count; ++i) {
    float* own = dp + i * line;
    if (plan.s.dropout > 0) mask_row(plan, pair, first + i, own, own);
    for (int64_t j = plan.n; j < row; ++j) own[j] = 0;
    for (int64_t j = 0; j < row; j += kLanes) products.of_row[i] += load(p + i * row + j) * load(own + j);
  }
  const BlockNumbers total = over_rows(products, plus);
  const vec scale = splat(plan.s.scale);
  for (int64_t i = 0; i < count; ++i) {
    const vec mean = splat(total.of_row[i]);
    for (int64_t j = 0; j < row; j += kLanes) {
      store(g + i * row + j, load(p + i * row + j) * (load(dp + i * line + j) - mean) * scale);
    }
  }
}

// G and C from dY, P and the packed V^T.
template <class P>
static void score_gradients(const Plan& plan, const Workspace<P>& w, int64_t pair, const float* p, const float* q,
                            const View<typename P::Element>& dy) {
  for (int64_t first = 0; first < plan.n; first += kBlock) {
    const int64_t count = min_of(kBlock, plan.n - first);
    score_block(plan, w, first, count, dy);
    score_gradient_block(plan, pair, first, count, p + first * plan.row, w.block, w.scores + first * plan.row);
    for (int64_t i = first; i < first + count; ++i) {
      prefetch(plan.d, q + i * plan.qkv_row);
      prefetch(plan.d, q + plan.y_row + i * plan.qkv_row);
      if (plan.relative()) sum_places(plan.grid, i, w.scores + i * plan.row, w.sums + i * plan.terms);
    }
  }
}

// to[columns, D] (+)= m^T b, the k of the product being the N queries.
template <class P>
static void multiply_transposed(const Plan& plan, const Workspace<P>& w, int64_t columns, const float* m, int64_t m_row,
                                const Packed<P>& b, float* to, int64_t stride, bool add) {
  multiply(columns, w.transposed(plan.n, columns, m, m_row), b, add ? to : nullptr, stride, to, stride, plan.d);
}

// p null: computed again, where G replaces it row by row.
template <class P>
static void backward_pair(const Plan& plan, const Workspace<P>& w, int64_t pair, const float* qkv, const Tables<P>& key,
                          const Tables<P>& value, const float* p, const float* dy, float* dqkv, bool add, float* dtk,
                          float* dtv) {
  const int64_t n = plan.n, d = plan.d, row = plan.row, stride = plan.qkv_row;
  const float *q = qkv + plan.qkv_offset(pair), *out = dy + plan.y_offset(pair);
  const float *k = q + plan.y_row, *v = k + plan.y_row;
  float *dq = dqkv + plan.qkv_offset(pair), *dk = dq + plan.y_row, *dv = dk + plan.y_row;
  if (p == nullptr) {
    probabilities(plan, w, pair, qkv, key, w.scores);
    p = w.scores;
  } else {
    for (int64_t i = 0; i < n; ++i) {
      prefetch(d, out + i * plan.y_row);
      prefetch(d, v + i * stride);
      keep_row(plan, w, pair, i, p + i * row);
    }
  }
  pack_transposed(v, stride, w.keys);
  pack_rows(out, plan.y_row, w.third);
  multiply_transposed(plan, w, n, plan.s.dropout > 0 ? w.kept : p, row, w.third, dv, stride, add);
  const auto outputs = left_operand<P>(n, d, out, plan.y_row, w.queries);
  if (plan.relative()) {
    multiply_transposed(plan, w, plan.places, w.sums, plan.terms, w.third, dtv, d, true);
    multiply(n, outputs, value.transposed, nullptr, 0, w.terms, plan.terms, plan.terms);
  }
  score_gradients(plan, w, pair, p, q, outputs);
  pack_rows(k, stride, w.first);
  pack_rows(q, stride, w.second);
  multiply_transposed(plan, w, n, w.scores, row, w.second, dk, stride, add);
  multiply_with_table(plan, w, w.scores, w.first, key.rows, dq, stride, add);
  if (plan.relative()) multiply_transposed(plan, w, plan.places, w.sums, plan.terms, w.second, dtk, d, true);
}

template <class P>
static void backward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                     const float* value_v, const float* value_h, const float* p, const float* dy, float* dqkv, bool add,
                     float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  const Plan plan(s);
  const int64_t table = plan.places * plan.d;
  const size_t packed = Tables<P>::bytes(plan);
  char* memory = static_cast<char*>(scratch(Scratch::packed, 2 * packed + 1));
  float* partial =
      static_cast<float*>(scratch(Scratch::partial, static_cast<size_t>(2 * table * plan.chunks + 1) * sizeof(float)));
  const Tables<P> key(plan, key_v, key_h, memory), value(plan, value_v, value_h, memory + packed);
  parallel_for(plan.chunks, [&](int64_t chunk) {
    const Workspace<P> w(plan);
    float* own = partial + chunk * 2 * table;
    memset(own, 0, static_cast<size_t>(2 * table) * sizeof(float));
    for (int64_t pair = chunk * plan.per_chunk; pair < min_of(plan.pairs, (chunk + 1) * plan.per_chunk); ++pair) {
      backward_pair(plan, w, pair, qkv, key, value, p == nullptr ? nullptr : p + pair * plan.n * plan.row, dy, dqkv,
                    add, own, own + table);
    }
  });
  for (int64_t chunk = 0; plan.relative() && chunk < plan.chunks; ++chunk) {
    const float* own = partial + chunk * 2 * table;
    add_joined(plan.grid, plan.d, own, dkey_v, dkey_h);
    add_joined(plan.grid, plan.d, own + table, dvalue_v, dvalue_h);
  }
}

void attention_backward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                        const float* value_v, const float* value_h, const float* p, const float* dy, float* dqkv,
                        bool add, float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  const bool bf16 = s.precision == Precision::bf16;
  (bf16 ? backward<Bf16> : backward<Fp32>)(s, qkv, key_v, key_h, value_v, value_h, p, dy, dqkv, add, dkey_v, dkey_h,
                                           dvalue_v, dvalue_h);
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
