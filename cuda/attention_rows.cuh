// The sizes that the tensor-core attention kernels work with, and their rows in device memory: how those are read and
// written, at any alignment.
#pragma once

#include "cuda/bf16.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

inline constexpr int kAttentionWarps = 4, kTileRows = 16;

struct TilePlan {
  AttentionShape s;
  int tokens, tiles, width, side, m;
  int skip;          // rows of a table between row 0 and the first that occurs
  int span;          // distances: 2m + 1
  int places;        // of the joined table, padded to 16; 0 without relative position
  int strip_pitch;   // a strip is a warp's own 16 rows of bf16, as wide as the places, or half as many floats
  int chunk;         // rows of keys, or of queries, in shared memory at a time
  float kept_scale;  // 1 / (1 - dropout)
  int64_t qkv_row, y_row;
  // Whether rows can be read four at a time, and written two at a time.
  bool aligned_qkv, aligned_dy, aligned_output;

  __host__ __device__ int64_t qkv_offset(int64_t pair) const {
    return pair / s.heads * tokens * qkv_row + pair % s.heads * width;
  }
  __host__ __device__ int64_t y_offset(int64_t pair) const {
    return pair / s.heads * tokens * y_row + pair % s.heads * width;
  }
  __host__ __device__ int chunks() const { return (tiles * kTileRows + chunk - 1) / chunk; }
  __host__ __device__ int class_place() const { return 2 * span; }
  __host__ __device__ int class_slot() const { return 2 * side; }
  __device__ int place_of(int distance) const { return (distance < -m ? -m : distance > m ? m : distance) + m; }
};

// Columns of the operands: kD steps of 16 for the head's width, kE for the slots. The pitches are odd multiples of 16
// bytes.
template <int kD, int kE>
struct Columns {
  static constexpr int kWidth = 16 * kD, kSlots = 16 * kE;
  static constexpr int kJoined = kWidth + kSlots + 8, kPlain = kWidth + 8;
};

struct alignas(16) FourFloats {
  float value[4];
};
struct alignas(8) TwoFloats {
  float value[2];
};

// Rows of floats in device memory: N rows of D, zeros outside. `vector`: four at a time are aligned. What is not the
// pointer comes from the kernel's parameters, so that it takes no registers.
struct SourceRows {
  const TilePlan& plan;
  const float* data;
  const int64_t& stride;
  const bool& vector;

  __device__ float at(int r, int c) const { return c < plan.width ? data[r * stride + c] : 0.0f; }
  __device__ FourFloats four(int r, int c) const {
    if (r >= plan.tokens || c >= plan.width) return {};
    if (vector) return *reinterpret_cast<const FourFloats*>(data + r * stride + c);
    return {{at(r, c), at(r, c + 1), at(r, c + 2), at(r, c + 3)}};
  }
  __device__ TwoFloats two(int r, int c) const {
    if (r >= plan.tokens || c >= plan.width) return {};
    if (vector) return *reinterpret_cast<const TwoFloats*>(data + r * stride + c);
    return {{at(r, c), at(r, c + 1)}};
  }
};

// Rows of floats that are written: a lane has pairs of columns.
struct TargetRows {
  const TilePlan& plan;
  float* data;
  const int64_t& stride;
  bool add;

  // Columns c and c + 1, from a row's beginning.
  __device__ __forceinline__ void put_two(float* row, int c, float low, float high) const {
    if (c >= plan.width) return;
    if (plan.aligned_output) {
      TwoFloats* to = reinterpret_cast<TwoFloats*>(row + c);
      *to = add ? TwoFloats{{to->value[0] + low, to->value[1] + high}} : TwoFloats{{low, high}};
      return;
    }
    put(row + c, low, add);
    if (c + 1 < plan.width) put(row + c + 1, high, add);
  }
  // Half a tile of 16 rows from `first` on: rows 8 half .. 8 half + 7.
  template <int kTiles>
  __device__ __forceinline__ void put_half(int first, int half, const FragmentC (&tile)[kTiles], float scale) const {
    const int r = first + lane_index() / 4 + 8 * half;
    if (r >= plan.tokens) return;
    float* row = data + r * stride;
    UNROLL
    for (int n = 0; n < kTiles; ++n) {
      const float* value = tile[n].value + 2 * half;
      put_two(row, 8 * n + lane_index() % 4 * 2, value[0] * scale, value[1] * scale);
    }
  }
  template <int kTiles>
  __device__ __forceinline__ void put_tile(int first, const FragmentC (&tile)[kTiles], float low, float high) const {
    put_half(first, 0, tile, low);
    put_half(first, 1, tile, high);
  }
};

}  // namespace entangle::gpu
