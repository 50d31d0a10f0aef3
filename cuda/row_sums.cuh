// Sums over the rows of a matrix, one for each column: the gradients of biases, and of the weights of a norm. Two
// kernels: chunks of rows into partial sums, then the partial sums in order. No atomics: the same bits always.
#pragma once

#include "cuda/device.cuh"

namespace entangle::gpu {

inline constexpr int64_t kMostChunks = 128, kLeastRows = 32;  // chunks at most, rows of one at least

// How the rows of a sum are cut: by their number alone.
struct RowChunks {
  int64_t rows, per_chunk;
  unsigned count;

  explicit RowChunks(int64_t n)
      : rows(n),
        per_chunk(at_least(kLeastRows, (n + kMostChunks - 1) / kMostChunks)),
        count(blocks_for(n, per_chunk)) {}
};

// Of the block's tile of 32 columns and chunk of rows, grid (tiles, chunks): sums[k][c] = sum over the rows of
// value(r, c, k). A lane owns a column and the warps take rows in turn; then their sums meet in shared memory. Writes
// partial[chunk][k][c].
template <int kSums, class F>
__device__ void sum_chunk(int64_t rows, int64_t width, int64_t per_chunk, float* partial, const F& value) {
  Shared shared;
  float* sums = shared.take<float>(kSums * kThreads);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarp + lane_index();
  const int64_t first = blockIdx.y * per_chunk, last = first + per_chunk < rows ? first + per_chunk : rows;
  float own[kSums] = {};
  for (int64_t r = first + warp_index(); r < last && c < width; r += warps_in_block()) value(r, c, own);
  for (int k = 0; k < kSums; ++k) sums[k * kThreads + threadIdx.x] = own[k];
  __syncthreads();
  if (warp_index() > 0 || c >= width) return;
  for (int k = 0; k < kSums; ++k) {
    for (int warp = 1; warp < warps_in_block(); ++warp) own[k] += sums[k * kThreads + warp * kWarp + lane_index()];
    partial[(static_cast<int64_t>(blockIdx.y) * kSums + k) * width + c] = own[k];
  }
}
template <int kSums>
size_t sum_chunk_bytes() {
  return shared_bytes<float>(kSums * kThreads);
}

// The sum of partial[chunk][k][c] over the chunks, in ascending order.
__device__ inline float sum_of_chunks(int64_t chunks, int sums, int64_t width, const float* partial, int k, int64_t c) {
  float sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[(chunk * sums + k) * width + c];
  return sum;
}

}  // namespace entangle::gpu
