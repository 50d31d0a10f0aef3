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

// Two numbers in one word of a fragment.
__host__ __device__ inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(to_bf16(low).bits) | static_cast<uint32_t>(to_bf16(high).bits) << 16;
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

}  // namespace emulated

inline FragmentC mma_m16n8k16(const FragmentA& a, const FragmentB& b, const FragmentC& c) {
  emulated::MmaFrame frame = {a, b, c};
  emulator::warp_collective(kAllLanes, &frame, emulated::complete_mma, ENTANGLE_SITE("mma_m16n8k16"));
  return frame.c;
}

#else

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

}  // namespace entangle::gpu
