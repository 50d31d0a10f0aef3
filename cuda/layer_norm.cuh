// Layer normalisation of one row by one warp: what layer_norm.cu and residual_norm.cu share.
//
// A row is read from device memory once and from the L1 cache after that: a warp's row of a few kilobytes stays there.
#pragma once

#include "cuda/row_sums.cuh"

namespace entangle::gpu {

inline constexpr int kRowsPerBlock = 8;  // a warp takes a row

struct RowStatistics {
  float mean, rstd;
};

// The row that this warp of a grid of kRowsPerBlock rows a block takes.
__device__ inline int64_t row_of_warp() { return static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + warp_index(); }

// y = (x - mean) rstd w + b. The variance is that about the mean, in a second pass: no cancellation.
__device__ inline RowStatistics normalise_row(int64_t width, float eps, const float* x, const float* w, const float* b,
                                              float* y) {
  const float n = static_cast<float>(width);
  float sum = 0, squares = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) sum += x[c];
  const float mean = warp_sum(sum) / n;
  for (int64_t c = lane_index(); c < width; c += kWarp) squares += (x[c] - mean) * (x[c] - mean);
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / n + eps);
  for (int64_t c = lane_index(); c < width; c += kWarp) y[c] = (x[c] - mean) * rstd * w[c] + b[c];
  return {mean, rstd};
}

// With h = dy w and xhat = (x - mean) rstd: puts rstd (h - avg(h) - xhat avg(h xhat)) into dx.
__device__ inline void backward_row(int64_t width, const RowStatistics& row, const float* x, const float* w,
                                    const float* dy, float* dx, bool add) {
  const float n = static_cast<float>(width);
  float sum_h = 0, sum_hx = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) {
    const float h = dy[c] * w[c];
    sum_h += h;
    sum_hx += h * ((x[c] - row.mean) * row.rstd);
  }
  const float average_h = warp_sum(sum_h) / n, average_hx = warp_sum(sum_hx) / n;
  for (int64_t c = lane_index(); c < width; c += kWarp) {
    const float h = dy[c] * w[c], normal = (x[c] - row.mean) * row.rstd;
    put(dx + c, (h - average_h - normal * average_hx) * row.rstd, add);
  }
}

// dw[c] += sum of partial[chunk][0][c], db[c] += sum of partial[chunk][1][c]; layer_norm.cu. `partial` holds [chunks, 2,
// width].
void add_norm_gradients(int64_t chunks, int64_t width, const float* partial, float* dw, float* db);

}  // namespace entangle::gpu
