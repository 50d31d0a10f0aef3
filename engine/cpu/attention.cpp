// Attention with factorised two-dimensional relative position, one (image, head) at a time so that its scores stay in
// the cache. Both tables of a kind are stacked: rows [0, R) vertical, [R, 2R) horizontal, R = 2m + 2.
//
//   forward    S = Q K^T,  L = Q Tk^T (looked up per pair),  P = softmax(scale (S + L..)),  W = bucket sums of P
//              Y = P V + W Tv
//   backward   dP = dY V^T + lookups of dY Tv^T,  G = scale P (dP - D),  C = bucket sums of G
//              dQ = G K + C Tk,  dK = G^T Q,  dV = P^T dY,  dTk = C^T Q,  dTv = W^T dY
//
// A row of scores is the class token's key and then the key grid row by row. For one query the horizontal term is one
// vector of `side` values, the same for every grid row, and the vertical term one number per grid row: so a lookup is
// two additions per vector, and a bucket sum one addition per vector and one sum of lanes per grid row.
//
//   row:   | class | grid row 0: side keys | grid row 1 | ...            vectors of a grid row may reach into the next
//                  [ vector ][ vector ]      [ vector ][ vector ]        one: rows are written in ascending order into
//                                                                        another buffer, so the right value stays last
//
// Table gradients are summed per fixed chunk of (image, head) pairs, then over chunks in order.
#include "engine/cpu/gemm.h"
#include "engine/ops.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kMostChunks = 64 };

// Sizes of one (image, head); `stacked` is 2R, or 0 without relative position.
struct Plan {
  const AttentionShape& s;
  int64_t n, row, d, stacked, qkv_row, y_row, pairs, per_chunk, chunks;

  explicit Plan(const AttentionShape& shape)
      : s(shape),
        n(shape.tokens),
        row(attention_row(shape.tokens)),
        d(shape.head_dim),
        stacked(shape.max_relative_position > 0 ? 2 * (2 * shape.max_relative_position + 2) : 0),
        qkv_row(3 * shape.heads * shape.head_dim),
        y_row(shape.heads * shape.head_dim),
        pairs(shape.batch * shape.heads),
        per_chunk(max_of(1, chunks_of(pairs, kMostChunks))),
        chunks(chunks_of(pairs, per_chunk)) {}

  int64_t qkv_offset(int64_t pair) const { return pair / s.heads * n * qkv_row + pair % s.heads * d; }
  int64_t y_offset(int64_t pair) const { return pair / s.heads * n * y_row + pair % s.heads * d; }
  // Bucket of a distance between grid rows or columns; 0 is the class token's.
  int64_t bucket(int64_t distance) const {
    const int64_t m = s.max_relative_position;
    return max_of(-m, min_of(m, distance)) + m + 1;
  }
};

// A pair of tables, stacked and packed both ways for all (image, head) pairs of a call.
struct Tables {
  float *plain, *packed, *packed_transposed;

  static int64_t floats(const Plan& plan) {
    return plan.stacked * plan.d + packed_floats(plan.stacked, plan.d) + packed_floats(plan.d, plan.stacked);
  }
  Tables(const Plan& plan, const float* vertical, const float* horizontal, float* memory)
      : plain(memory),
        packed(memory + plan.stacked * plan.d),
        packed_transposed(packed + packed_floats(plan.stacked, plan.d)) {
    const int64_t half = plan.stacked / 2 * plan.d;
    if (half == 0) return;
    memcpy(plain, vertical, static_cast<size_t>(half) * sizeof(float));
    memcpy(plain + half, horizontal, static_cast<size_t>(half) * sizeof(float));
    pack({plain, plan.d, 1}, plan.stacked, plan.d, packed);
    pack({plain, 1, plan.d}, plan.d, plan.stacked, packed_transposed);
  }
};

// Scratch of one thread: a packing buffer, two matrices of padded score rows, two [N, 2R] matrices, one line of each.
struct Workspace {
  float *packed, *first, *second, *looked_up, *buckets, *line, *columns;

  explicit Workspace(const Plan& plan) {
    const int64_t packing = max_of(packed_floats(plan.d, plan.n), packed_floats(plan.n, plan.d));
    const int64_t square = plan.n * plan.row, table = plan.n * plan.stacked, spill = 2 * kLanes;
    const int64_t total = packing + 2 * square + 2 * table + plan.row + plan.s.side + 3 * spill;
    packed = static_cast<float*>(scratch(Scratch::attention, static_cast<size_t>(total) * sizeof(float)));
    first = packed + packing;
    second = first + square;
    line = second + square + spill;  // reading the last score row may reach beyond it, writing a line too
    columns = line + plan.row + spill;
    looked_up = columns + plan.s.side + spill;
    buckets = looked_up + table;
  }
};

// line[j] = scores[j] + the looked-up terms of query i, for N keys; `terms` is its row of the [N, 2R] product.
static inline void add_lookups(const Plan& plan, int64_t i, const float* scores, const float* terms, float* columns,
                               float* line) {
  const int64_t half = plan.stacked / 2, side = plan.s.side;
  const float with_class = terms[0] + terms[half];
  if (i == 0) {
    for_vectors(plan.n, [&](int64_t j, int64_t) { store(line + j, load(scores + j) + with_class); });
    return;
  }
  line[0] = scores[0] + with_class;
  const int64_t query_row = (i - 1) / side, query_col = (i - 1) % side;
  for (int64_t c = 0; c < side; ++c) columns[c] = terms[half + plan.bucket(c - query_col)];
  for (int64_t r = 0; r < side; ++r) {
    const vec vertical = splat(terms[plan.bucket(r - query_row)]);
    const int64_t at = 1 + r * side;
    for (int64_t c = 0; c < side; c += kLanes) {
      store(line + at + c, load(scores + at + c) + (vertical + load(columns + c)));
    }
  }
}

// sums[b] = sum of values[j] over the keys j in bucket b of query i, for both directions.
static inline void sum_buckets(const Plan& plan, int64_t i, const float* values, float* columns, float* sums) {
  const int64_t half = plan.stacked / 2, side = plan.s.side;
  for (int64_t b = 0; b < plan.stacked; ++b) sums[b] = 0;
  if (i == 0) {
    vec all = {};
    for_vectors(plan.n, [&](int64_t j, int64_t count) { all += keep_first(load(values + j), count); });
    sums[0] = sums[half] = sum_of(all);
    return;
  }
  sums[0] = sums[half] = values[0];
  const int64_t query_row = (i - 1) / side, query_col = (i - 1) % side;
  for (int64_t c = 0; c < side; c += kLanes) store(columns + c, vec{});
  for (int64_t r = 0; r < side; ++r) {
    vec sum = {};
    for (int64_t c = 0; c < side; c += kLanes) {
      const int64_t at = 1 + r * side + c, within = plan.row - at;  // the last vector may leave the row
      const vec x = keep_first(within >= kLanes ? load(values + at) : load_first(values + at, within), side - c);
      sum += x;
      store(columns + c, load(columns + c) + x);
    }
    sums[plan.bucket(r - query_row)] += sum_of(sum);
  }
  for (int64_t c = 0; c < side; ++c) sums[half + plan.bucket(c - query_col)] += columns[c];
}

// p = softmax(scale * line) over n values; writes whole vectors up to `row`, zeros beyond n. line and p may be the
// same.
static inline void softmax_row(int64_t n, int64_t row, float scale, float* line, float* p) {
  const float lowest = -3.0e38f;
  for (int64_t j = n; j < row; ++j) line[j] = lowest;
  vec most = splat(lowest);
  for (int64_t j = 0; j < row; j += kLanes) most = larger(most, load(line + j));
  const vec shift = splat(largest_of(most) * scale);
  vec sum = {};
  for (int64_t j = 0; j < row; j += kLanes) {
    const vec e = keep_first(exponential(load(line + j) * scale - shift), max_of(n - j, 0));
    sum += e;
    store(line + j, e);
  }
  const vec inverse = splat(1.0f / sum_of(sum));
  for (int64_t j = 0; j < row; j += kLanes) store(p + j, load(line + j) * inverse);
}

// Multiplies row i of a matrix by the dropout mask, kept entries by 1 / (1 - rate).
static inline void mask_row(const Plan& plan, int64_t pair, int64_t i, const float* from, float* to) {
  const float keep = 1.0f / (1.0f - plan.s.dropout);
  const uint64_t first = static_cast<uint64_t>((pair * plan.n + i) * plan.n);
  for (int64_t j = 0; j < plan.n; ++j) {
    to[j] = rng_uniform(plan.s.key, first + static_cast<uint64_t>(j)) >= plan.s.dropout ? from[j] * keep : 0.0f;
  }
}

// out[N, columns] = rows[N, D] . packed other^T, rows at their stride.
static inline void times_packed(const Plan& plan, const float* rows, int64_t row_stride, const float* packed,
                                int64_t columns, float* out, int64_t out_stride) {
  multiply_packed(plan.n, columns, plan.d, {rows, row_stride, 1}, packed, out, out_stride, nullptr, false);
}
static inline void times_transposed(const Plan& plan, const Workspace& w, const float* rows, int64_t row_stride,
                                    const float* other, int64_t other_stride, float* out) {
  pack({other, 1, other_stride}, plan.d, plan.n, w.packed);
  times_packed(plan, rows, row_stride, w.packed, plan.n, out, plan.row);
}
// out[rows, D] (+)= m . other[N, D].
static inline void times(const Plan& plan, const Workspace& w, int64_t rows, const View& m, const float* other,
                         int64_t other_stride, float* out, int64_t out_stride, bool add) {
  multiply(rows, plan.d, plan.n, m, {other, other_stride, 1}, w.packed, out, out_stride, add);
}
// out[N, D] += buckets[N, 2R] . table.
static inline void add_table_term(const Plan& plan, const Workspace& w, const Tables& t, float* out,
                                  int64_t out_stride) {
  multiply_packed(plan.n, plan.d, plan.stacked, {w.buckets, plan.stacked, 1}, t.packed, out, out_stride, nullptr, true);
}

static void forward_pair(const Plan& plan, const Workspace& w, int64_t pair, const float* qkv, const Tables& key,
                         const Tables& value, float* y, float* p) {
  const int64_t n = plan.n, stacked = plan.stacked;
  const float* q = qkv + plan.qkv_offset(pair);
  const float *k = q + plan.y_row, *v = k + plan.y_row;
  times_transposed(plan, w, q, plan.qkv_row, k, plan.qkv_row, w.first);
  if (stacked > 0) times_packed(plan, q, plan.qkv_row, key.packed_transposed, stacked, w.looked_up, stacked);
  const bool masked = plan.s.dropout > 0;
  const float* kept = masked ? w.second : p;
  for (int64_t i = 0; i < n; ++i) {
    float* scores = w.first + i * plan.row;
    if (stacked > 0) add_lookups(plan, i, scores, w.looked_up + i * stacked, w.columns, w.line);
    softmax_row(n, plan.row, plan.s.scale, stacked > 0 ? w.line : scores, p + i * plan.row);
    if (masked) mask_row(plan, pair, i, p + i * plan.row, w.second + i * plan.row);
    if (stacked > 0) sum_buckets(plan, i, kept + i * plan.row, w.columns, w.buckets + i * stacked);
  }
  float* out = y + plan.y_offset(pair);
  times(plan, w, n, {kept, plan.row, 1}, v, plan.qkv_row, out, plan.y_row, false);
  if (stacked > 0) add_table_term(plan, w, value, out, plan.y_row);
}

void attention_forward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                       const float* value_v, const float* value_h, float* y, float* p) {
  const Plan plan(s);
  const int64_t table = Tables::floats(plan);
  float* memory = static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(2 * table + 1) * sizeof(float)));
  const Tables key(plan, key_v, key_h, memory), value(plan, value_v, value_h, memory + table);
  parallel_for(plan.chunks, [&](int64_t chunk) {
    const Workspace w(plan);
    for (int64_t pair = chunk * plan.per_chunk; pair < min_of(plan.pairs, (chunk + 1) * plan.per_chunk); ++pair) {
      forward_pair(plan, w, pair, qkv, key, value, y, p == nullptr ? w.first : p + pair * plan.n * plan.row);
    }
  });
}

// Turns row i of dP into G: g = scale p (mask dp - D), D = sum p mask dp.
static inline void score_gradient_row(const Plan& plan, int64_t pair, int64_t i, const float* p, float* dp, float* g) {
  for (int64_t j = plan.n; j < plan.row; ++j) dp[j] = 0;
  if (plan.s.dropout > 0) mask_row(plan, pair, i, dp, dp);
  vec sum = {};
  for (int64_t j = 0; j < plan.row; j += kLanes) sum += load(p + j) * load(dp + j);
  const vec total = splat(sum_of(sum));
  for (int64_t j = 0; j < plan.row; j += kLanes) store(g + j, load(p + j) * (load(dp + j) - total) * plan.s.scale);
}

static void backward_pair(const Plan& plan, const Workspace& w, int64_t pair, const float* qkv, const Tables& key,
                          const Tables& value, const float* p, const float* dy, float* dqkv, bool add, float* dtk,
                          float* dtv) {
  const int64_t n = plan.n, row = plan.row, stacked = plan.stacked, qkv_row = plan.qkv_row, y_row = plan.y_row;
  const float* q = qkv + plan.qkv_offset(pair);
  const float *k = q + y_row, *v = k + y_row, *out = dy + plan.y_offset(pair);
  float* dq = dqkv + plan.qkv_offset(pair);
  float *dk = dq + y_row, *dv = dk + y_row, *g = w.first;
  const float* kept = p;
  if (plan.s.dropout > 0) {
    for (int64_t i = 0; i < n; ++i) mask_row(plan, pair, i, p + i * row, w.second + i * row);
    kept = w.second;
  }
  times(plan, w, n, {kept, 1, row}, out, y_row, dv, qkv_row, add);
  times_transposed(plan, w, out, y_row, v, qkv_row, g);
  if (stacked > 0) {
    for (int64_t i = 0; i < n; ++i) sum_buckets(plan, i, kept + i * row, w.columns, w.buckets + i * stacked);
    times(plan, w, stacked, {w.buckets, 1, stacked}, out, y_row, dtv, plan.d, true);
    times_packed(plan, out, y_row, value.packed_transposed, stacked, w.looked_up, stacked);
  }
  for (int64_t i = 0; i < n; ++i) {
    float* scores = g + i * row;
    if (stacked > 0) add_lookups(plan, i, scores, w.looked_up + i * stacked, w.columns, w.line);
    score_gradient_row(plan, pair, i, p + i * row, stacked > 0 ? w.line : scores, scores);
    if (stacked > 0) sum_buckets(plan, i, scores, w.columns, w.buckets + i * stacked);
  }
  times(plan, w, n, {g, 1, row}, q, qkv_row, dk, qkv_row, add);
  times(plan, w, n, {g, row, 1}, k, qkv_row, dq, qkv_row, add);
  if (stacked > 0) {
    add_table_term(plan, w, key, dq, qkv_row);
    times(plan, w, stacked, {w.buckets, 1, stacked}, q, qkv_row, dtk, plan.d, true);
  }
}

static void add_table(int64_t n, const float* from, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

void attention_backward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                        const float* value_v, const float* value_h, const float* p, const float* dy, float* dqkv,
                        bool add, float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  const Plan plan(s);
  const int64_t table = plan.stacked * plan.d, memory_floats = Tables::floats(plan);
  float* memory =
      static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(2 * memory_floats + 1) * sizeof(float)));
  float* partial =
      static_cast<float*>(scratch(Scratch::partial, static_cast<size_t>(2 * table * plan.chunks + 1) * sizeof(float)));
  const Tables key(plan, key_v, key_h, memory), value(plan, value_v, value_h, memory + memory_floats);
  parallel_for(plan.chunks, [&](int64_t chunk) {
    const Workspace w(plan);
    float* own = partial + chunk * 2 * table;
    memset(own, 0, static_cast<size_t>(2 * table) * sizeof(float));
    for (int64_t pair = chunk * plan.per_chunk; pair < min_of(plan.pairs, (chunk + 1) * plan.per_chunk); ++pair) {
      backward_pair(plan, w, pair, qkv, key, value, p + pair * plan.n * plan.row, dy, dqkv, add, own, own + table);
    }
  });
  const int64_t half = table / 2;
  for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
    const float* own = partial + chunk * 2 * table;
    add_table(half, own, dkey_v);
    add_table(half, own + half, dkey_h);
    add_table(half, own + table, dvalue_v);
    add_table(half, own + table + half, dvalue_h);
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
