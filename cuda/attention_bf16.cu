// Softmax attention with factorised two-dimensional relative position on tensor cores, forward and backward.
//
// Math. As in attention.cu, with relative position in the form of attention_tiles.cuh: behind keys, values, queries and
// dy stand extra columns, so that one product gives scores with their terms, and one product gives outputs (or dq) and
// bucket sums. Nothing of size N x N goes through memory; the backward pass computes scores again, twice:
//   queries, a warp 16 of them:  over all keys    largest score, sum of exponentials, D_i, W_i;
//                                over all keys    g_ij, dq_i = sum_j g_ij [k_j | E_j], C_i shifted back, dq_i += C_i T
//   tables, a warp 16 x 16 of them:  C^T q and W^T dy
//   keys, a warp 16 of them:     over all queries p~_ij and g_ij transposed, dv_j += p~_ij dy_i, dk_j += g_ij q_i
// Shapes. As in attention.cu; p is neither read nor written. Any N and m; D <= 64, side <= 31, and what a block needs
// of shared memory must exist; the functions return false otherwise.
// Preconditions. As in attention.cu.
// Launch. Blocks of 4 warps, two of them to a multiprocessor, so that one computes while the other loads; 255 registers
// a thread, since a warp keeps a tile's sums and its operands. Forward: a block per (image, head). Backward: a block per
// kMostBlocks-th part of all (image, head), one after another, which adds up its table gradients in device memory of its
// own (in the L2 cache); a last kernel adds those. A warp's scores become the A of the next product in registers, as
// the accumulator's layout is that of A.
//   shared, forward and queries:  keys [chunk, D | E]   values [chunk, D]   tables 2 x [places, D]   strips 4 x [16, places]
//           keys and tables:      queries [chunk, D | A~]   dy [chunk, D | B~]       strips: C and W, then keys
//           backward also         log-sum and D of every query
// The chunk is all rows where a block can have them (kChunked is false), else as many as it can have.
// At N = 197, D = 64, m = 14 it is all 208 rows, D | E are 96 columns, and a block has 99 or 101 KiB.
//
// Floors for one (image, head) at that size, counted, none measured; H100: 3.35 TB/s, and mma.sync at 0.6 of 990
// TFLOP/s, 6.9 ns for 1,000 of m16n8k16 (4,096 FLOP each):
//   forward    4,888 mma: scores 2,028, outputs and bucket sums 2,028, tables 832                      34 ns
//              202 KB: q, k, v, y in fp32                                                              60 ns
//   backward  19,656 mma: scores and dp 3 x 4,056, dq and C 2,028, dk and dv 2,704, W 676, tables 2,080  136 ns
//              353 KB: q, k, v, dy, dq, dk, dv in fp32                                                105 ns
// and through the L2 cache q, k, v, dy again, and 80 KB of terms and bucket sums out and in. Activations in bf16 would
// halve the bytes.
//
// The file is long because both passes stand in it whole: they share the operands' layout, the walk over tiles and the
// softmax of a quad, and none of that has another user.
//
// Numerics. Operands of products rounded to bf16: q, k, v, tables, dy, p~ (before its division by the sum, forward), g,
// the terms q . table and dy . table, the bucket sums. Sums, scores, softmax in fp32. No atomics, every sum in an order
// that depends on the shape alone: the same bits always.
#include "cuda/attention_bf16.h"

#include <type_traits>

#include "cuda/attention_tiles.cuh"

namespace entangle::gpu {

namespace {

constexpr int64_t kMostBlocks = 264;  // two to a multiprocessor of an H100
constexpr float kLog2e = 1.44269504f;

struct Tables {
  const float *vertical, *horizontal;
};

// Queries, keys and values of one (image, head).
struct Sources {
  const TilePlan& plan;
  const float* data;

  __device__ SourceRows part(int i) const { return {plan, data + i * plan.y_row, plan.qkv_row, plan.aligned_qkv}; }
  __device__ SourceRows q() const { return part(0); }
  __device__ SourceRows k() const { return part(1); }
  __device__ SourceRows v() const { return part(2); }
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
    stage_rows<kD>(from.k(), first, plan.chunk, Layout::kJoined, keys);
    stage_rows<kD>(from.v(), first, plan.chunk, Layout::kPlain, values);
    stage_slots<kE>(plan, first, plan.chunk, Layout::kJoined, keys + Layout::kWidth);
  }
  __device__ void stage_tables(const TilePlan& plan, const Tables& key, const Tables& value) const {
    if (kE == 0) return;
    stage_table<kD>(plan, key.vertical, key.horizontal, Layout::kPlain, key_table);
    stage_table<kD>(plan, value.vertical, value.horizontal, Layout::kPlain, value_table);
  }
};

// Calls use(key, offset, left) for every 16 * kStep keys: `key` the token, `offset` its row in shared memory, `left` the
// rows from there on. All keys are in shared memory; or, kChunked, the block stages chunk after chunk, and a warp
// without a tile only helps with that.
template <int kStep, bool kChunked, class Operands, class Use>
__device__ __forceinline__ void for_keys(const TilePlan& plan, const Operands& operands, const Sources& from,
                                         bool active, const Use& use) {
  const int rows = plan.tiles * kTileRows;
  for (int first = 0; first < rows; first += plan.chunk) {
    if (kChunked) {
      __syncthreads();  // the last chunk has been read
      operands.stage(plan, from, first);
      __syncthreads();
    }
    const int here = rows - first < plan.chunk ? rows - first : plan.chunk;
    UNROLL_BY(1)
    for (int offset = 0; offset < here && active; offset += kStep * 16) use(first + offset, offset, here - offset);
    if (!kChunked) break;  // known to the compiler, which need not keep sums across a loop
  }
}

// Scores of a lane's elements, in units of log 2; -inf from key `end` on.
template <int kTiles>
__device__ __forceinline__ void scale_scores(const TilePlan& plan, int key, int end, FragmentC (&s)[kTiles]) {
  const float scale = plan.s.scale * kLog2e;
  const int column = key + lane_index() % 4 * 2;
  UNROLL
  for (int n = 0; n < kTiles; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) {
      s[n].value[i] = column + 8 * n + i % 2 < end ? s[n].value[i] * scale : -INFINITY;
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
  // Rare after the first keys: skipped when no row of the warp has a new largest score.
  if (!__any_sync(kAllLanes, factor.value[0] != 1.0f || factor.value[1] != 1.0f)) return;
  UNROLL
  for (int n = 0; n < kTiles; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) sums[n].value[i] *= factor.value[i / 2];
  }
}

// Two tiles of p become p~ under dropout, without its factor.
__device__ __forceinline__ void mask_tiles(unsigned bits, FragmentC* p) {
  UNROLL
  for (int n = 0; n < 2; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) p[n].value[i] = masked(bits, n, i, p[n].value[i]);
  }
}

__host__ __device__ constexpr int at_least_one(int n) { return n > 0 ? n : 1; }

template <int kD, int kE, bool kChunked>
__global__ void __launch_bounds__(kAttentionWarps* kWarp, 2)
    attention_forward_bf16_kernel(const __grid_constant__ TilePlan plan, int operands_count, const float* qkv,
                                  const float* key_v, const float* key_h, const float* value_v, const float* value_h,
                                  float* y) {
  using Layout = Columns<kD, kE>;
  constexpr int kStep = 2;
  const int64_t pair = blockIdx.x;
  Shared shared;
  const KeyOperands<kD, kE> operands(plan, shared.take<bf16>(operands_count));
  bf16* strip = shared.take<bf16>(kAttentionWarps * kTileRows * plan.strip_pitch);
  strip += warp_index() * kTileRows * plan.strip_pitch;
  const Sources from = {plan, qkv + plan.qkv_offset(pair)};
  prefetch_rows(from.q());
  operands.stage_tables(plan, {key_v, key_h}, {value_v, value_h});
  if (!kChunked) operands.stage(plan, from, 0);
  __syncthreads();
  UNROLL_BY(1)
  for (int round = 0; round < plan.tiles; round += kAttentionWarps) {
    const int query = (round + warp_index()) * kTileRows;
    const bool active = round + warp_index() < plan.tiles;
    FragmentA rows[kD + kE];
    FragmentC sums[2 * kD] = {}, slots[at_least_one(2 * kE)] = {};
    RunningSoftmax softmax;
    if (active) {
      load_rows<kD>(from.q(), query, rows);
      if (kE > 0) shifted_terms<kD, kE>(plan, query, rows, operands.key_table, strip, rows + kD);
    }
    for_keys<kStep, kChunked>(plan, operands, from, active, [&](int key, int offset, int left) {
      const bf16 *keys = operands.keys + offset * Layout::kJoined, *values = operands.values + offset * Layout::kPlain;
      FragmentC p[2 * kStep] = {};
      UNROLL
      for (int n = 0; n < kStep; ++n) {
        if (16 * n >= left) continue;
        add_dots<kD + kE>(rows, keys + 16 * n * Layout::kJoined, Layout::kJoined, p[2 * n], p[2 * n + 1]);
      }
      // Behind what is in shared memory, too: a chunk need not be whole steps.
      scale_scores(plan, key, key + left < plan.tokens ? key + left : plan.tokens, p);
      const TwoFloats factor = softmax.add(p);
      rescale(factor, sums);
      if (kE > 0) rescale(factor, slots);
      UNROLL
      for (int n = 0; n < kStep; ++n) {
        if (16 * n >= left) continue;
        mask_tiles(kept_bits(plan, pair, query, key + 16 * n, false), p + 2 * n);
        const FragmentA a = pack_a(p[2 * n], p[2 * n + 1]);
        add_sums<kD>(a, values + 16 * n * Layout::kPlain, Layout::kPlain, sums);
        add_sums<kE>(a, keys + 16 * n * Layout::kJoined + Layout::kWidth, Layout::kJoined, slots);
      }
    });
    if (!active) continue;
    if (kE > 0) {
      store_slots<kE>(plan, slots, strip);
      const PositionPair at(plan, query);
      UNROLL_BY(1)
      for (int b = 0; b < plan.places; b += 16) {
        add_sums<kD>(bucket_sums(plan, at, b, strip), operands.value_table + b * Layout::kPlain, Layout::kPlain, sums);
      }
    }
    TargetRows{plan, y + plan.y_offset(pair), plan.y_row, false}.put_tile(
        query, sums, plan.kept_scale / quad_sum(softmax.sum[0]), plan.kept_scale / quad_sum(softmax.sum[1]));
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
template <int kD, int kE, bool kChunked>
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

  // What a warp has of a tile of queries: dy and both terms in registers, the queries in its strip.
  struct QueryTile {
    int first;
    FragmentA terms[at_least_one(kE)], dy[kD], dterms[at_least_one(kE)];
  };

  // s and dp of the tile for 16 keys.
  __device__ __forceinline__ void scores(const QueryTile& tile, int offset, FragmentC* s, FragmentC* dp) const {
    const bf16 *keys = operands.keys + offset * Layout::kJoined, *values = operands.values + offset * Layout::kPlain;
    add_strip_dots<kD>(plan, strip, keys, Layout::kJoined, s[0], s[1]);
    add_dots<kD>(tile.dy, values, Layout::kPlain, dp[0], dp[1]);
    UNROLL
    for (int n = 0; n < kE; ++n) {
      const FragmentPairB ones = load_b_transposed(keys + Layout::kWidth + 16 * n, Layout::kJoined);
      multiply_add(tile.terms[n], ones, s[0], s[1]);
      multiply_add(tile.dterms[n], ones, dp[0], dp[1]);
    }
  }

  __device__ __forceinline__ void queries_to_strip(int first) const {
    FragmentA rows[kD];
    load_rows<kD, 1>(from.q(), first, rows);
    store_tile<kD>(plan, rows, strip);
  }

  // Also leaves the terms in the scratch memory for the keys' part.
  __device__ __forceinline__ void load_tile(QueryTile& tile) const {
    load_rows<kD, 1>(dy, tile.first, tile.dy);
    if (kE > 0) {
      FragmentA rows[kD];
      load_rows<kD, 1>(from.q(), tile.first, rows);
      shifted_terms<kD, kE>(plan, tile.first, rows, operands.key_table, strip, tile.terms);
      shifted_terms<kD, kE>(plan, tile.first, tile.dy, operands.value_table, strip, tile.dterms);
    }
    UNROLL
    for (int n = 0; n < kE; ++n) {
      store_a(tile.terms[n], tile.first, 16 * n, Layout::kSlots, scratch.terms);
      store_a(tile.dterms[n], tile.first, 16 * n, Layout::kSlots, scratch.dterms);
    }
    queries_to_strip(tile.first);
  }

  // Leaves the bucket sums of a tile in the scratch memory. use(b, sums) gets them too.
  template <class Use>
  __device__ __forceinline__ void find_buckets(int first, const FragmentC* slots, bf16* to, const Use& use) const {
    store_slots<kE>(plan, slots, strip);
    const PositionPair at(plan, first);
    UNROLL_BY(1)
    for (int b = 0; b < plan.places; b += 16) {
      const FragmentA sums = bucket_sums(plan, at, b, strip);
      store_a(sums, first, b, plan.places, to);
      use(b, sums);
    }
  }

  // The sums over all keys that a row's g needs, and W.
  __device__ __forceinline__ void find_statistics(const QueryTile& tile, bool active) const {
    RunningSoftmax softmax;
    float d[2] = {};
    FragmentC w[kSlotTiles] = {};
    for_keys<1, kChunked>(plan, operands, from, active, [&](int key, int offset, int) {
      const unsigned kept = kept_bits(plan, pair, tile.first, key, false);
      FragmentC p[2] = {}, dp[2] = {};
      scores(tile, offset, p, dp);
      scale_scores(plan, key, plan.tokens, p);
      const TwoFloats factor = softmax.add(p);
      mask_tiles(kept, p);
      UNROLL
      for (int row = 0; row < 2; ++row) {
        d[row] *= factor.value[row];
        for (int i = 2 * row; i < 2 * row + 2; ++i) {
          d[row] += p[0].value[i] * dp[0].value[i] + p[1].value[i] * dp[1].value[i];
        }
      }
      if (kE == 0) return;
      rescale(factor, w);
      add_sums<kE>(pack_a(p[0], p[1]), operands.keys + offset * Layout::kJoined + Layout::kWidth, Layout::kJoined, w);
    });
    if (!active) return;
    TwoFloats inverse;
    UNROLL
    for (int row = 0; row < 2; ++row) {
      const float sum = quad_sum(softmax.sum[row]), total = quad_sum(d[row]);
      const int i = tile.first + lane_index() / 4 + 8 * row;
      inverse.value[row] = plan.kept_scale / sum;
      if (lane_index() % 4 > 0) continue;
      statistics.log_sum[i] = i < plan.tokens ? softmax.largest[row] + log2f(sum) : INFINITY;
      statistics.d[i] = i < plan.tokens ? total * inverse.value[row] : 0.0f;
    }
    __syncwarp();  // the statistics are read by the whole warp
    if (kE == 0) return;
    rescale(inverse, w);
    find_buckets(tile.first, w, scratch.w, [](int, const FragmentA&) {});
    queries_to_strip(tile.first);
  }

  // Of one element, from its score: p~ and g.
  __device__ __forceinline__ void gradient(float log_sum, float d, bool kept, float& s, float& dp) const {
    const float p = fast_exp2(s - log_sum);
    s = kept ? p * plan.kept_scale : 0.0f;
    dp = plan.s.scale * (s * dp - p * d);
  }

  __device__ __forceinline__ void find_query_gradients(const QueryTile& tile, bool active, const TargetRows& dq) const {
    const int row = tile.first + lane_index() / 4;
    float log_sum[2] = {}, d[2] = {};
    UNROLL
    for (int k = 0; k < 2; ++k) {
      if (!active) continue;
      log_sum[k] = statistics.log_sum[row + 8 * k];
      d[k] = statistics.d[row + 8 * k];
    }
    FragmentC sums[2 * kD] = {}, slots[kSlotTiles] = {};
    for_keys<1, kChunked>(plan, operands, from, active, [&](int key, int offset, int) {
      const unsigned kept = kept_bits(plan, pair, tile.first, key, false);
      FragmentC s[2] = {}, dp[2] = {};
      scores(tile, offset, s, dp);
      scale_scores(plan, key, plan.tokens, s);
      UNROLL
      for (int n = 0; n < 2; ++n) {
        UNROLL
        for (int i = 0; i < 4; ++i) {
          gradient(log_sum[i / 2], d[i / 2], kept >> (4 * n + i) & 1, s[n].value[i], dp[n].value[i]);
        }
      }
      const FragmentA g = pack_a(dp[0], dp[1]);
      const bf16* keys = operands.keys + offset * Layout::kJoined;
      add_sums<kD>(g, keys, Layout::kJoined, sums);
      add_sums<kE>(g, keys + Layout::kWidth, Layout::kJoined, slots);
    });
    if (!active) return;
    if (kE > 0) {
      find_buckets(tile.first, slots, scratch.c, [&](int b, const FragmentA& c) {
        add_sums<kD>(c, operands.key_table + b * Layout::kPlain, Layout::kPlain, sums);
      });
    }
    dq.put_tile(tile.first, sums, 1, 1);
  }

  __device__ __forceinline__ void query_part(const TargetRows& dq) const {
    UNROLL_BY(1)
    for (int round = 0; round < plan.tiles; round += kAttentionWarps) {
      QueryTile tile;
      tile.first = (round + warp_index()) * kTileRows;
      const bool active = round + warp_index() < plan.tiles;
      if (active) load_tile(tile);
      find_statistics(tile, active);
      find_query_gradients(tile, active, dq);
    }
  }

  // Queries and dy from `first` on, with the terms that the queries' part left.
  __device__ __forceinline__ void stage_queries(int first) const {
    stage_rows<kD>(from.q(), first, plan.chunk, Layout::kJoined, queries);
    stage_rows<kD>(dy, first, plan.chunk, Layout::kJoined, dys);
    constexpr int kWords = at_least_one(Layout::kSlots / 2);
    struct Words {
      uint32_t term, dterm;
    };
    walk<8>(
        static_cast<int>(threadIdx.x), plan.chunk * kWords * (kE > 0), kAttentionWarps * kWarp,
        [&](int i) {
          const int r = first + i / kWords, at = r * Layout::kSlots + i % kWords * 2;
          if (r >= plan.tiles * kTileRows) return Words{0, 0};
          return Words{load_word(scratch.terms + at), load_word(scratch.dterms + at)};
        },
        [&](int i, const Words& words) {
          const int at = i / kWords * Layout::kJoined + Layout::kWidth + i % kWords * 2;
          store_word(queries + at, words.term);
          store_word(dys + at, words.dterm);
        });
  }

  // What a warp has of a tile of keys: values and slots in registers, the keys in its strip.
  struct KeyTile {
    int first;
    FragmentA values[kD], slots[at_least_one(kE)];
  };

  __device__ __forceinline__ void load_tile(KeyTile& tile) const {
    load_rows<kD, 1>(from.k(), tile.first, tile.values);
    store_tile<kD>(plan, tile.values, strip);
    load_rows<kD, 1>(from.v(), tile.first, tile.values);
    const PositionPair at(plan, tile.first);
    UNROLL
    for (int n = 0; n < kE; ++n) {
      UNROLL
      for (int w = 0; w < 4; ++w) {
        const int e = 16 * n + lane_index() % 4 * 2 + w / 2 * 8;
        tile.slots[n].word[w] = slot_word(plan, w % 2 == 0 ? at.low : at.high, e);
      }
    }
  }

  // What 16 queries give to dk and dv of 16 keys.
  __device__ __forceinline__ void add_to_keys(const KeyTile& tile, int query, int offset, FragmentC* dk,
                                              FragmentC* dv) const {
    const int column = query + lane_index() % 4 * 2;
    const unsigned kept = kept_bits(plan, pair, query, tile.first, true);
    const bf16 *q = queries + offset * Layout::kJoined, *dy_rows = dys + offset * Layout::kJoined;
    FragmentC s[2] = {}, dp[2] = {};
    add_strip_dots<kD>(plan, strip, q, Layout::kJoined, s[0], s[1]);
    add_dots<kE>(tile.slots, q + Layout::kWidth, Layout::kJoined, s[0], s[1]);
    add_dots<kD>(tile.values, dy_rows, Layout::kJoined, dp[0], dp[1]);
    add_dots<kE>(tile.slots, dy_rows + Layout::kWidth, Layout::kJoined, dp[0], dp[1]);
    UNROLL
    for (int n = 0; n < 2; ++n) {
      UNROLL
      for (int i = 0; i < 4; ++i) {
        const int j = column + 8 * n + i % 2;
        s[n].value[i] *= plan.s.scale * kLog2e;
        gradient(statistics.log_sum[j], statistics.d[j], kept >> (4 * n + i) & 1, s[n].value[i], dp[n].value[i]);
      }
    }
    add_sums<kD>(pack_a(s[0], s[1]), dy_rows, Layout::kJoined, dv);
    add_sums<kD>(pack_a(dp[0], dp[1]), q, Layout::kJoined, dk);
  }

  // Rows first .. first + count - 1 of bucket sums, from the scratch memory into the strips.
  __device__ __forceinline__ void stage_buckets(const bf16* sums, int first, int count) const {
    const int words = plan.places / 2;
    __syncthreads();  // the strips have been read
    walk<3>(
        static_cast<int>(threadIdx.x), count * words, kAttentionWarps * kWarp,
        [&](int i) { return load_word(sums + (first + i / words) * plan.places + i % words * 2); },
        [&](int i, uint32_t word) { store_word(strips + i / words * plan.strip_pitch + i % words * 2, word); });
    __syncthreads();
  }

  // Adds sums^T rows over the staged queries, rows [queries, D], to the block's table gradient [places, D]. A warp has
  // kUnits tiles of 16 x 16 of it at a time.
  __device__ __forceinline__ void add_to_table(const bf16* sums, const bf16* rows, int first, bool add,
                                               float* table) const {
    constexpr int kUnits = 4, kMost = kAttentionWarps * kTileRows;
    const int here = plan.tiles * kTileRows - first < plan.chunk ? plan.tiles * kTileRows - first : plan.chunk;
    const int units = plan.places / 16 * kD, pitch = plan.strip_pitch;
    UNROLL_BY(1)
    for (int base = warp_index(); base - warp_index() < units; base += kUnits * kAttentionWarps) {
      FragmentC sum[kUnits][2] = {};
      UNROLL_BY(1)
      for (int start = 0; start < here; start += kMost) {
        const int count = here - start < kMost ? here - start : kMost;
        stage_buckets(sums, first + start, count);
        UNROLL
        for (int u = 0; u < kUnits; ++u) {
          const int unit = base + u * kAttentionWarps;
          UNROLL_BY(1)
          for (int i = 0; i < count && unit < units; i += 16) {
            const FragmentA a = load_a_transposed(strips + i * pitch + unit / kD * 16, pitch);
            add_sums<1>(a, rows + (start + i) * Layout::kJoined + unit % kD * 16, Layout::kJoined, sum[u]);
          }
        }
      }
      UNROLL
      for (int u = 0; u < kUnits; ++u) {
        const int unit = base + u * kAttentionWarps, b = unit / kD * 16, column = unit % kD * 16;
        if (unit >= units) continue;
        float* to = table + (b + lane_index() / 4) * Layout::kWidth + column + lane_index() % 4 * 2;
        const auto place = [&](int k) { return to + k % 4 / 2 * 8 * Layout::kWidth + k / 4 * 8 + k % 2; };
        float before[8] = {};
        UNROLL
        for (int k = 0; k < 8 && (add || first > 0); ++k) before[k] = *place(k);
        UNROLL
        for (int k = 0; k < 8; ++k) *place(k) = before[k] + sum[u][k / 4].value[k % 4];
      }
    }
  }

  __device__ __forceinline__ void stage_between_barriers(int first) const {
    __syncthreads();  // what was in this memory has been read
    stage_queries(first);
    __syncthreads();
  }

  // Leaves all queries in shared memory, where they are one chunk.
  __device__ __forceinline__ void table_part(bool add, float* tables) const {
    for (int first = 0; first < plan.tiles * kTileRows; first += plan.chunk) {
      stage_between_barriers(first);
      if (kE > 0) {
        add_to_table(scratch.c, queries, first, add, tables);
        add_to_table(scratch.w, dys, first, add, tables + plan.places * Layout::kWidth);
      }
      if (!kChunked) break;  // as in for_keys
    }
    __syncthreads();  // the strips have been read
  }

  __device__ __forceinline__ void key_part(const TargetRows& dk, const TargetRows& dv) const {
    const int rows = plan.tiles * kTileRows;
    UNROLL_BY(1)
    for (int round = 0; round < plan.tiles; round += kAttentionWarps) {
      const bool active = round + warp_index() < plan.tiles;
      KeyTile tile;
      tile.first = (round + warp_index()) * kTileRows;
      FragmentC key_sums[2 * kD] = {}, value_sums[2 * kD] = {};
      if (active) load_tile(tile);
      for (int first = 0; first < rows; first += plan.chunk) {
        if (kChunked) stage_between_barriers(first);
        const int here = rows - first < plan.chunk ? rows - first : plan.chunk;
        UNROLL_BY(1)
        for (int offset = 0; offset < here && active; offset += kTileRows) {
          add_to_keys(tile, first + offset, offset, key_sums, value_sums);
        }
        if (!kChunked) break;  // as in for_keys
      }
      if (!active) continue;
      dk.put_tile(tile.first, key_sums, 1, 1);
      dv.put_tile(tile.first, value_sums, 1, 1);
    }
  }
};

// partial [blocks, 2, places, 16 kD]: the block's part of the gradients of the joined tables of keys and of values.
template <int kD, int kE, bool kChunked>
__global__ void __launch_bounds__(kAttentionWarps* kWarp, 2)
    attention_backward_bf16_kernel(const __grid_constant__ TilePlan plan, int operands_count, int64_t pairs,
                                   int64_t per_block, const float* qkv, const float* key_v, const float* key_h,
                                   const float* value_v, const float* value_h, const float* dy, float* dqkv, bool add,
                                   bf16* scratch, float* partial) {
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
    const BackwardPair<kD, kE, kChunked> work = {plan,
                                                 pair,
                                                 {plan, memory},
                                                 memory,
                                                 memory + plan.chunk * Layout::kJoined,
                                                 strips,
                                                 strips + warp_index() * kTileRows * plan.strip_pitch,
                                                 statistics,
                                                 {plan, qkv + plan.qkv_offset(pair)},
                                                 {plan, dy + plan.y_offset(pair), plan.y_row, plan.aligned_dy},
                                                 {plan, Layout::kSlots, scratch}};
    float* dq = dqkv + plan.qkv_offset(pair);
    prefetch_rows(work.from.q());
    prefetch_rows(work.dy);
    __syncthreads();  // the last pair's queries have been read
    work.operands.stage_tables(plan, {key_v, key_h}, {value_v, value_h});
    if (!kChunked) work.operands.stage(plan, work.from, 0);
    __syncthreads();
    work.query_part({plan, dq, plan.qkv_row, add});
    work.table_part(pair > begin, tables);
    work.key_part({plan, dq + plan.y_row, plan.qkv_row, add}, {plan, dq + 2 * plan.y_row, plan.qkv_row, add});
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

// A shape with the kernels' sizes: D and slots in steps of 16. Not usable: kd is 0.
struct Fit {
  TilePlan plan;
  int kd, ke;
  int operands_count;  // elements of bf16
  size_t bytes;
  bool chunked() const { return plan.chunk < plan.tiles * kTileRows; }
};

TilePlan tile_plan(const AttentionShape& s) {
  TilePlan plan = {};
  plan.s = s;
  plan.tokens = static_cast<int>(s.tokens);
  plan.tiles = static_cast<int>(padded(s.tokens) / kTileRows);
  plan.width = static_cast<int>(s.head_dim);
  plan.side = static_cast<int>(s.side);
  plan.m = static_cast<int>(at_most(s.side - 1, s.max_relative_position));
  plan.skip = static_cast<int>(s.max_relative_position) - plan.m;
  plan.span = 2 * plan.m + 1;
  plan.places = s.max_relative_position > 0 ? static_cast<int>(padded(2 * plan.span + 1)) : 0;
  plan.kept_scale = s.dropout > 0 ? 1 / (1 - s.dropout) : 1;
  plan.qkv_row = 3 * s.heads * s.head_dim;
  plan.y_row = s.heads * s.head_dim;
  return plan;
}

// What a block of the kernels for kd and ke needs with the plan's chunk.
void set_bytes(bool backward, Fit& f) {
  TilePlan& plan = f.plan;
  plan.strip_pitch = static_cast<int>(at_least(at_least(plan.places, 16 * f.kd), 32 * f.ke)) + 8;
  const int joined = 16 * (f.kd + f.ke) + 8, plain = 16 * f.kd + 8;
  const int keys = plan.chunk * (joined + plain) + 2 * plan.places * plain, queries = 2 * plan.chunk * joined;
  f.operands_count = backward && queries > keys ? queries : keys;
  f.bytes = shared_bytes<bf16>(f.operands_count) + shared_bytes<bf16>(kAttentionWarps * kTileRows * plan.strip_pitch) +
            (backward ? 2 * shared_bytes<float>(plan.tiles * kTileRows) : 0);
}

// All rows at a time if a block can have so much memory, else the largest chunk. (Smaller chunks would let two blocks
// share a multiprocessor, but every round of tiles has to read every chunk again.)
Fit fit(const AttentionShape& s, bool backward) {
  const int64_t slots = s.max_relative_position > 0 ? 2 * s.side + 1 : 0;
  Fit f = {tile_plan(s), s.head_dim <= 32 ? 2 : 4, slots == 0 ? 0 : slots <= 32 ? 2 : 4, 0, 0};
  const size_t limit = shared_memory_limit();
  f.plan.chunk = f.plan.tiles * kTileRows;
  set_bytes(backward, f);
  if (f.bytes > limit) f.kd = 4;  // chunks are rare: kernels for the larger width only
  for (; f.plan.chunk > 0; f.plan.chunk -= kTileRows) {
    set_bytes(backward, f);
    if (f.bytes <= limit) break;
  }
  if (s.head_dim > 64 || slots > 64 || f.plan.chunk <= 0) f.kd = 0;
  return f;
}

void set_alignment(const float* qkv, const float* dy, const float* output, TilePlan& plan) {
  const auto aligned = [&](const float* data, int64_t floats) {
    return reinterpret_cast<uintptr_t>(data) % (sizeof(float) * floats) == 0 && plan.width % floats == 0;
  };
  plan.aligned_qkv = aligned(qkv, 4);
  plan.aligned_dy = aligned(dy, 4);
  plan.aligned_output = aligned(output, 2);
}

template <int n>
using Constant = std::integral_constant<int, n>;

// Calls use(D, E, chunked) with the sizes as constants.
template <class Use>
void with_columns(const Fit& f, const Use& use) {
  const auto with_slots = [&](auto d, auto chunked) {
    if (f.ke == 0) return use(d, Constant<0>(), chunked);
    if (f.ke == 2) return use(d, Constant<2>(), chunked);
    return use(d, Constant<4>(), chunked);
  };
  if (f.chunked()) return with_slots(Constant<4>(), std::true_type());
  if (f.kd == 2) return with_slots(Constant<2>(), std::false_type());
  return with_slots(Constant<4>(), std::false_type());
}

}  // namespace

bool attention_forward_bf16(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                            const float* value_v, const float* value_h, float* y) {
  Fit f = fit(s, false);
  if (f.kd == 0) return false;
  set_alignment(qkv, nullptr, y, f.plan);
  with_columns(f, [&](auto d, auto e, auto chunked) {
    const auto kernel = attention_forward_bf16_kernel<decltype(d)::value, decltype(e)::value, decltype(chunked)::value>;
    LAUNCH_AS("attention_forward_bf16_kernel", kernel, blocks_for(s.batch * s.heads, 1), kAttentionWarps * kWarp,
              f.bytes, stream(), f.plan, f.operands_count, qkv, key_v, key_h, value_v, value_h, y);
  });
  return true;
}

bool attention_backward_bf16(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                             const float* value_v, const float* value_h, const float* dy, float* dqkv, bool add,
                             float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h) {
  Fit f = fit(s, true);
  if (f.kd == 0) return false;
  set_alignment(qkv, dy, dqkv, f.plan);
  const int64_t pairs = s.batch * s.heads, per_block = at_least(1, (pairs + kMostBlocks - 1) / kMostBlocks);
  const int64_t elements = 2 * static_cast<int64_t>(f.plan.places) * 16 * f.kd;
  const unsigned blocks = blocks_for(pairs, per_block);
  if (blocks == 0) return true;
  const Workspace<bf16> scratch(blocks * Scratch::elements(f.plan, 16 * f.ke));
  const Workspace<float> partial(blocks * elements);
  with_columns(f, [&](auto d, auto e, auto chunked) {
    const auto kernel =
        attention_backward_bf16_kernel<decltype(d)::value, decltype(e)::value, decltype(chunked)::value>;
    LAUNCH_AS("attention_backward_bf16_kernel", kernel, blocks, kAttentionWarps * kWarp, f.bytes, stream(), f.plan,
              f.operands_count, pairs, per_block, qkv, key_v, key_h, value_v, value_h, dy, dqkv, add, scratch.data(),
              partial.data());
  });
  LAUNCH(attention_table_bf16_kernel, blocks_for(elements, kWarp), kThreads, shared_bytes<float>(kThreads), stream(),
         f.plan, blocks, 16 * f.kd, partial.data(), dkey_v, dkey_h, dvalue_v, dvalue_h);
  return true;
}

}  // namespace entangle::gpu
