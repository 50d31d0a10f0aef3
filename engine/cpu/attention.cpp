// Attention with factorised two-dimensional relative position, one (image, head) at a time so that its scores stay in
// the cache. Both tables of a kind are stacked: rows [0, R) vertical, [R, 2R) horizontal, R = 2m + 2.
//
//   forward    S = Q K^T,  L = Q Tk^T (looked up per pair),  P = softmax(scale (S + L..)),  W = bucket sums of P
//              Y = P V + W Tv
//   backward   dP = dY V^T + lookups of dY Tv^T,  G = scale P (dP - D),  C = bucket sums of G
//              dQ = G K + C Tk,  dK = G^T Q,  dV = P^T dY,  dTk = C^T Q,  dTv = W^T dY
//
// A row of scores is the class token's key and then the key grid row by row. For one query the horizontal term is one
// vector of `side` values, the same for every grid row, and the vertical term one number per grid row.
// Table gradients are summed per fixed chunk of (image, head) pairs, then over chunks in order.
#include "engine/cpu/gemm.h"
#include "engine/ops.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kMostChunks = 64 };

// Sizes and the scratch of one (image, head); `stacked` is 2R, or 0 without relative position.
struct Plan {
  const AttentionShape& s;
  int64_t n, d, stacked, qkv_row, y_row, pairs, per_chunk, chunks;

  explicit Plan(const AttentionShape& shape)
      : s(shape),
        n(shape.tokens),
        d(shape.head_dim),
        stacked(shape.max_relative_position > 0 ? 2 * (2 * shape.max_relative_position + 2) : 0),
        qkv_row(3 * shape.heads * shape.head_dim),
        y_row(shape.heads * shape.head_dim),
        pairs(shape.batch * shape.heads),
        per_chunk(chunks_of(pairs, kMostChunks)),
        chunks(chunks_of(pairs, per_chunk)) {}

  int64_t qkv_offset(int64_t pair) const { return pair / s.heads * n * qkv_row + pair % s.heads * d; }
  int64_t y_offset(int64_t pair) const { return pair / s.heads * n * y_row + pair % s.heads * d; }
  int64_t packed() const {
    return max_of(max_of(packed_floats(d, n), packed_floats(n, d)),
                  max_of(packed_floats(d, stacked), packed_floats(stacked, d)));
  }
};

// Scratch of one thread: a packing buffer, two [N, N] matrices, two [N, 2R] matrices, one value per grid column.
struct Workspace {
  float *packed, *first, *second, *looked_up, *buckets, *columns;

  explicit Workspace(const Plan& plan) {
    const int64_t square = plan.n * plan.n, table = plan.n * plan.stacked, pad = kLanes;
    const int64_t total = plan.packed() + 2 * (square + pad) + 2 * (table + pad) + plan.s.side;
    packed = static_cast<float*>(scratch(Scratch::attention, static_cast<size_t>(total) * sizeof(float)));
    first = packed + plan.packed();
    second = first + square + pad;
    looked_up = second + square + pad;
    buckets = looked_up + table + pad;
    columns = buckets + table + pad;
  }
};

// Bucket of a distance between grid rows or columns; 0 is the class token's.
static inline int64_t bucket(const Plan& plan, int64_t distance) {
  const int64_t m = plan.s.max_relative_position;
  return max_of(-m, min_of(m, distance)) + m + 1;
}

static void stack_tables(const Plan& plan, const float* vertical, const float* horizontal, float* stacked) {
  const size_t half = static_cast<size_t>(plan.stacked / 2 * plan.d);
  if (half == 0) return;
  memcpy(stacked, vertical, half * sizeof(float));
  memcpy(stacked + half, horizontal, half * sizeof(float));
}

// row[j] += the looked-up terms of query i, from its line of the [N, 2R] product.
static inline void add_lookups(const Plan& plan, int64_t i, const float* line, float* columns, float* row) {
  const int64_t half = plan.stacked / 2, side = plan.s.side;
  const float with_class = line[0] + line[half];
  row[0] += with_class;
  if (i == 0) {
    for (int64_t j = 1; j < plan.n; ++j) row[j] += with_class;
    return;
  }
  const int64_t query_row = (i - 1) / side, query_col = (i - 1) % side;
  for (int64_t c = 0; c < side; ++c) columns[c] = line[half + bucket(plan, c - query_col)];
  for (int64_t r = 0; r < side; ++r) {
    const float vertical = line[bucket(plan, r - query_row)];
    float* keys = row + 1 + r * side;
    for (int64_t c = 0; c < side; ++c) keys[c] += vertical + columns[c];
  }
}

// line[b] = sum of row[j] over the keys j in bucket b of query i, for both directions.
static inline void sum_buckets(const Plan& plan, int64_t i, const float* row, float* columns, float* line) {
  const int64_t half = plan.stacked / 2, side = plan.s.side;
  for (int64_t b = 0; b < plan.stacked; ++b) line[b] = 0;
  if (i == 0) {
    float all = 0;
    for (int64_t j = 0; j < plan.n; ++j) all += row[j];
    line[0] = line[half] = all;
    return;
  }
  line[0] = line[half] = row[0];
  const int64_t query_row = (i - 1) / side, query_col = (i - 1) % side;
  for (int64_t c = 0; c < side; ++c) columns[c] = 0;
  for (int64_t r = 0; r < side; ++r) {
    const float* keys = row + 1 + r * side;
    vec sum = {};
    for_vectors(side, [&](int64_t c, int64_t count) {
      const vec x = load_some(keys + c, count);
      sum += x;
      store_some(columns + c, x + load_some(columns + c, count), count);
    });
    line[bucket(plan, r - query_row)] += sum_of(sum);
  }
  for (int64_t c = 0; c < side; ++c) line[half + bucket(plan, c - query_col)] += columns[c];
}

static inline void softmax_row(int64_t n, float scale, const float* scores, float* p) {
  vec most = splat(-3.4e38f);
  for_vectors(n, [&](int64_t j, int64_t count) { most = larger(most, load_some(scores + j, count, -3.4e38f)); });
  const float shift = largest_of(most) * scale;
  vec sum = {};
  for_vectors(n, [&](int64_t j, int64_t count) {
    // A short vector's other lanes become exp(-large) = 1e-38, which no fp32 sum of a softmax (>= 1) can notice.
    const vec e = exponential(load_some(scores + j, count, -3.0e38f) * scale - shift);
    sum += e;
    store_some(p + j, e, count);
  });
  const float inverse = 1.0f / sum_of(sum);
  for_vectors(n, [&](int64_t j, int64_t count) { store_some(p + j, load_some(p + j, count) * inverse, count); });
}

// Multiplies row i of a matrix by the dropout mask, kept entries by 1 / (1 - rate).
static inline void mask_row(const Plan& plan, int64_t pair, int64_t i, const float* from, float* to) {
  const float keep = 1.0f / (1.0f - plan.s.dropout);
  const uint64_t first = static_cast<uint64_t>((pair * plan.n + i) * plan.n);
  for (int64_t j = 0; j < plan.n; ++j) {
    to[j] = rng_uniform(plan.s.key, first + static_cast<uint64_t>(j)) >= plan.s.dropout ? from[j] * keep : 0.0f;
  }
}

// out[N, columns] = rows[N, D] . other[columns, D]^T, rows and other at their strides.
static inline void times_transposed(const Plan& plan, const Workspace& w, const float* rows, int64_t row_stride,
                                    const float* other, int64_t other_stride, int64_t columns, float* out) {
  const View a = {rows, row_stride, 1}, b = {other, 1, other_stride};
  multiply(plan.n, columns, plan.d, a, b, w.packed, out, columns, false);
}

// out[rows, D] (+)= m . other[depth, D].
static inline void times(const Plan& plan, const Workspace& w, int64_t rows, const View& m, int64_t depth,
                         const float* other, int64_t other_stride, float* out, int64_t out_stride, bool add) {
  const View b = {other, other_stride, 1};
  multiply(rows, plan.d, depth, m, b, w.packed, out, out_stride, add);
}

static void forward_pair(const Plan& plan, const Workspace& w, int64_t pair, const float* qkv, const float* tk,
                         const float* tv, float* y, float* p) {
  const int64_t n = plan.n, stacked = plan.stacked;
  const float* q = qkv + plan.qkv_offset(pair);
  const float *k = q + plan.y_row, *v = k + plan.y_row;
  times_transposed(plan, w, q, plan.qkv_row, k, plan.qkv_row, n, p);
  if (stacked > 0) times_transposed(plan, w, q, plan.qkv_row, tk, plan.d, stacked, w.looked_up);
  const bool masked = plan.s.dropout > 0;
  const float* kept = masked ? w.second : p;
  for (int64_t i = 0; i < n; ++i) {
    float* row = p + i * n;
    if (stacked > 0) add_lookups(plan, i, w.looked_up + i * stacked, w.columns, row);
    softmax_row(n, plan.s.scale, row, row);
    if (masked) mask_row(plan, pair, i, row, w.second + i * n);
    if (stacked > 0) sum_buckets(plan, i, kept + i * n, w.columns, w.buckets + i * stacked);
  }
  float* out = y + plan.y_offset(pair);
  times(plan, w, n, {kept, n, 1}, n, v, plan.qkv_row, out, plan.y_row, false);
  if (stacked > 0) times(plan, w, n, {w.buckets, stacked, 1}, stacked, tv, plan.d, out, plan.y_row, true);
}

void attention_forward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                       const float* value_v, const float* value_h, float* y, float* p) {
  const Plan plan(s);
  const int64_t table = plan.stacked * plan.d;
  float* tk = static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(2 * table + 1) * sizeof(float)));
  float* tv = tk + table;
  stack_tables(plan, key_v, key_h, tk);
  stack_tables(plan, value_v, value_h, tv);
  parallel_for(plan.chunks, [&](int64_t chunk) {
    const Workspace w(plan);
    for (int64_t pair = chunk * plan.per_chunk; pair < min_of(plan.pairs, (chunk + 1) * plan.per_chunk); ++pair) {
      forward_pair(plan, w, pair, qkv, tk, tv, y, p == nullptr ? w.first : p + pair * plan.n * plan.n);
    }
  });
}

// Turns row i of dP (the products dY V^T) into G, given the row of p and D's ingredients.
static inline void score_gradient_row(const Plan& plan, int64_t pair, int64_t i, const float* p, float* g) {
  const int64_t n = plan.n;
  if (plan.s.dropout > 0) mask_row(plan, pair, i, g, g);
  vec sum = {};
  for_vectors(n, [&](int64_t j, int64_t count) { sum += load_some(p + j, count) * load_some(g + j, count); });
  const float total = sum_of(sum), scale = plan.s.scale;
  for_vectors(n, [&](int64_t j, int64_t count) {
    store_some(g + j, load_some(p + j, count) * (load_some(g + j, count) - total) * scale, count);
  });
}

static void backward_pair(const Plan& plan, const Workspace& w, int64_t pair, const float* qkv, const float* tk,
                          const float* tv, const float* p, const float* dy, float* dqkv, bool add, float* dtk,
                          float* dtv) {
  const int64_t n = plan.n, stacked = plan.stacked, qkv_row = plan.qkv_row, y_row = plan.y_row;
  const float* q = qkv + plan.qkv_offset(pair);
  const float *k = q + y_row, *v = k + y_row, *out = dy + plan.y_offset(pair);
  float* dq = dqkv + plan.qkv_offset(pair);
  float *dk = dq + y_row, *dv = dk + y_row, *g = w.first;
  const float* kept = p;
  if (plan.s.dropout > 0) {
    for (int64_t i = 0; i < n; ++i) mask_row(plan, pair, i, p + i * n, w.second + i * n);
    kept = w.second;
  }
  times(plan, w, n, {kept, 1, n}, n, out, y_row, dv, qkv_row, add);
  times_transposed(plan, w, out, y_row, v, qkv_row, n, g);
  if (stacked > 0) {
    for (int64_t i = 0; i < n; ++i) sum_buckets(plan, i, kept + i * n, w.columns, w.buckets + i * stacked);
    times(plan, w, stacked, {w.buckets, 1, stacked}, n, out, y_row, dtv, plan.d, true);
    times_transposed(plan, w, out, y_row, tv, plan.d, stacked, w.looked_up);
  }
  for (int64_t i = 0; i < n; ++i) {
    if (stacked > 0) add_lookups(plan, i, w.looked_up + i * stacked, w.columns, g + i * n);
    score_gradient_row(plan, pair, i, p + i * n, g + i * n);
    if (stacked > 0) sum_buckets(plan, i, g + i * n, w.columns, w.buckets + i * stacked);
  }
  times(plan, w, n, {g, 1, n}, n, q, qkv_row, dk, qkv_row, add);
  times(plan, w, n, {g, n, 1}, n, k, qkv_row, dq, qkv_row, add);
  if (stacked > 0) {
    times(plan, w, n, {w.buckets, stacked, 1}, stacked, tk, plan.d, dq, qkv_row, true);
    times(plan, w, stacked, {w.buckets, 1, stacked}, n, q, qkv_row, dtk, plan.d, true);
  }
}

static void add_table(int64_t n, const float* from, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

void attention_backward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                        const float* value_v, const float* value_h, const float* p, const float* dy, float* dqkv,
                        bool add, float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  const Plan plan(s);
  const int64_t table = plan.stacked * plan.d;
  float* tk = static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(2 * table + 1) * sizeof(float)));
  float* tv = tk + table;
  float* partial =
      static_cast<float*>(scratch(Scratch::partial, static_cast<size_t>(2 * table * plan.chunks + 1) * sizeof(float)));
  stack_tables(plan, key_v, key_h, tk);
  stack_tables(plan, value_v, value_h, tv);
  parallel_for(plan.chunks, [&](int64_t chunk) {
    const Workspace w(plan);
    float* own = partial + chunk * 2 * table;
    memset(own, 0, static_cast<size_t>(2 * table) * sizeof(float));
    for (int64_t pair = chunk * plan.per_chunk; pair < min_of(plan.pairs, (chunk + 1) * plan.per_chunk); ++pair) {
      backward_pair(plan, w, pair, qkv, tk, tv, p + pair * plan.n * plan.n, dy, dqkv, add, own, own + table);
    }
  });
  for (int64_t chunk = 0; chunk < plan.chunks && table > 0; ++chunk) {
    const float* own = partial + chunk * 2 * table;
    const int64_t half = table / 2;
    add_table(half, own, dkey_v);
    add_table(half, own + half, dkey_h);
    add_table(half, own + table, dvalue_v);
    add_table(half, own + table + half, dvalue_h);
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
