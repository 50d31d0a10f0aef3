// bf16 and the tensor-core tile.
//
//   mma.sync.m16n8k16: D [16, 8] = A [16, 16] B [16, 8] + C, A and B bf16, C and D fp32, by one warp.
//
// With g = lane / 4 and t = lane % 4, a lane holds
//   A: rows g and g+8, columns 2t, 2t+1 and 2t+8, 2t+9     a[0] (g, 2t..)  a[1] (g+8, 2t..)  a[2] (g, 2t+8..)  a[3]
//   (g+8, 2t+8..)
//   B: rows 2t, 2t+1 and 2t+8, 2t+9 of column g            b[0] (2t.., g)  b[1] (2t+8.., g)
//   C: rows g and g+8, columns 2t, 2t+1                     c[0] c[1] (g, 2t..)  c[2] c[3] (g+8, 2t..)
// two bf16 to a word, the lower index in the lower half.
//
// Fragments come from matrices in shared memory, rows of bf16 at multiples of 16 bytes, by ldmatrix: four 8 x 8 blocks
// at once, lane 8i + r giving the address of row r of block i. The eight rows of a block should lie in different banks:
// a pitch of an odd multiple of 16 bytes.
#pragma once

#include "cuda/device.cuh"

#if !defined(ENTANGLE_CUDA_EMULATED)
#include <cuda_bf16.h>
#endif

namespace entangle::gpu {

// The 16 upper bits of a float.
struct bf16 {
  uint16_t bits;
};

// Rounds to nearest, ties to even; a NaN stays one.
__host__ __device__ inline bf16 to_bf16(float value) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  if (value != value) return {static_cast<uint16_t>(word >> 16 | 0x40)};
  return {static_cast<uint16_t>((word + 0x7fffu + (word >> 16 & 1)) >> 16)};
#endif
}

__host__ __device__ inline float to_float(bf16 value) {
  const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
  float result;
  memcpy(&result, &word, sizeof result);
  return result;
}

// For kernels of either type.
__device__ inline float load_number(const float* from) { return *from; }
__device__ inline float load_number(const bf16* from) { return to_float(*from); }
__device__ inline void store_number(float value, float* to) { *to = value; }
__device__ inline void store_number(float value, bf16* to) { *to = to_bf16(value); }

// Two numbers in one word of a fragment.
__host__ __device__ inline uint32_t pack_bf16(float low, float high) {
#if defined(__CUDA_ARCH__)
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);  // one instruction
  uint32_t word;
  memcpy(&word, &pair, sizeof word);
  return word;
#else
  return static_cast<uint32_t>(to_bf16(low).bits) | static_cast<uint32_t>(to_bf16(high).bits) << 16;
#endif
}

// Stores words of two numbers; `to` is at a multiple of their bytes.
__device__ inline void store_word(bf16* to, uint32_t word) {
#if defined(ENTANGLE_CUDA_EMULATED)
  memcpy(to, &word, sizeof word);  // the host compiler may assume that bf16 and words do not overlap
#else
  *reinterpret_cast<uint32_t*>(to) = word;
#endif
}
__device__ inline void store_words(bf16* to, uint32_t low, uint32_t high) {
#if defined(ENTANGLE_CUDA_EMULATED)
  store_word(to, low);
  store_word(to + 2, high);
#else
  *reinterpret_cast<uint2*>(to) = make_uint2(low, high);
#endif
}
__device__ inline uint32_t load_word(const bf16* from) {
#if defined(ENTANGLE_CUDA_EMULATED)
  uint32_t word;
  memcpy(&word, from, sizeof word);
  return word;
#else
  return *reinterpret_cast<const uint32_t*>(from);
#endif
}

struct FragmentA {
  uint32_t word[4];
};
struct FragmentB {
  uint32_t word[2];
};
struct FragmentC {
  float value[4];
};

#if defined(ENTANGLE_CUDA_EMULATED)

namespace emulated {

struct MmaFrame {
  FragmentA a;
  FragmentB b;
  FragmentC c;
};

inline float half_of(uint32_t word, int index) {
  return to_float({static_cast<uint16_t>(index % 2 == 0 ? word & 0xffffu : word >> 16)});
}

// Products of bf16 are exact in fp32. They are added in ascending order of k; hardware does not promise an order.
inline void complete_mma(unsigned, void* const* frames) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const MmaFrame& frame = *static_cast<const MmaFrame*>(frames[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int word = 0; word < 4; ++word) {
      for (int i = 0; i < 2; ++i) a[g + word % 2 * 8][2 * t + word / 2 * 8 + i] = half_of(frame.a.word[word], i);
    }
    for (int word = 0; word < 2; ++word) {
      for (int i = 0; i < 2; ++i) b[2 * t + word * 8 + i][g] = half_of(frame.b.word[word], i);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    MmaFrame& frame = *static_cast<MmaFrame*>(frames[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) frame.c.value[i] += a[row][k] * b[k][column];
    }
  }
}

struct LdmatrixFrame {
  const bf16* row;
  bool transposed;
  uint32_t word[4];
};

inline void complete_ldmatrix(unsigned, void* const* frames) {
  const auto element = [&](int block, int r, int c) {
    return static_cast<uint32_t>(static_cast<const LdmatrixFrame*>(frames[8 * block + r])->row[c].bits);
  };
  for (int lane = 0; lane < kWarp; ++lane) {
    LdmatrixFrame& frame = *static_cast<LdmatrixFrame*>(frames[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int block = 0; block < 4; ++block) {
      const uint32_t low = frame.transposed ? element(block, 2 * t, g) : element(block, g, 2 * t);
      const uint32_t high = frame.transposed ? element(block, 2 * t + 1, g) : element(block, g, 2 * t + 1);
      frame.word[block] = low | high << 16;
    }
  }
}

}  // namespace emulated

template <bool kTransposed>
void ldmatrix(const bf16* row, uint32_t (&word)[4]) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulator::fail("ldmatrix: a row is not at a multiple of 16 bytes");
  emulated::LdmatrixFrame frame = {row, kTransposed, {}};
  emulator::warp_collective(kAllLanes, &frame, emulated::complete_ldmatrix, ENTANGLE_SITE("ldmatrix"));
  for (int i = 0; i < 4; ++i) word[i] = frame.word[i];
}

// 2^x, a few units in the last place of fp32; what lies below the normal numbers is zero.
inline float fast_exp2(float x) { return x < -126.0f ? 0.0f : exp2f(x); }

inline FragmentC mma_m16n8k16(const FragmentA& a, const FragmentB& b, const FragmentC& c) {
  emulated::MmaFrame frame = {a, b, c};
  emulator::warp_collective(kAllLanes, &frame, emulated::complete_mma, ENTANGLE_SITE("mma_m16n8k16"));
  return frame.c;
}

#else

template <bool kTransposed>
__device__ __forceinline__ void ldmatrix(const bf16* row, uint32_t (&word)[4]) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address)
                 : "memory");
  }
}

// 2^x, a few units in the last place of fp32; what lies below the normal numbers is zero.
__device__ inline float fast_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ inline FragmentC mma_m16n8k16(const FragmentA& a, const FragmentB& b, const FragmentC& c) {
  FragmentC d;
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, %12, %13};"
      : "=f"(d.value[0]), "=f"(d.value[1]), "=f"(d.value[2]), "=f"(d.value[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]), "f"(c.value[0]),
        "f"(c.value[1]), "f"(c.value[2]), "f"(c.value[3]));
  return d;
}

#endif

// This lane's row address for ldmatrix of a 16 x 16 tile. Blocks in the order of A's words: down the rows first.
__device__ inline const bf16* row_down(const bf16* tile, int pitch) {
  const int lane = lane_index();
  return tile + (lane % 16) * pitch + lane / 16 * 8;
}
// Blocks across the columns first.
__device__ inline const bf16* row_across(const bf16* tile, int pitch) {
  const int lane = lane_index();
  return tile + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
}

// A[m][k] = tile[m][k].
__device__ __forceinline__ FragmentA load_a(const bf16* tile, int pitch) {
  FragmentA a;
  ldmatrix<false>(row_down(tile, pitch), a.word);
  return a;
}
// A[m][k] = tile[k][m].
__device__ inline FragmentA load_a_transposed(const bf16* tile, int pitch) {
  FragmentA a;
  ldmatrix<true>(row_across(tile, pitch), a.word);
  return a;
}

// The B of two mma side by side, columns 0..7 and 8..15.
struct FragmentPairB {
  FragmentB half[2];
};
// B[k][n] = tile[k][n].
__device__ inline FragmentPairB load_b(const bf16* tile, int pitch) {
  uint32_t word[4];
  ldmatrix<true>(row_down(tile, pitch), word);
  return {{{{word[0], word[1]}}, {{word[2], word[3]}}}};
}
// B[k][n] = tile[n][k].
__device__ inline FragmentPairB load_b_transposed(const bf16* tile, int pitch) {
  uint32_t word[4];
  ldmatrix<false>(row_across(tile, pitch), word);
  return {{{{word[0], word[1]}}, {{word[2], word[3]}}}};
}

// c += A B for the two halves of B.
__device__ inline void multiply_add(const FragmentA& a, const FragmentPairB& b, FragmentC& left, FragmentC& right) {
  left = mma_m16n8k16(a, b.half[0], left);
  right = mma_m16n8k16(a, b.half[1], right);
}

}  // namespace entangle::gpu
