// Softmax attention with factorised two-dimensional relative position, forward and backward, fp32.
//
// Math. Tokens: 0 the class token, 1 + row*side + col a patch. v(i, j) = clamp(row_j - row_i, -m, m) + m + 1, h
// likewise on columns, both 0 for a pair with the class token.
//   s_ij = scale (q_i . k_j + q_i . key_v[v] + q_i . key_h[h]),  p = softmax_j(s),  p~ = p, or masked by dropout
//   y_i = sum_j p~_ij v_j + W_i value,  W_i[b] = sum of p~_ij over the keys j in bucket b
//   dp~_ij = dy_i . v_j + (dy_i . value_v[v] + dy_i . value_h[h]),  D_i = sum_j p~_ij dp~_ij
//   g_ij = scale (p~_ij dp~_ij - p_ij D_i),  C_i[b] = sum of g_ij over bucket b
//   dq_i = sum_j g_ij k_j + C_i key,  dk_j = sum_i g_ij q_i,  dv_j = sum_i p~_ij dy_i
//   d key[b] = sum_i C_i[b] q_i,  d value[b] = sum_i W_i[b] dy_i, over all images and heads
// Shapes. qkv, dqkv [B, N, 3, H, D]; y, dy [B, N, H, D]; p [B, H, N, row], row = attention_row(N), zeros behind N;
// tables and their gradients [R, D], R = 2m + 2, null when m = 0. Any grid, any m, any D.
// Preconditions. Table gradients hold gradients; dqkv does when `add`. p may be null: forward it is not kept, backward
// the forward kernel writes it again.
// Launch. A block of kWarps warps per (image, head) walks the queries kRows*kWarps at a time; warp w owns kRows of
// them, so their rows of scores are touched by one warp only. Keys, values and tables pass through a tile of shared
// memory:
//
//   shared:  queries [Q, D]   scores [Q, row]   terms [Q, 2R]   tile [32 keys, D]         Q = kRows*kWarps
//            backward also    dy [Q, D]   g [Q, row]   W, C [Q, 2R]
//   score of lane j:      q (broadcast) . key j of the tile; kRows queries share each load of a key
//   output of lane d:     sum over keys of p (broadcast) * value[key][d]
//
// kRows is the largest of 4, 2, 1 whose shared memory the device has. dk and dv are added up in device memory from one
// group of queries to the next: the block alone touches them.
// Numerics. fp32. The largest score is subtracted before any exponential. A NaN reaches its row, since it enters the
// sum.
// No atomics: table gradients are summed by (image, head), then over those as in row_sums.cuh. The same bits always.
#include "cuda/attention_bf16.h"
#include "cuda/row_sums.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int kWarps = 8, kTile = 32;

// One (image, head) of the batch.
struct Plan {
  AttentionShape s;
  int tokens, row, width, side, m, half;  // half = R: rows of one table; two tables side by side make a row of terms
  int64_t qkv_row, y_row;

  __host__ __device__ explicit Plan(const AttentionShape& shape)
      : s(shape),
        tokens(static_cast<int>(shape.tokens)),
        row(static_cast<int>(attention_row(shape.tokens))),
        width(static_cast<int>(shape.head_dim)),
        side(static_cast<int>(shape.side)),
        m(static_cast<int>(shape.max_relative_position)),
        half(m > 0 ? 2 * m + 2 : 0),
        qkv_row(3 * shape.heads * shape.head_dim),
        y_row(shape.heads * shape.head_dim) {}

  __host__ __device__ int tile_pitch() const { return (width > kTile ? width : kTile) + 1; }  // odd for even widths
  __device__ int64_t qkv_offset(int64_t pair) const {
    return pair / s.heads * tokens * qkv_row + pair % s.heads * width;
  }
  __device__ int64_t y_offset(int64_t pair) const { return pair / s.heads * tokens * y_row + pair % s.heads * width; }
  __device__ int bucket(int distance) const { return (distance < -m ? -m : distance > m ? m : distance) + m + 1; }
};

size_t forward_shared_bytes(const Plan& plan, int queries) {
  return shared_bytes<float>(queries * plan.width) + shared_bytes<float>(queries * plan.row) +
         shared_bytes<float>(queries * 2 * plan.half) + shared_bytes<float>(kTile * plan.tile_pitch());
}

size_t backward_shared_bytes(const Plan& plan, int queries) {
  return 2 * shared_bytes<float>(queries * plan.width) + 2 * shared_bytes<float>(queries * plan.row) +
         3 * shared_bytes<float>(queries * 2 * plan.half) + shared_bytes<float>(kTile * plan.tile_pitch());
}

// to[r, c] = rows[first + r, c] for c < width and `most` rows, zeros from row `count` on; by the block.
__device__ inline void load_rows(const float* rows, int64_t stride, int first, int count, int width, int most,
                                 int pitch, float* to) {
  walk<8>(
      static_cast<int>(threadIdx.x), most * width, kWarps * kWarp,
      [=](int i) { return first + i / width < count ? rows[(first + i / width) * stride + i % width] : 0.0f; },
      [=](int i, float value) { to[i / width * pitch + i % width] = value; });
}
__device__ inline void load_tile(const float* rows, int64_t stride, int first, int count, int width, int pitch,
                                 float* tile) {
  load_rows(rows, stride, first, count, width, kTile, pitch, tile);
}
template <int kRows>
__device__ void load_queries(const Plan& plan, const float* rows, int64_t stride, int first, float* to) {
  load_rows(rows, stride, first, plan.tokens, plan.width, kRows * kWarps, plan.width, to);
}

// out[i, c] = queries[i] . rows[c] for the block's queries and c < count; a lane takes a row of the tile.
template <int kRows>
__device__ void dot_rows(const Plan& plan, const float* queries, const float* rows, int64_t stride, int count,
                         float* tile, float* out, int pitch) {
  const float* own = queries + warp_index() * kRows * plan.width;
  const float* other = tile + lane_index() * plan.tile_pitch();
  for (int first = 0; first < count; first += kTile) {
    __syncthreads();  // the tile has been read
    load_tile(rows, stride, first, count, plan.width, plan.tile_pitch(), tile);
    __syncthreads();
    float sum[kRows] = {};
    for (int d = 0; d < plan.width; ++d) {
      for (int r = 0; r < kRows; ++r) sum[r] += own[r * plan.width + d] * other[d];
    }
    if (first + lane_index() >= count) continue;
    for (int r = 0; r < kRows; ++r) out[(warp_index() * kRows + r) * pitch + first + lane_index()] = sum[r];
  }
  __syncwarp();  // a warp goes on with rows that its lanes wrote
}

// sum[r] += sum over c < count of factors[i, c] rows[c, d] for the warp's queries i and d = column + lane.
template <int kRows>
__device__ void sum_rows(const Plan& plan, const float* factors, int pitch, const float* rows, int64_t stride,
                         int count, int column, float* tile, float (&sum)[kRows]) {
  const float* own = factors + warp_index() * kRows * pitch;
  const int columns = plan.width - column < kWarp ? plan.width - column : kWarp;
  for (int first = 0; first < count; first += kTile) {
    __syncthreads();  // the tile has been read, the factors are written
    load_tile(rows + column, stride, first, count, columns, plan.tile_pitch(), tile);
    __syncthreads();
    const int rows_here = count - first < kTile ? count - first : kTile;
    for (int c = 0; c < rows_here && lane_index() < columns; ++c) {
      const float value = tile[c * plan.tile_pitch() + lane_index()];
      for (int r = 0; r < kRows; ++r) sum[r] += own[r * pitch + first + c] * value;
    }
  }
}

// out[c, d] = or += sum over the block's queries i of factors[i, c] queries[i, d], for c < count: four rows c to a warp
// at a time. `pitch` is a multiple of four.
template <int kRows>
__device__ void add_outer(const Plan& plan, const float* factors, int pitch, int count, const float* queries,
                          float* out, int64_t stride, bool add) {
  for (int c = warp_index() * 4; c < count; c += kWarps * 4) {
    for (int d = lane_index(); d < plan.width; d += kWarp) {
      float sum[4] = {};
      for (int i = 0; i < kRows * kWarps; ++i) {
        const float value = queries[i * plan.width + d];
        for (int k = 0; k < 4; ++k) sum[k] += factors[i * pitch + c + k] * value;
      }
      float* const to = out + c * stride + d;
      walk<4>(
          0, count - c < 4 ? count - c : 4, 1, [=](int k) { return add ? to[k * stride] : 0.0f; },
          [&](int k, float before) { to[k * stride] = before + sum[k]; });
    }
  }
}

// The sum of the two table terms of query i for key j.
__device__ inline float lookup(const Plan& plan, const float* terms, int i, int j) {
  if (i == 0 || j == 0) return terms[0] + terms[plan.half];
  const int vertical = (j - 1) / plan.side - (i - 1) / plan.side,
            horizontal = (j - 1) % plan.side - (i - 1) % plan.side;
  return terms[plan.bucket(vertical)] + terms[plan.half + plan.bucket(horizontal)];
}

// Grid rows (or columns) whose distance from `from` lies in a bucket: first..last, empty when last < first.
struct Range {
  int first, last;
};
__device__ inline Range range_of(const Plan& plan, int bucket, int from) {
  const int distance = bucket - plan.m - 1;
  Range range = {from + distance, from + distance};
  if (distance == -plan.m) range.first = 0;
  if (distance == plan.m) range.last = plan.side - 1;
  return {range.first < 0 ? 0 : range.first, range.last < plan.side ? range.last : plan.side - 1};
}

// sums[b] = sum of values[j] over the keys in bucket b of query i, vertical then horizontal; a lane takes a bucket.
__device__ inline void sum_buckets(const Plan& plan, int i, const float* values, float* sums) {
  const int row = (i - 1) / plan.side, column = (i - 1) % plan.side;
  for (int b = lane_index(); b < 2 * plan.half; b += kWarp) {
    const bool vertical = b < plan.half;
    const int bucket = vertical ? b : b - plan.half;
    Range rows = {0, plan.side - 1}, columns = rows;
    float sum = bucket == 0 ? values[0] : 0.0f;
    if (i > 0 && bucket > 0) (vertical ? rows : columns) = range_of(plan, bucket, vertical ? row : column);
    if ((i > 0) != (bucket > 0)) rows.last = -1;  // a patch has no patch in bucket 0, the class token has all of them
    for (int r = rows.first; r <= rows.last; ++r) {
      for (int c = columns.first; c <= columns.last; ++c) sum += values[1 + r * plan.side + c];
    }
    sums[b] = sum;
  }
}

// 1 / (1 - rate) where entry (i, j) of p survives dropout, else 0.
__device__ inline float kept(const Plan& plan, int64_t pair, int i, int j) {
  if (plan.s.dropout <= 0) return 1.0f;
  const uint64_t index = attention_mask_index(plan.s, pair, i) + static_cast<uint64_t>(j);
  return rng_uniform(plan.s.key, index) >= plan.s.dropout ? 1.0f / (1.0f - plan.s.dropout) : 0.0f;
}

// By one warp: scores of query i become p~, and p goes to `p` when it is kept.
__device__ inline void softmax_row(const Plan& plan, int64_t pair, int i, float* scores, const float* terms, float* p) {
  float largest = -INFINITY;
  for (int j = lane_index(); j < plan.tokens; j += kWarp) {
    const float score = plan.s.scale * (plan.half > 0 ? scores[j] + lookup(plan, terms, i, j) : scores[j]);
    scores[j] = score;
    largest = fmaxf(largest, score);
  }
  largest = warp_max(largest);
  float sum = 0;
  for (int j = lane_index(); j < plan.tokens; j += kWarp) {
    scores[j] = expf(scores[j] - largest);
    sum += scores[j];
  }
  const float inverse = 1.0f / warp_sum(sum);
  for (int j = lane_index(); j < plan.row; j += kWarp) {
    const float value = j < plan.tokens ? scores[j] * inverse : 0.0f;
    if (p != nullptr) p[(pair * plan.tokens + i) * plan.row + j] = value;
    scores[j] = j < plan.tokens ? value * kept(plan, pair, i, j) : 0.0f;
  }
  __syncwarp();
}

template <int kRows>
__global__ void attention_forward_kernel(AttentionShape s, const float* qkv, const float* key_v, const float* key_h,
                                         const float* value_v, const float* value_h, float* y, float* p) {
  const Plan plan(s);
  const int64_t pair = blockIdx.x;
  const float *q = qkv + plan.qkv_offset(pair), *k = q + plan.y_row, *v = k + plan.y_row;
  float* out = y + plan.y_offset(pair);
  const int terms_row = 2 * plan.half;
  Shared shared;
  float* queries = shared.take<float>(kRows * kWarps * plan.width);
  float* scores = shared.take<float>(kRows * kWarps * plan.row);
  float* terms = shared.take<float>(kRows * kWarps * terms_row);  // q . tables, then bucket sums
  float* tile = shared.take<float>(kTile * plan.tile_pitch());
  for (int first = 0; first < plan.tokens; first += kRows * kWarps) {
    __syncthreads();
    load_queries<kRows>(plan, q, plan.qkv_row, first, queries);
    dot_rows<kRows>(plan, queries, k, plan.qkv_row, plan.tokens, tile, scores, plan.row);
    dot_rows<kRows>(plan, queries, key_v, plan.width, plan.half, tile, terms, terms_row);
    dot_rows<kRows>(plan, queries, key_h, plan.width, plan.half, tile, terms + plan.half, terms_row);
    for (int i = warp_index() * kRows; i < (warp_index() + 1) * kRows; ++i) {
      if (first + i >= plan.tokens) break;
      softmax_row(plan, pair, first + i, scores + i * plan.row, terms + i * terms_row, p);
      sum_buckets(plan, first + i, scores + i * plan.row, terms + i * terms_row);
    }
    for (int column = 0; column < plan.width; column += kWarp) {
      float sum[kRows] = {};
      sum_rows<kRows>(plan, scores, plan.row, v, plan.qkv_row, plan.tokens, column, tile, sum);
      sum_rows<kRows>(plan, terms, terms_row, value_v, plan.width, plan.half, column, tile, sum);
      sum_rows<kRows>(plan, terms + plan.half, terms_row, value_h, plan.width, plan.half, column, tile, sum);
      const int d = column + lane_index(), i = first + warp_index() * kRows;
      for (int r = 0; r < kRows && d < plan.width && i + r < plan.tokens; ++r) out[(i + r) * plan.y_row + d] = sum[r];
    }
  }
}

// By one warp: row i of dp becomes g, with p from device memory and p~ from shared; zeros behind N and for queries
// behind N.
__device__ inline void score_gradient_row(const Plan& plan, int64_t pair, int i, const float* p, const float* terms,
                                          float* masked, float* g) {
  const float* own = p + (pair * plan.tokens + i) * plan.row;
  float sum = 0;
  for (int j = lane_index(); j < plan.row; j += kWarp) {
    const bool inside = i < plan.tokens && j < plan.tokens;
    masked[j] = inside ? own[j] * kept(plan, pair, i, j) : 0.0f;
    g[j] = !inside ? 0.0f : plan.half > 0 ? g[j] + lookup(plan, terms, i, j) : g[j];
    sum += masked[j] * g[j];
  }
  sum = warp_sum(sum);
  for (int j = lane_index(); j < plan.row; j += kWarp) {
    const bool inside = i < plan.tokens && j < plan.tokens;
    g[j] = inside ? plan.s.scale * (masked[j] * g[j] - own[j] * sum) : 0.0f;
  }
  __syncwarp();
}

// Adds what one group of queries gives to dk, dv and the block's own part of the table gradients.
struct OuterTargets {
  float *dk, *dv, *dkey, *dvalue;
};
template <int kRows>
__device__ void add_outer_products(const Plan& plan, const float* queries, const float* dys, const float* masked,
                                   const float* g, const float* w, const float* c, const OuterTargets& to,
                                   bool add_keys, bool add_tables) {
  const int terms_row = 2 * plan.half;
  add_outer<kRows>(plan, g, plan.row, plan.tokens, queries, to.dk, plan.qkv_row, add_keys);
  add_outer<kRows>(plan, masked, plan.row, plan.tokens, dys, to.dv, plan.qkv_row, add_keys);
  add_outer<kRows>(plan, c, terms_row, terms_row, queries, to.dkey, plan.width, add_tables);
  add_outer<kRows>(plan, w, terms_row, terms_row, dys, to.dvalue, plan.width, add_tables);
}

// partial [B*H, 4, R, D]: this block's part of the gradients of key_v, key_h, value_v, value_h.
template <int kRows>
__global__ void attention_backward_kernel(AttentionShape s, const float* qkv, const float* key_v, const float* key_h,
                                          const float* value_v, const float* value_h, const float* p, const float* dy,
                                          float* dqkv, bool add, float* partial) {
  constexpr int kQueries = kRows * kWarps;
  const Plan plan(s);
  const int64_t pair = blockIdx.x;
  const float *q = qkv + plan.qkv_offset(pair), *k = q + plan.y_row, *v = k + plan.y_row;
  float *dq = dqkv + plan.qkv_offset(pair), *dk = dq + plan.y_row, *dv = dk + plan.y_row;
  const int terms_row = 2 * plan.half, table = plan.half * plan.width;
  float *dkey = partial + pair * 4 * table, *dvalue = dkey + 2 * table;
  Shared shared;
  float *queries = shared.take<float>(kQueries * plan.width), *dys = shared.take<float>(kQueries * plan.width);
  float *masked = shared.take<float>(kQueries * plan.row), *g = shared.take<float>(kQueries * plan.row);
  float *terms = shared.take<float>(kQueries * terms_row), *w = shared.take<float>(kQueries * terms_row);
  float *c = shared.take<float>(kQueries * terms_row), *tile = shared.take<float>(kTile * plan.tile_pitch());
  for (int first = 0; first < plan.tokens; first += kQueries) {
    __syncthreads();
    load_queries<kRows>(plan, q, plan.qkv_row, first, queries);
    load_queries<kRows>(plan, dy + plan.y_offset(pair), plan.y_row, first, dys);
    dot_rows<kRows>(plan, dys, v, plan.qkv_row, plan.tokens, tile, g, plan.row);
    dot_rows<kRows>(plan, dys, value_v, plan.width, plan.half, tile, terms, terms_row);
    dot_rows<kRows>(plan, dys, value_h, plan.width, plan.half, tile, terms + plan.half, terms_row);
    for (int i = warp_index() * kRows; i < (warp_index() + 1) * kRows; ++i) {
      score_gradient_row(plan, pair, first + i, p, terms + i * terms_row, masked + i * plan.row, g + i * plan.row);
      sum_buckets(plan, first + i, masked + i * plan.row, w + i * terms_row);
      sum_buckets(plan, first + i, g + i * plan.row, c + i * terms_row);
    }
    for (int column = 0; column < plan.width; column += kWarp) {
      float sum[kRows] = {};
      sum_rows<kRows>(plan, g, plan.row, k, plan.qkv_row, plan.tokens, column, tile, sum);
      sum_rows<kRows>(plan, c, terms_row, key_v, plan.width, plan.half, column, tile, sum);
      sum_rows<kRows>(plan, c + plan.half, terms_row, key_h, plan.width, plan.half, column, tile, sum);
      const int d = column + lane_index(), i = first + warp_index() * kRows;
      for (int r = 0; r < kRows && d < plan.width && i + r < plan.tokens; ++r) {
        put(dq + (i + r) * plan.qkv_row + d, sum[r], add);
      }
    }
    add_outer_products<kRows>(plan, queries, dys, masked, g, w, c, {dk, dv, dkey, dvalue}, add || first > 0, first > 0);
  }
}

// The sums of the columns of `partial` [pairs, 4 * table], to the four tables.
__global__ void attention_table_kernel(RowTiles tiles, ColumnSums sums, int64_t table, const float* partial,
                                       float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  for_columns<8>(
      tiles, blockIdx.x, sums, [=](int64_t pair, int64_t i) { return partial[pair * tiles.width + i]; },
      [](int64_t, int64_t, float value) { return value; },
      [=](int64_t i, float sum) {
        float* to = i < table ? dkey_v : i < 2 * table ? dkey_h : i < 3 * table ? dvalue_v : dvalue_h;
        to[i % table] += sum;
      });
}

// Calls launch(rows) with the largest kRows whose shared memory the device has.
template <class SharedBytes, class Launch>
void with_rows(const Plan& plan, const SharedBytes& bytes, const Launch& launch) {
  for (const int rows : {4, 2, 1}) {
    if (bytes(plan, rows * kWarps) <= shared_memory_limit()) return launch(rows, bytes(plan, rows * kWarps));
  }
  RAISE("attention: ", plan.tokens, " tokens of width ", plan.width, " need ", bytes(plan, kWarps),
        " bytes of shared memory, this GPU has ", shared_memory_limit(), "; use larger patches");
}

}  // namespace

void attention_forward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                       const float* value_v, const float* value_h, float* y, float* p) {
  if (s.precision == Precision::bf16 && p == nullptr &&
      attention_forward_bf16(s, qkv, key_v, key_h, value_v, value_h, y)) {
    return;
  }
  with_rows(Plan(s), forward_shared_bytes, [&](int rows, size_t bytes) {
    const auto kernel = rows == 4   ? attention_forward_kernel<4>
                        : rows == 2 ? attention_forward_kernel<2>
                                    : attention_forward_kernel<1>;
    LAUNCH_AS("attention_forward_kernel", kernel, blocks_for(s.batch * s.heads, 1), kWarps * kWarp, bytes, stream(), s,
              qkv, key_v, key_h, value_v, value_h, y, p);
  });
}

void attention_backward(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                        const float* value_v, const float* value_h, const float* p, const float* dy, float* dqkv,
                        bool add, float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  if (s.precision == Precision::bf16 && p == nullptr &&
      attention_backward_bf16(s, qkv, key_v, key_h, value_v, value_h, dy, dqkv, add, dkey_v, dkey_h, dvalue_v,
                              dvalue_h)) {
    return;
  }
  if (p == nullptr) {
    const Workspace<float> again(attention_scores(s)), unused(attention_values(s));
    attention_forward(s, qkv, key_v, key_h, value_v, value_h, unused.data(), again.data());
    return attention_backward(s, qkv, key_v, key_h, value_v, value_h, again.data(), dy, dqkv, add, dkey_v, dkey_h,
                              dvalue_v, dvalue_h);
  }
  const Plan plan(s);
  const int64_t pairs = s.batch * s.heads, table = static_cast<int64_t>(plan.half) * plan.width;
  const Workspace<float> partial(pairs * 4 * table);
  with_rows(plan, backward_shared_bytes, [&](int rows, size_t bytes) {
    const auto kernel = rows == 4   ? attention_backward_kernel<4>
                        : rows == 2 ? attention_backward_kernel<2>
                                    : attention_backward_kernel<1>;
    LAUNCH_AS("attention_backward_kernel", kernel, blocks_for(pairs, 1), kWarps * kWarp, bytes, stream(), s, qkv, key_v,
              key_h, value_v, value_h, p, dy, dqkv, add, partial.data());
  });
  const RowTiles tiles(pairs, 4 * table);
  const Workspace<float> sums(tiles.places());
  LAUNCH(attention_table_kernel, blocks_for(tiles.blocks(), 1), kThreads, for_columns_bytes(), stream(), tiles,
         ColumnSums(tiles, sums.data(), arrivals(tiles.counts())), table, partial.data(), dkey_v, dkey_h, dvalue_v,
         dvalue_h);
}

}  // namespace entangle::gpu
