// The parts that the tensor-core attention kernels are made of: operands in shared memory, relative position as extra
// columns of the operands, products of 16 x 16 tiles.
//
// Relative position without a look-up for each pair of tokens. A token owns slots: its grid row (slot row), its grid
// column (slot side + column), or for the class token slot 2 side. Behind the D columns of the keys stand their slots
// as ones (E), behind those of query i stand its terms shifted to the slots, A~_i[e] = q_i . table[place(i, e)]. Then
//   q_i . k_j + A~_i . E_j     is the score with both its terms,
//   sum_j p_ij E_j[e]          are sums of p by grid row and by grid column, and shifted back they are the bucket sums.
// A place is a row of the joined table: vertical distances -m..m, horizontal ones, and one row for the class token, the
// sum of rows 0 of the two tables, which always occur together. Distances beyond side - 1 do not occur: m is cut.
#pragma once

#include "cuda/attention_rows.cuh"

namespace entangle::gpu {

// ------------------------------------------------------------------------------------------------------------- slots

// A token on the grid; the class token has row -1.
struct Position {
  int row, column;
};
__device__ inline Position position_of(const TilePlan& plan, int token) {
  if (token == 0) return {-1, -1};
  return {(token - 1) / plan.side, (token - 1) % plan.side};
}

// The ones of a token in slots e and e + 1, as a word.
__device__ inline uint32_t slot_word(const TilePlan& plan, const Position& at, int e) {
  const int first = at.row < 0 ? plan.class_slot() : at.row, second = at.row < 0 ? first : plan.side + at.column;
  constexpr uint32_t kOne = 0x3f80;
  return (e == first || e == second ? kOne : 0) | (e + 1 == first || e + 1 == second ? kOne << 16 : 0);
}

// The place that slot e has, seen from a token, or -1. The class token sees all patches at its own place: by their rows.
__device__ inline int place_of_slot(const TilePlan& plan, const Position& from, int e) {
  if (e == plan.class_slot()) return plan.class_place();
  if (from.row < 0) return e < plan.side ? plan.class_place() : -1;
  if (e < plan.side) return plan.place_of(e - from.row);
  return e < 2 * plan.side ? plan.span + plan.place_of(e - plan.side - from.column) : -1;
}

// The other way round: the sum of the slots that have place b, seen from a token.
__device__ inline float sum_at_place(const TilePlan& plan, const Position& from, int b, const float* slots) {
  if (b > plan.class_place() || (from.row < 0 && b < plan.class_place())) return 0;
  float sum = b == plan.class_place() ? slots[plan.class_slot()] : 0.0f;
  int first = 0, last = b == plan.class_place() && from.row >= 0 ? -1 : plan.side - 1;
  if (b < plan.class_place()) {
    const bool vertical = b < plan.span;
    const int distance = (vertical ? b : b - plan.span) - plan.m;
    if (!vertical) slots += plan.side;
    if (distance > -plan.m) first = (vertical ? from.row : from.column) + distance;
    if (distance < plan.m) last = (vertical ? from.row : from.column) + distance;
    if (first < 0) first = 0;
    if (last >= plan.side) last = plan.side - 1;
  }
  UNROLL_BY(1)
  for (int e = first; e <= last; ++e) sum += slots[e];
  return sum;
}

// ---------------------------------------------------------------------------------------- shared memory, by the block

// Has all rows on their way, for when they are read by a warp that cannot have many loads in flight.
__device__ __forceinline__ void prefetch_rows(const SourceRows& from) {
  const int lines = (from.plan.width + 31) / 32;
  for (int i = static_cast<int>(threadIdx.x); i < from.plan.tokens * lines; i += kAttentionWarps * kWarp) {
    prefetch_line(from.data + i / lines * from.stride + i % lines * 32);
  }
}

// to[r, 0 .. 16 kD) = rows first + r, rounded: a thread has every kStep-th row of four columns, kBatch loads in flight. (As
// a walk() over all elements it would take registers that the backward kernel does not have.)
template <int kD>
__device__ __forceinline__ void stage_rows(const SourceRows& from, int first, int rows, int pitch, bf16* to) {
  constexpr int kGroups = 4 * kD, kStep = kAttentionWarps * kWarp / kGroups, kBatch = 8;
  const int c = static_cast<int>(threadIdx.x) % kGroups * 4;
  UNROLL_BY(1)
  for (int begin = static_cast<int>(threadIdx.x) / kGroups; begin < rows; begin += kBatch * kStep) {
    FourFloats four[kBatch];
    UNROLL
    for (int k = 0; k < kBatch; ++k) four[k] = from.four(first + begin + k * kStep, c);
    UNROLL
    for (int k = 0; k < kBatch; ++k) {
      if (begin + k * kStep >= rows) break;
      store_words(to + (begin + k * kStep) * pitch + c, pack_bf16(four[k].value[0], four[k].value[1]),
                  pack_bf16(four[k].value[2], four[k].value[3]));
    }
  }
}

// to[r, 0 .. 16 kE) = the ones of token first + r.
template <int kE>
__device__ __forceinline__ void stage_slots(const TilePlan& plan, int first, int rows, int pitch, bf16* to) {
  constexpr int kWords = 8 * (kE > 0 ? kE : 1);
  for (int i = threadIdx.x; i < rows * kWords * (kE > 0); i += kAttentionWarps * kWarp) {
    const int token = first + i / kWords, e = i % kWords * 2;
    const uint32_t word = token < plan.tokens ? slot_word(plan, position_of(plan, token), e) : 0;
    store_word(to + i / kWords * pitch + e, word);
  }
}

// The joined table, rounded.
template <int kD>
__device__ __forceinline__ void stage_table(const TilePlan& plan, const float* vertical, const float* horizontal,
                                            int pitch, bf16* to) {
  constexpr int kWords = 8 * kD;
  // Columns c and c + 1 of a row that adds up one of each table, of which one may be missing.
  struct Pair {
    TwoFloats vertical, horizontal;
  };
  const auto two = [&](const float* table, int row, int c) {
    const float* at = table + row * plan.width + c;
    return TwoFloats{{row < 0 || c >= plan.width ? 0.0f : at[0], row < 0 || c + 1 >= plan.width ? 0.0f : at[1]}};
  };
  walk<4>(
      static_cast<int>(threadIdx.x), plan.places * kWords, kAttentionWarps * kWarp,
      [&](int i) {
        const int b = i / kWords, c = i % kWords * 2, first = 1 + plan.skip;
        const int both = b == plan.class_place() ? 0 : -1;
        const bool is_place = b < plan.class_place(), is_vertical = is_place && b < plan.span;
        return Pair{two(vertical, is_vertical ? b + first : both, c),
                    two(horizontal, is_place && !is_vertical ? b - plan.span + first : both, c)};
      },
      [&](int i, const Pair& of) {
        store_word(to + i / kWords * pitch + i % kWords * 2, pack_bf16(of.vertical.value[0] + of.horizontal.value[0],
                                                                       of.vertical.value[1] + of.horizontal.value[1]));
      });
}

// ---------------------------------------------------------------------------------------------------- tiles, by a warp

// Rows first .. first + 15 as kD steps of A. The loads of kBatch steps are in flight before the first is rounded.
template <int kD, int kBatch = kD>
__device__ __forceinline__ void load_rows(const SourceRows& from, int first, FragmentA* a) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL
  for (int begin = 0; begin < 4 * kD; begin += 4 * kBatch) {
    TwoFloats two[4 * kBatch];
    UNROLL
    for (int i = 0; i < 4 * kBatch; ++i) {
      const int word = begin + i;
      two[i] = from.two(first + g + word % 2 * 8, word / 4 * 16 + 2 * t + word / 2 % 2 * 8);
    }
    UNROLL
    for (int i = 0; i < 4 * kBatch; ++i) {
      a[(begin + i) / 4].word[i % 4] = pack_bf16(two[i].value[0], two[i].value[1]);
    }
  }
}

// A tile of kD steps of A in the warp's strip, from where load_a takes it: fewer registers.
template <int kD>
__device__ __forceinline__ void store_tile(const TilePlan& plan, const FragmentA* a, bf16* strip) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  __syncwarp();  // the strip has been read
  UNROLL
  for (int step = 0; step < kD; ++step) {
    UNROLL
    for (int w = 0; w < 4; ++w) {
      store_word(strip + (g + w % 2 * 8) * plan.strip_pitch + 16 * step + 2 * t + w / 2 * 8, a[step].word[w]);
    }
  }
  __syncwarp();
}

// left, right += the strip's tile [16, 16 kSteps] times 16 rows, transposed.
template <int kSteps>
__device__ __forceinline__ void add_strip_dots(const TilePlan& plan, const bf16* strip, const bf16* rows, int pitch,
                                               FragmentC& left, FragmentC& right) {
  UNROLL
  for (int step = 0; step < kSteps; ++step) {
    multiply_add(load_a(strip + 16 * step, plan.strip_pitch), load_b_transposed(rows + 16 * step, pitch), left, right);
  }
}

// left, right += A [16, 16 kSteps] times 16 rows, transposed.
template <int kSteps>
__device__ __forceinline__ void add_dots(const FragmentA* a, const bf16* rows, int pitch, FragmentC& left,
                                         FragmentC& right) {
  UNROLL
  for (int step = 0; step < kSteps; ++step) {
    multiply_add(a[step], load_b_transposed(rows + 16 * step, pitch), left, right);
  }
}

// sums [16, 16 kColumns] += A [16, 16] times 16 rows.
template <int kColumns>
__device__ __forceinline__ void add_sums(const FragmentA& a, const bf16* rows, int pitch, FragmentC* sums) {
  UNROLL
  for (int n = 0; n < kColumns; ++n) {
    multiply_add(a, load_b(rows + 16 * n, pitch), sums[2 * n], sums[2 * n + 1]);
  }
}

// A tile of sums as the A of the next product.
__device__ __forceinline__ FragmentA pack_a(const FragmentC& left, const FragmentC& right) {
  return {{pack_bf16(left.value[0], left.value[1]), pack_bf16(left.value[2], left.value[3]),
           pack_bf16(right.value[0], right.value[1]), pack_bf16(right.value[2], right.value[3])}};
}

// The positions of a lane's two rows of a tile.
struct PositionPair {
  Position low, high;

  __device__ PositionPair(const TilePlan& plan, int first)
      : low(position_of(plan, first + lane_index() / 4)), high(position_of(plan, first + lane_index() / 4 + 8)) {}
};

// terms[kE steps] = the rows' products with the joined table, shifted to the slots as the tokens from `first` on see them.
template <int kD, int kE>
__device__ __forceinline__ void shifted_terms(const TilePlan& plan, int first, const FragmentA* rows, const bf16* table,
                                              bf16* strip, FragmentA* terms) {
  constexpr int kPitch = Columns<kD, kE>::kPlain;
  const PositionPair at(plan, first);
  const int g = lane_index() / 4, t = lane_index() % 4;
  __syncwarp();  // the strip has been read
  UNROLL_BY(1)
  for (int b = 0; b < plan.places; b += 16) {
    FragmentC left = {}, right = {};
    add_dots<kD>(rows, table + b * kPitch, kPitch, left, right);
    bf16 *low = strip + g * plan.strip_pitch + b + 2 * t, *high = low + 8 * plan.strip_pitch;
    store_word(low, pack_bf16(left.value[0], left.value[1]));
    store_word(high, pack_bf16(left.value[2], left.value[3]));
    store_word(low + 8, pack_bf16(right.value[0], right.value[1]));
    store_word(high + 8, pack_bf16(right.value[2], right.value[3]));
  }
  __syncwarp();
  UNROLL
  for (int step = 0; step < kE; ++step) {
    UNROLL
    for (int w = 0; w < 4; ++w) {
      const bf16* row = strip + (g + w % 2 * 8) * plan.strip_pitch;
      uint32_t word = 0;
      UNROLL
      for (int k = 0; k < 2; ++k) {
        const int place = place_of_slot(plan, w % 2 == 0 ? at.low : at.high, 16 * step + 2 * t + w / 2 * 8 + k);
        if (place >= 0) word |= static_cast<uint32_t>(row[place].bits) << 16 * k;
      }
      terms[step].word[w] = word;
    }
  }
}

// Puts sums by slot into the warp's strip, as floats.
template <int kE>
__device__ __forceinline__ void store_slots(const TilePlan& plan, const FragmentC* slots, bf16* strip) {
  const int g = lane_index() / 4, t = lane_index() % 4, pitch = plan.strip_pitch / 2;
  float* to = reinterpret_cast<float*>(strip);
  __syncwarp();  // the strip has been read
  UNROLL
  for (int n = 0; n < 2 * kE; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) to[(g + i / 2 * 8) * pitch + 8 * n + 2 * t + i % 2] = slots[n].value[i];
  }
  __syncwarp();
}

// Step b / 16 of the bucket sums, rounded, as A: from the strip, shifted back.
__device__ __forceinline__ FragmentA bucket_sums(const TilePlan& plan, const PositionPair& at, int b,
                                                 const bf16* strip) {
  const int g = lane_index() / 4, t = lane_index() % 4, pitch = plan.strip_pitch / 2;
  const float* slots = reinterpret_cast<const float*>(strip);
  FragmentA a;
  UNROLL
  for (int w = 0; w < 4; ++w) {
    const float* row = slots + (g + w % 2 * 8) * pitch;
    const Position& from = w % 2 == 0 ? at.low : at.high;
    const int place = b + 2 * t + w / 2 * 8;
    a.word[w] = pack_bf16(sum_at_place(plan, from, place, row), sum_at_place(plan, from, place + 1, row));
  }
  return a;
}

// Over the four lanes that hold a row of a tile; each gets the same bits.
__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}
__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}

// Which of a lane's eight elements of two tiles side by side survive dropout, as bits 4 n + i; all without dropout. The
// tiles' rows are queries from `query` on and their columns keys from `key` on, or, `transposed`, the other way round.
__device__ __forceinline__ unsigned kept_bits(const TilePlan& plan, int64_t pair, int query, int key, bool transposed) {
  unsigned bits = 0xffu;
  if (plan.s.dropout <= 0) return bits;
  const int g = lane_index() / 4, t = lane_index() % 4;
  UNROLL_BY(1)
  for (int k = 0; k < 8; ++k) {
    const int row = g + k % 4 / 2 * 8, column = k / 4 * 8 + 2 * t + k % 2;
    const int64_t i = query + (transposed ? column : row), j = key + (transposed ? row : column);
    const uint64_t index = attention_mask_index(plan.s, pair, i) + static_cast<uint64_t>(j);
    if (rng_uniform(plan.s.key, index) < plan.s.dropout) bits &= ~(1u << k);
  }
  return bits;
}
// An element of p under the mask: p~ without its factor 1 / (1 - rate).
__device__ __forceinline__ float masked(unsigned bits, int n, int i, float p) {
  return bits >> (4 * n + i) & 1 ? p : 0.0f;
}

}  // namespace entangle::gpu
