// Softmax attention with factorised two-dimensional relative position on tensor cores, forward and backward.
//
// Math. As in attention.cu, with relative position in the form of attention_tiles.cuh: behind keys, values, queries and
// dy stand extra columns, so that one product gives scores with their terms, and one product gives outputs (or dq) and
// bucket sums. Nothing of size N x N goes through memory; the backward pass computes scores again, twice:
//   queries, a warp 16 of them:  over all keys    largest score, sum of exponentials, D_i, W_i;
//                                over all keys    g_ij, dq_i = sum_j g_ij [k_j | E_j], C_i shifted back, dq_i += C_i T
//   keys, a warp 16 of them:     over all queries p~_ij and g_ij transposed, dv_j += p~_ij dy_i, dk_j += g_ij q_i
//   tables, a warp 16 x 16 of them:  C^T q and W^T dy
// Shapes. As in attention.cu; p is neither read nor written. Any N and m; D <= 64, side <= 31, and what a block needs
// of shared memory must exist; the functions return false otherwise.
// Preconditions. As in attention.cu.
// Launch. Blocks of 7 warps, two of them to a multiprocessor, so that one computes while the other loads. Forward: a
// block per (image, head). Backward: a block per kMostBlocks-th part of all (image, head), one after another, which
// adds up its table gradients in device memory of its own (in the L2 cache); a last kernel adds those. A warp's scores
// become the A of the next product in registers (the accumulator's layout is that of A).
//   shared, forward and queries:  keys [chunk, D | E]   values [chunk, D]   tables 2 x [places, D]   strips 7 x [16, places]
//           keys and tables:      queries [chunk, D | A~]   dy [chunk, D | B~]        strips: C, or W, of 112 queries
// At N = 197, D = 64, m = 14 the chunk is everything, 208 rows, and D | E are 96 columns: 105 KiB a block.
//
// Floors for one (image, head) at that size, counted, none measured; H100: 3.35 TB/s, and mma.sync at 0.6 of 990
// TFLOP/s, 6.9 ns for 1,000 of m16n8k16:
//   forward   4,888 mma: scores 2,028, outputs 2,028, tables 832                          34 ns
//             202 KB: q, k, v, y in fp32                                                   60 ns
//   backward 19,700 mma: scores and dp 3 x 4,056, dq 2,028, dk, dv 2,704, W 676, tables 2,080    136 ns
//             353 KB: q, k, v, dy, dq, dk, dv in fp32                                     105 ns
// Activations in bf16 would halve the bytes.
//
// Numerics. Operands of products rounded to bf16: q, k, v, tables, dy, p~ (before its division by the sum, forward), g,
// the terms q . table and dy . table, the bucket sums. Sums, scores, softmax in fp32. No atomics, every sum in an order
// that depends on the shape alone: the same bits always.
#include "cuda/attention_bf16.h"

#include "cuda/attention_tiles.cuh"

namespace entangle::gpu {

namespace {

constexpr int64_t kMostBlocks = 264;  // two to a multiprocessor of an H100
constexpr float kLog2e = 1.44269504f;

struct Tables {
  const float *vertical, *horizontal;
};

// The heads of one image and one head's rows.
struct Sources {
  SourceRows q, k, v;

  __device__ Sources(const TilePlan& plan, const float* qkv, int64_t pair)
      : q(plan, qkv + plan.qkv_offset(pair), plan.qkv_row),
        k(plan, q.data + plan.y_row, plan.qkv_row),
        v(plan, k.data + plan.y_row, plan.qkv_row) {}
};

// Where keys, values and tables lie in shared memory.
template <int kD, int kE>
struct KeyOperands {
  using Layout = Columns<kD, kE>;
  bf16 *keys, *values, *key_table, *value_table;

  __device__ KeyOperands(const TilePlan& plan, bf16* memory)
      : keys(memory),
        values(keys + plan.chunk * Layout::kJoined),
        key_table(values + plan.chunk * Layout::kPlain),
        value_table(key_table + plan.places * Layout::kPlain) {}

  __device__ void stage(const TilePlan& plan, const Sources& from, int first) const {
    stage_rows<kD>(from.k, first, plan.chunk, Layout::kJoined, keys);
    stage_rows<kD>(from.v, first, plan.chunk, Layout::kPlain, values);
    stage_slots<kE>(plan, first, plan.chunk, Layout::kJoined, keys + Layout::kWidth);
  }
  __device__ void stage_tables(const TilePlan& plan, const Tables& key, const Tables& value) const {
    if (kE == 0) return;
    stage_table<kD>(plan, key.vertical, key.horizontal, Layout::kPlain, key_table);
    stage_table<kD>(plan, value.vertical, value.horizontal, Layout::kPlain, value_table);
  }
};

// Calls use(key, offset) for every 16 * kStep keys: `key` the token, `offset` its row in shared memory. The block stages
// chunk after chunk, or once if all keys are one chunk; a warp without a tile only helps with that.
template <int kStep, class Operands, class Use>
__device__ __forceinline__ void for_keys(const TilePlan& plan, const Operands& operands, const Sources& from,
                                         bool staged, bool active, const Use& use) {
  for (int first = 0; first < plan.tiles * kTileRows; first += plan.chunk) {
    if (!staged || plan.chunks() > 1) {
      __syncthreads();  // the last chunk has been read
      operands.stage(plan, from, first);
      __syncthreads();
    }
    const int here = plan.tiles * kTileRows - first < plan.chunk ? plan.tiles * kTileRows - first : plan.chunk;
    for (int offset = 0; offset < here && active; offset += kStep * 16) use(first + offset, offset, here - offset);
  }
}

// Scores of a lane's elements, in units of log 2: keys behind the last are -inf.
template <int kTiles>
__device__ __forceinline__ void scale_scores(const TilePlan& plan, int key, FragmentC (&s)[kTiles]) {
  const float scale = plan.s.scale * kLog2e;
  const int column = key + lane_index() % 4 * 2;
  UNROLL
  for (int n = 0; n < kTiles; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) {
      s[n].value[i] = column + 8 * n + i % 2 < plan.tokens ? s[n].value[i] * scale : -INFINITY;
    }
  }
}

// The running softmax of a lane's two rows: the largest score so far, and this lane's part of the sum of 2^(s - largest).
struct RunningSoftmax {
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};

  // Scores become exponentials; returns by which factors earlier sums have to be multiplied.
  template <int kTiles>
  __device__ __forceinline__ TwoFloats add(FragmentC (&s)[kTiles]) {
    TwoFloats factor;
    UNROLL
    for (int row = 0; row < 2; ++row) {
      float highest = largest[row];
      UNROLL
      for (int n = 0; n < kTiles; ++n) highest = fmaxf(highest, fmaxf(s[n].value[2 * row], s[n].value[2 * row + 1]));
      highest = quad_max(highest);
      factor.value[row] = fast_exp2(largest[row] - highest);
      largest[row] = highest;
      sum[row] *= factor.value[row];
      UNROLL
      for (int n = 0; n < kTiles; ++n) {
        UNROLL
        for (int i = 2 * row; i < 2 * row + 2; ++i) {
          s[n].value[i] = fast_exp2(s[n].value[i] - highest);
          sum[row] += s[n].value[i];
        }
      }
    }
    return factor;
  }
};

template <int kTiles>
__device__ __forceinline__ void rescale(const TwoFloats& factor, FragmentC (&sums)[kTiles]) {
  UNROLL
  for (int n = 0; n < kTiles; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) sums[n].value[i] *= factor.value[i / 2];
  }
}

// p becomes p~ under dropout.
template <int kTiles>
__device__ __forceinline__ void drop_entries(const TilePlan& plan, int64_t pair, int query, int key,
                                             FragmentC (&p)[kTiles]) {
  if (plan.s.dropout <= 0) return;
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int n = 0; n < kTiles; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) {
      p[n].value[i] *= kept_entry(plan, pair, query + g + i / 2 * 8, key + 8 * n + 2 * t + i % 2);
    }
  }
}

__host__ __device__ constexpr int at_least_one(int n) { return n > 0 ? n : 1; }

template <int kD, int kE>
__global__ void __launch_bounds__(kAttentionWarps* kWarp, 2)
    attention_forward_bf16_kernel(TilePlan plan, int operands_count, const float* qkv, const float* key_v,
                                  const float* key_h, const float* value_v, const float* value_h, float* y) {
  using Layout = Columns<kD, kE>;
  constexpr int kStep = 4, kOutputs = 2 * (kD + kE);
  const int64_t pair = blockIdx.x;
  Shared shared;
  const KeyOperands<kD, kE> operands(plan, shared.take<bf16>(operands_count));
  bf16* strip = shared.take<bf16>(kAttentionWarps * kTileRows * plan.strip_pitch);
  strip += warp_index() * kTileRows * plan.strip_pitch;
  const Sources from(plan, qkv, pair);
  const TargetRows to(plan, y + plan.y_offset(pair), plan.y_row, false);
  operands.stage_tables(plan, {key_v, key_h}, {value_v, value_h});
  __syncthreads();
  for (int round = 0; round < plan.tiles; round += kAttentionWarps) {
    const int tile = round + warp_index(), query = tile * kTileRows;
    const bool active = tile < plan.tiles;
    const PositionPair at(plan, query);
    FragmentA rows[kD + kE];
    FragmentC sums[kOutputs] = {};  // outputs, then slots
    RunningSoftmax softmax;
    if (active) {
      load_rows<kD>(from.q, query, rows);
      if (kE > 0) shifted_terms<kD, kE>(plan, at, rows, operands.key_table, strip, rows + kD);
    }
    for_keys<kStep>(plan, operands, from, round > 0, active, [&](int key, int offset, int here) {
      const bf16 *keys = operands.keys + offset * Layout::kJoined, *values = operands.values + offset * Layout::kPlain;
      FragmentC p[2 * kStep] = {};
      UNROLL
      for (int n = 0; n < kStep; ++n) {
        if (16 * n >= here) continue;
        add_dots<kD + kE>(rows, keys + 16 * n * Layout::kJoined, Layout::kJoined, p[2 * n], p[2 * n + 1]);
      }
      scale_scores(plan, key, p);
      rescale(softmax.add(p), sums);
      drop_entries(plan, pair, query, key, p);
      UNROLL
      for (int n = 0; n < kStep; ++n) {
        if (16 * n >= here) continue;
        const FragmentA a = pack_a(p[2 * n], p[2 * n + 1]);
        add_sums<kD>(a, values + 16 * n * Layout::kPlain, Layout::kPlain, sums);
        add_sums<kE>(a, keys + 16 * n * Layout::kJoined + Layout::kWidth, Layout::kJoined, sums + 2 * kD);
      }
    });
    if (!active) continue;
    if (kE > 0) {
      store_slots<kE>(plan, sums + 2 * kD, strip);
      for (int b = 0; b < plan.places; b += 16) {
        add_sums<kD>(bucket_sums(plan, at, b, strip), operands.value_table + b * Layout::kPlain, Layout::kPlain, sums);
      }
    }
    FragmentC out[2 * kD];
    UNROLL
    for (int n = 0; n < 2 * kD; ++n) out[n] = sums[n];
    to.put_tile(query, out, 1.0f / quad_sum(softmax.sum[0]), 1.0f / quad_sum(softmax.sum[1]));
  }
}

// ---------------------------------------------------------------------------------------------------------- backward

// A block's own device memory, written by its queries' part and read by the others.
struct Scratch {
  bf16 *terms, *dterms;  // A~, B~ [16 tiles, 16 kE]
  bf16 *c, *w;           // bucket sums [16 tiles, places]
  static __host__ __device__ int64_t elements(const TilePlan& plan, int slots) {
    return static_cast<int64_t>(plan.tiles) * kTileRows * 2 * (slots + plan.places);
  }
  __device__ Scratch(const TilePlan& plan, int slots, bf16* memory)
      : terms(memory),
        dterms(terms + plan.tiles * kTileRows * slots),
        c(dterms + plan.tiles * kTileRows * slots),
        w(c + plan.tiles * kTileRows * plan.places) {}
};

// A tile of A at row, column of a row-major matrix.
__device__ __forceinline__ void store_a(const FragmentA& a, int row, int column, int pitch, bf16* matrix) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int w = 0; w < 4; ++w) {
    store_word(matrix + (row + g + w % 2 * 8) * pitch + column + 2 * t + w / 2 * 8, a.word[w]);
  }
}

// What the softmax of a row needs to be computed again, for all rows of one head in shared memory: log2 of the sum of
// 2^score, and D. Behind the last query +inf and 0, which makes p and g zero.
struct RowStatistics {
  float *log_sum, *d;
};

// Everything of one (image, head) in the backward pass.
template <int kD, int kE>
struct BackwardPair {
  using Layout = Columns<kD, kE>;
  static constexpr int kSlotTiles = at_least_one(2 * kE);

  const TilePlan& plan;
  int64_t pair;
  KeyOperands<kD, kE> operands;
  bf16 *queries, *dys;  // [chunk, D | A~ or B~], in the same memory as the operands
  bf16 *strips, *strip;
  RowStatistics statistics;
  Sources from;
  SourceRows dy;
  Scratch scratch;

  // s and dp of the rows for 16 keys.
  __device__ __forceinline__ void scores(const FragmentA* rows, const FragmentA* drows, int offset, FragmentC* s,
                                         FragmentC* dp) const {
    const bf16 *keys = operands.keys + offset * Layout::kJoined, *values = operands.values + offset * Layout::kPlain;
    add_dots<kD + kE>(rows, keys, Layout::kJoined, s[0], s[1]);
    add_dots<kD>(drows, values, Layout::kPlain, dp[0], dp[1]);
    add_dots<kE>(drows + kD, keys + Layout::kWidth, Layout::kJoined, dp[0], dp[1]);
  }

  // Loads a tile of queries with their terms, and leaves the terms in the scratch memory for the keys' part.
  __device__ __forceinline__ void load_tile(int query, const PositionPair& at, FragmentA* rows,
                                            FragmentA* drows) const {
    load_rows<kD>(from.q, query, rows);
    load_rows<kD>(dy, query, drows);
    if (kE == 0) return;
    shifted_terms<kD, kE>(plan, at, rows, operands.key_table, strip, rows + kD);
    shifted_terms<kD, kE>(plan, at, drows, operands.value_table, strip, drows + kD);
    UNROLL
    for (int n = 0; n < kE; ++n) {
      store_a(rows[kD + n], query, 16 * n, Layout::kSlots, scratch.terms);
      store_a(drows[kD + n], query, 16 * n, Layout::kSlots, scratch.dterms);
    }
  }

  // The sums over all keys that a row's g needs; W goes to the scratch memory.
  __device__ __forceinline__ void find_statistics(int query, const PositionPair& at, const FragmentA* rows,
                                                  const FragmentA* drows, bool staged, bool active) const {
    constexpr int kStep = 2;
    RunningSoftmax softmax;
    float d[2] = {};
    FragmentC w[kSlotTiles] = {};
    for_keys<kStep>(plan, operands, from, staged, active, [&](int key, int offset, int here) {
      FragmentC p[2 * kStep] = {}, dp[2 * kStep] = {};
      UNROLL
      for (int n = 0; n < kStep; ++n) {
        if (16 * n < here) scores(rows, drows, offset + 16 * n, p + 2 * n, dp + 2 * n);
      }
      scale_scores(plan, key, p);
      const TwoFloats factor = softmax.add(p);
      drop_entries(plan, pair, query, key, p);
      UNROLL
      for (int row = 0; row < 2; ++row) d[row] *= factor.value[row];
      UNROLL
      for (int n = 0; n < 2 * kStep; ++n) {
        UNROLL
        for (int i = 0; i < 4; ++i) d[i / 2] += p[n].value[i] * dp[n].value[i];
      }
      if (kE == 0) return;
      rescale(factor, w);
      UNROLL
      for (int n = 0; n < kStep; ++n) {
        if (16 * n >= here) continue;
        const bf16* slots = operands.keys + (offset + 16 * n) * Layout::kJoined + Layout::kWidth;
        add_sums<kE>(pack_a(p[2 * n], p[2 * n + 1]), slots, Layout::kJoined, w);
      }
    });
    if (!active) return;
    TwoFloats inverse;
    UNROLL
    for (int row = 0; row < 2; ++row) {
      const float sum = quad_sum(softmax.sum[row]), total = quad_sum(d[row]);
      const int i = query + lane_index() / 4 + 8 * row;
      inverse.value[row] = 1.0f / sum;
      if (lane_index() % 4 > 0) continue;
      statistics.log_sum[i] = i < plan.tokens ? softmax.largest[row] + log2f(sum) : INFINITY;
      statistics.d[i] = i < plan.tokens ? total * inverse.value[row] : 0.0f;
    }
    __syncwarp();  // the statistics are read by the whole warp
    if (kE == 0) return;
    rescale(inverse, w);
    store_slots<kE>(plan, w, strip);
    for (int b = 0; b < plan.places; b += 16) {
      store_a(bucket_sums(plan, at, b, strip), query, b, plan.places, scratch.w);
    }
  }

  // Of one element, from its score: p~ and g.
  __device__ __forceinline__ void gradient(float log_sum, float d, int i, int j, float& s, float& dp) const {
    const float p = fast_exp2(s - log_sum);
    s = plan.s.dropout > 0 ? p * kept_entry(plan, pair, i, j) : p;
    dp = plan.s.scale * (s * dp - p * d);
  }

  __device__ __forceinline__ void find_query_gradients(int query, const PositionPair& at, const FragmentA* rows,
                                                       const FragmentA* drows, bool active,
                                                       const TargetRows& dq) const {
    const int g = lane_index() / 4, t = lane_index() % 4;
    float log_sum[2] = {}, d[2] = {};
    UNROLL
    for (int row = 0; row < 2 && active; ++row) {
      log_sum[row] = statistics.log_sum[query + g + 8 * row];
      d[row] = statistics.d[query + g + 8 * row];
    }
    FragmentC sums[2 * (kD + kE)] = {};  // dq, then slots
    for_keys<1>(plan, operands, from, true, active, [&](int key, int offset, int) {
      FragmentC s[2] = {}, dp[2] = {};
      scores(rows, drows, offset, s, dp);
      scale_scores(plan, key, s);
      UNROLL
      for (int n = 0; n < 2; ++n) {
        UNROLL
        for (int i = 0; i < 4; ++i) {
          gradient(log_sum[i / 2], d[i / 2], query + g + i / 2 * 8, key + 8 * n + 2 * t + i % 2, s[n].value[i],
                   dp[n].value[i]);
        }
      }
      add_sums<kD + kE>(pack_a(dp[0], dp[1]), operands.keys + offset * Layout::kJoined, Layout::kJoined, sums);
    });
    if (!active) return;
    if (kE > 0) {
      store_slots<kE>(plan, sums + 2 * kD, strip);
      for (int b = 0; b < plan.places; b += 16) {
        const FragmentA c = bucket_sums(plan, at, b, strip);
        store_a(c, query, b, plan.places, scratch.c);
        add_sums<kD>(c, operands.key_table + b * Layout::kPlain, Layout::kPlain, sums);
      }
    }
    FragmentC out[2 * kD];
    UNROLL
    for (int n = 0; n < 2 * kD; ++n) out[n] = sums[n];
    dq.put_tile(query, out, 1, 1);
  }

  __device__ __forceinline__ void query_part(const TargetRows& dq) const {
    for (int round = 0; round < plan.tiles; round += kAttentionWarps) {
      const int query = (round + warp_index()) * kTileRows;
      const bool active = round + warp_index() < plan.tiles;
      const PositionPair at(plan, query);
      FragmentA rows[kD + kE], drows[kD + kE];
      if (active) load_tile(query, at, rows, drows);
      find_statistics(query, at, rows, drows, round > 0, active);
      find_query_gradients(query, at, rows, drows, active, dq);
    }
  }

  // Queries and dy from `first` on, with the terms that the queries' part left.
  __device__ __forceinline__ void stage_queries(int first) const {
    stage_rows<kD>(from.q, first, plan.chunk, Layout::kJoined, queries);
    stage_rows<kD>(dy, first, plan.chunk, Layout::kJoined, dys);
    constexpr int kWords = at_least_one(Layout::kSlots / 2);
    for (int i = threadIdx.x; i < plan.chunk * kWords * (kE > 0); i += kAttentionWarps * kWarp) {
      const int r = i / kWords, e = i % kWords * 2, at = r * Layout::kJoined + Layout::kWidth + e;
      const int from_row = (first + r) * Layout::kSlots + e;
      const bool exists = first + r < plan.tiles * kTileRows;
      store_word(queries + at, exists ? load_word(scratch.terms + from_row) : 0);
      store_word(dys + at, exists ? load_word(scratch.dterms + from_row) : 0);
    }
  }

  // What 16 queries give to dk and dv of 16 keys.
  __device__ __forceinline__ void add_to_keys(const FragmentA* keys, const FragmentA* values, int key, int query,
                                              int offset, FragmentC* dk, FragmentC* dv) const {
    const int g = lane_index() / 4, t = lane_index() % 4;
    const bf16 *q = queries + offset * Layout::kJoined, *dy_rows = dys + offset * Layout::kJoined;
    FragmentC s[2] = {}, dp[2] = {};
    add_dots<kD + kE>(keys, q, Layout::kJoined, s[0], s[1]);
    add_dots<kD + kE>(values, dy_rows, Layout::kJoined, dp[0], dp[1]);
    UNROLL
    for (int n = 0; n < 2; ++n) {
      UNROLL
      for (int i = 0; i < 4; ++i) {
        const int column = query + 8 * n + 2 * t + i % 2;
        s[n].value[i] *= plan.s.scale * kLog2e;
        gradient(statistics.log_sum[column], statistics.d[column], column, key + g + i / 2 * 8, s[n].value[i],
                 dp[n].value[i]);
      }
    }
    add_sums<kD>(pack_a(s[0], s[1]), dy_rows, Layout::kJoined, dv);
    add_sums<kD>(pack_a(dp[0], dp[1]), q, Layout::kJoined, dk);
  }

  // A tile of keys and values with its slots, as A.
  __device__ __forceinline__ void load_keys(int key, FragmentA* keys, FragmentA* values) const {
    load_rows<kD>(from.k, key, keys);
    load_rows<kD>(from.v, key, values);
    const PositionPair at(plan, key);
    UNROLL
    for (int n = 0; n < kE; ++n) {
      UNROLL
      for (int w = 0; w < 4; ++w) {
        const int e = 16 * n + lane_index() % 4 * 2 + w / 2 * 8;
        keys[kD + n].word[w] = values[kD + n].word[w] = slot_word(plan, w % 2 == 0 ? at.low : at.high, e);
      }
    }
  }

  // Adds sums^T rows over the staged queries, rows [queries, D], to places x D of the block's table gradients.
  __device__ __forceinline__ void add_to_table(const bf16* sums, const bf16* rows, int first, bool add,
                                               float* table) const {
    const int here = plan.tiles * kTileRows - first < plan.chunk ? plan.tiles * kTileRows - first : plan.chunk;
    const int pitch = plan.strip_pitch, most = kAttentionWarps * kTileRows;
    for (int start = 0; start < here; start += most) {
      const int count = here - start < most ? here - start : most;
      __syncthreads();  // the strips have been read
      for (int i = threadIdx.x; i < count * plan.places / 2; i += kAttentionWarps * kWarp) {
        const int r = i / (plan.places / 2), b = i % (plan.places / 2) * 2;
        store_word(strips + r * pitch + b, load_word(sums + (first + start + r) * plan.places + b));
      }
      __syncthreads();
      for (int unit = warp_index(); unit < plan.places / 16 * kD; unit += kAttentionWarps) {
        const int b = unit / kD * 16, column = unit % kD * 16;
        FragmentC sum[2] = {};
        for (int i = 0; i < count; i += 16) {
          const FragmentA a = load_a_transposed(strips + i * pitch + b, pitch);
          add_sums<1>(a, rows + (start + i) * Layout::kJoined + column, Layout::kJoined, sum);
        }
        float* to = table + (b + lane_index() / 4) * Layout::kWidth + column + lane_index() % 4 * 2;
        UNROLL
        for (int n = 0; n < 2; ++n) {
          UNROLL
          for (int i = 0; i < 4; ++i) {
            put(to + i / 2 * 8 * Layout::kWidth + 8 * n + i % 2, sum[n].value[i], add || first + start > 0);
          }
        }
      }
    }
  }

  __device__ __forceinline__ void key_part(const TargetRows& dk, const TargetRows& dv, bool add_tables,
                                           float* tables) const {
    for (int round = 0; round < plan.tiles; round += kAttentionWarps) {
      const int key = (round + warp_index()) * kTileRows;
      const bool active = round + warp_index() < plan.tiles;
      FragmentA keys[kD + kE], values[kD + kE];
      FragmentC key_sums[2 * kD] = {}, value_sums[2 * kD] = {};
      if (active) load_keys(key, keys, values);
      for (int first = 0; first < plan.tiles * kTileRows; first += plan.chunk) {
        if (round == 0 || plan.chunks() > 1) {
          __syncthreads();  // what was in this memory has been read
          stage_queries(first);
          __syncthreads();
        }
        const int here = plan.tiles * kTileRows - first < plan.chunk ? plan.tiles * kTileRows - first : plan.chunk;
        for (int offset = 0; offset < here && active; offset += 16) {
          add_to_keys(keys, values, key, first + offset, offset, key_sums, value_sums);
        }
        if (round > 0 || kE == 0) continue;
        add_to_table(scratch.c, queries, first, add_tables, tables);
        add_to_table(scratch.w, dys, first, add_tables, tables + plan.places * Layout::kWidth);
      }
      if (!active) continue;
      dk.put_tile(key, key_sums, 1, 1);
      dv.put_tile(key, value_sums, 1, 1);
    }
  }
};

// partial [blocks, 2, places, 16 kD]: the block's part of the gradients of the joined tables of keys and of values.
template <int kD, int kE>
__global__ void __launch_bounds__(kAttentionWarps* kWarp, 2)
    attention_backward_bf16_kernel(TilePlan plan, int operands_count, int64_t pairs, int64_t per_block,
                                   const float* qkv, const float* key_v, const float* key_h, const float* value_v,
                                   const float* value_h, const float* dy, float* dqkv, bool add, bf16* scratch,
                                   float* partial) {
  using Layout = Columns<kD, kE>;
  Shared shared;
  bf16* memory = shared.take<bf16>(operands_count);
  bf16* strips = shared.take<bf16>(kAttentionWarps * kTileRows * plan.strip_pitch);
  const RowStatistics statistics = {shared.take<float>(plan.tiles * kTileRows),
                                    shared.take<float>(plan.tiles * kTileRows)};
  float* tables = partial + blockIdx.x * 2 * plan.places * static_cast<int64_t>(Layout::kWidth);
  scratch += blockIdx.x * Scratch::elements(plan, Layout::kSlots);
  const int64_t begin = blockIdx.x * per_block, end = begin + per_block < pairs ? begin + per_block : pairs;
  for (int64_t pair = begin; pair < end; ++pair) {
    const BackwardPair<kD, kE> work = {plan,
                                       pair,
                                       {plan, memory},
                                       memory,
                                       memory + plan.chunk * Layout::kJoined,
                                       strips,
                                       strips + warp_index() * kTileRows * plan.strip_pitch,
                                       statistics,
                                       {plan, qkv, pair},
                                       {plan, dy + plan.y_offset(pair), plan.y_row},
                                       {plan, Layout::kSlots, scratch}};
    float* dq = dqkv + plan.qkv_offset(pair);
    __syncthreads();  // the last pair's queries have been read
    work.operands.stage_tables(plan, {key_v, key_h}, {value_v, value_h});
    __syncthreads();
    work.query_part({plan, dq, plan.qkv_row, add});
    work.key_part({plan, dq + plan.y_row, plan.qkv_row, add}, {plan, dq + 2 * plan.y_row, plan.qkv_row, add},
                  pair > begin, tables);
  }
}

// Adds the blocks' sums, in their order, to the four tables: a lane takes an element of the joined tables, the warps
// take blocks in turn, then their sums meet in shared memory.
__global__ void attention_table_bf16_kernel(TilePlan plan, int64_t blocks, int pitch, const float* partial,
                                            float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  Shared shared;
  float* sums = shared.take<float>(kThreads);
  const int64_t elements = 2 * plan.places * static_cast<int64_t>(pitch);
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarp + lane_index();
  float sum = 0;
  UNROLL_BY(8)
  for (int64_t block = warp_index(); block < blocks; block += kThreads / kWarp) sum += partial[block * elements + i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp_index() > 0) return;
  for (int warp = 1; warp < kThreads / kWarp; ++warp) sum += sums[warp * kWarp + lane_index()];
  const bool key = i < elements / 2;
  const int b = static_cast<int>(i / pitch) - (key ? 0 : plan.places), c = static_cast<int>(i % pitch);
  if (c >= plan.width || b > plan.class_place()) return;
  const int row = b == plan.class_place() ? 0 : (b < plan.span ? b : b - plan.span) + 1 + plan.skip;
  float *vertical = key ? dkey_v : dvalue_v, *horizontal = key ? dkey_h : dvalue_h;
  if (b < plan.span || b == plan.class_place()) vertical[row * plan.width + c] += sum;
  if (b >= plan.span) horizontal[row * plan.width + c] += sum;
}

// -------------------------------------------------------------------------------------------------------------- host

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// A shape with the kernels' sizes: D in steps of 16, slots in steps of 16. Not usable: kD is 0.
struct Fit {
  TilePlan plan;
  int kd, ke;
  int operands_count;  // elements of bf16
  size_t bytes;
};

int64_t operands_of(const TilePlan& plan, int kd, int ke, bool backward) {
  const int64_t joined = 16 * (kd + ke) + 8, plain = 16 * kd + 8;
  const int64_t keys = plan.chunk * (joined + plain) + 2 * plan.places * plain, queries = 2 * plan.chunk * joined;
  return backward && queries > keys ? queries : keys;
}

// The most rows in shared memory at a time that let two blocks share a multiprocessor if all rows fit so, else that a
// block can have.
Fit fit(const AttentionShape& s, bool backward) {
  Fit f = {};
  const bool relative = s.max_relative_position > 0;
  const int64_t slots = relative ? 2 * s.side + 1 : 0;
  if (s.head_dim > 64 || slots > 64) return f;
  TilePlan& plan = f.plan;
  plan.s = s;
  plan.tokens = static_cast<int>(s.tokens);
  plan.tiles = static_cast<int>(padded(s.tokens) / 16);
  plan.width = static_cast<int>(s.head_dim);
  plan.side = static_cast<int>(s.side);
  plan.m = static_cast<int>(at_most(s.side - 1, s.max_relative_position));
  plan.skip = static_cast<int>(s.max_relative_position) - plan.m;
  plan.span = 2 * plan.m + 1;
  plan.places = relative ? static_cast<int>(padded(2 * plan.span + 1)) : 0;
  plan.qkv_row = 3 * s.heads * s.head_dim;
  plan.y_row = s.heads * s.head_dim;
  f.ke = slots == 0 ? 0 : slots <= 32 ? 2 : 4;
  plan.strip_pitch = static_cast<int>(at_least(plan.places, 32 * f.ke)) + 8;
  const int kd = s.head_dim <= 32 ? 2 : 4;
  for (plan.chunk = plan.tiles * 16; plan.chunk > 0; plan.chunk -= 16) {
    const int64_t operands = operands_of(plan, kd, f.ke, backward);
    f.operands_count = static_cast<int>(operands);
    f.bytes = shared_bytes<bf16>(operands) + shared_bytes<bf16>(kAttentionWarps * kTileRows * plan.strip_pitch) +
              (backward ? 2 * shared_bytes<float>(plan.tiles * kTileRows) : 0);
    if (f.bytes > shared_memory_limit()) continue;
    f.kd = kd;
    break;
  }
  return f;
}

// Calls use(D, E) with the sizes as integral constants.
template <class Use>
void with_columns(const Fit& f, const Use& use) {
  const auto with_slots = [&](auto d) {
    if (f.ke == 0) return use(d, std::integral_constant<int, 0>());
    if (f.ke == 2) return use(d, std::integral_constant<int, 2>());
    return use(d, std::integral_constant<int, 4>());
  };
  if (f.kd == 2) return with_slots(std::integral_constant<int, 2>());
  return with_slots(std::integral_constant<int, 4>());
}

}  // namespace

bool attention_forward_bf16(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                            const float* value_v, const float* value_h, float* y) {
  const Fit f = fit(s, false);
  if (f.kd == 0) return false;
  with_columns(f, [&](auto d, auto e) {
    const auto kernel = attention_forward_bf16_kernel<decltype(d)::value, decltype(e)::value>;
    LAUNCH_AS("attention_forward_bf16_kernel", kernel, blocks_for(s.batch * s.heads, 1), kAttentionWarps * kWarp,
              f.bytes, stream(), f.plan, f.operands_count, qkv, key_v, key_h, value_v, value_h, y);
  });
  return true;
}

bool attention_backward_bf16(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                             const float* value_v, const float* value_h, const float* dy, float* dqkv, bool add,
                             float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  const Fit f = fit(s, true);
  if (f.kd == 0) return false;
  const int64_t pairs = s.batch * s.heads, per_block = at_least(1, (pairs + kMostBlocks - 1) / kMostBlocks);
  const int64_t elements = 2 * static_cast<int64_t>(f.plan.places) * 16 * f.kd;
  const unsigned blocks = blocks_for(pairs, per_block);
  if (blocks == 0) return true;
  const Workspace<bf16> scratch(blocks * Scratch::elements(f.plan, 16 * f.ke));
  const Workspace<float> partial(blocks * elements);
  with_columns(f, [&](auto d, auto e) {
    const auto kernel = attention_backward_bf16_kernel<decltype(d)::value, decltype(e)::value>;
    LAUNCH_AS("attention_backward_bf16_kernel", kernel, blocks, kAttentionWarps * kWarp, f.bytes, stream(), f.plan,
              f.operands_count, pairs, per_block, qkv, key_v, key_h, value_v, value_h, dy, dqkv, add, scratch.data(),
              partial.data());
  });
  LAUNCH(attention_table_bf16_kernel, blocks_for(elements, kWarp), kThreads, shared_bytes<float>(kThreads), stream(),
         f.plan, blocks, 16 * f.kd, partial.data(), dkey_v, dkey_h, dvalue_v, dvalue_h);
  return true;
}

}  // namespace entangle::gpu
