// Mean over a range of tokens, forward and backward.
//
// Math. y[b, c] = (1/count) sum_{first <= t < first+count} x[b, t, c];  dx[b, t, c] = dy[b, c] / count for those t,
// else 0.
// Shapes. x, dx [batch, tokens, width]; y, dy [batch, width].
// Preconditions. 0 <= first, count > 0, first + count <= tokens.
// Launch. Forward: a thread sums one column of one image, neighbours read neighbours. Backward: grid (tiles of an
// image, images), elementwise. No shared memory.
// Numerics. fp32, tokens in ascending order: the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void pool_forward_kernel(PoolShape s, const float* x, float* y) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= s.batch * s.width) return;
  const float* column = x + (i / s.width * s.tokens + s.first) * s.width + i % s.width;
  float sum = 0;
  for (int64_t t = 0; t < s.count; ++t) sum += column[t * s.width];
  y[i] = sum / static_cast<float>(s.count);
}

__global__ void pool_backward_kernel(PoolShape s, const float* dy, float* dx, bool add) {
  const float share = 1.0f / static_cast<float>(s.count);
  const int64_t begin = s.first * s.width, end = begin + s.count * s.width, n = s.tokens * s.width;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    for_elements(n, [=](int64_t i) {
      const bool pooled = i >= begin && i < end;
      put(dx + b * n + i, pooled ? dy[b * s.width + i % s.width] * share : 0.0f, add);
    });
  }
}

}  // namespace

void pool_forward(const PoolShape& s, const float* x, float* y) {
  LAUNCH(pool_forward_kernel, blocks_for(s.batch * s.width, kThreads), kThreads, 0, stream(), s, x, y);
}

void pool_backward(const PoolShape& s, const float* dy, float* dx, bool add) {
  LAUNCH(pool_backward_kernel, image_grid(s.tokens * s.width, s.batch), kThreads, 0, stream(), s, dy, dx, add);
}

}  // namespace entangle::gpu
