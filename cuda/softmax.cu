// Softmax over rows, forward and backward.
//
// Math. y = exp(scale x - m) / sum_j exp(scale x_j - m), m the largest scale x_j of the row;
//   dx = scale y (dy - sum_j y_j dy_j).
// Shapes. x, y, dy, dx [rows, width].
// Preconditions. width > 0; dx holds a gradient when `add`.
// Launch. A warp per row, kRowsPerBlock rows in a block, no shared memory. Forward, a row of at most 32 kMostHeld values
// is read once: a lane holds its kHeld values in registers, kHeld chosen at the launch. A longer row is read twice, and
// its exponentials wait in y, where each lane finds its own again. Backward reads a row again from the L1 cache.
// Numerics. fp32. The largest value is subtracted before any exponential: sums lie in [1, width]. Minus infinity gives
// 0; a NaN makes its row NaN, since it enters the sum. Sums as a butterfly of lanes: the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int kRowsPerBlock = 8, kLeastHeld = 8, kMostHeld = 32;

__device__ int64_t row_of_warp() { return static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + warp_index(); }

template <int kHeld>
__global__ void softmax_held_kernel(int64_t rows, int width, float scale, const float* x, float* y) {
  const int64_t r = row_of_warp();
  if (r >= rows) return;  // a whole warp
  float held[kHeld], largest = -INFINITY, sum = 0;
  for (int k = 0; k < kHeld; ++k) {
    const int c = k * kWarp + lane_index();
    held[k] = c < width ? scale * x[r * width + c] : -INFINITY;
    largest = fmaxf(largest, held[k]);
  }
  largest = warp_max(largest);
  for (int k = 0; k < kHeld; ++k) {
    held[k] = expf(held[k] - largest);  // 0 beyond the row
    sum += held[k];
  }
  const float inverse = 1.0f / warp_sum(sum);
  for (int k = 0; k < kHeld; ++k) {
    const int c = k * kWarp + lane_index();
    if (c < width) y[r * width + c] = held[k] * inverse;
  }
}

__global__ void softmax_long_kernel(int64_t rows, int64_t width, float scale, const float* x, float* y) {
  const int64_t r = row_of_warp();
  if (r >= rows) return;  // a whole warp
  const float* in = x + r * width;
  float* out = y + r * width;
  float largest = -INFINITY, sum = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) largest = fmaxf(largest, scale * in[c]);
  largest = warp_max(largest);
  for_row(
      width, [=](int64_t c) { return expf(scale * in[c] - largest); },
      [&](int64_t c, float e) {
        out[c] = e;
        sum += e;
      });
  const float inverse = 1.0f / warp_sum(sum);
  for_row(
      width, [=](int64_t c) { return out[c] * inverse; }, [=](int64_t c, float value) { out[c] = value; });
}

__global__ void softmax_backward_kernel(int64_t rows, int64_t width, float scale, const float* y, const float* dy,
                                        float* dx, bool add) {
  const int64_t r = row_of_warp();
  if (r >= rows) return;  // a whole warp
  const float *p = y + r * width, *g = dy + r * width;
  float mean = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) mean += p[c] * g[c];
  mean = warp_sum(mean);
  float* const own = dx + r * width;
  for_row(
      width, [=](int64_t c) { return p[c] * scale * (g[c] - mean) + (add ? own[c] : 0.0f); },
      [=](int64_t c, float value) { own[c] = value; });
}

}  // namespace

void softmax_forward(int64_t rows, int64_t width, float scale, const float* x, float* y) {
  const auto launch = [&](const char* name, auto kernel) {
    LAUNCH_AS(name, kernel, blocks_for(rows, kRowsPerBlock), kRowsPerBlock * kWarp, 0, stream(), rows, width, scale, x,
              y);
  };
  if (width <= kLeastHeld * kWarp) return launch("softmax_held_kernel", softmax_held_kernel<kLeastHeld>);
  if (width <= kMostHeld * kWarp) return launch("softmax_held_kernel", softmax_held_kernel<kMostHeld>);
  launch("softmax_long_kernel", softmax_long_kernel);
}

void softmax_backward(int64_t rows, int64_t width, float scale, const float* y, const float* dy, float* dx, bool add) {
  LAUNCH(softmax_backward_kernel, blocks_for(rows, kRowsPerBlock), kRowsPerBlock * kWarp, 0, stream(), rows, width,
         scale, y, dy, dx, add);
}

}  // namespace entangle::gpu
