// Exact GELU, forward and backward.
//
// Math. y = x Phi(x), dx = dy (Phi(x) + x phi(x)); Phi and phi by normal.cuh.
// Shapes. x, y, dy, dx: n elements.
// Preconditions. None: any alignment; dx holds a gradient when `add`.
// Launch. Blocks of kThreads over kPerBlock elements; no shared memory. Bound by memory: 8 bytes an element forward, 12
// backward (16 when adding).
// Numerics. fp32; no cancellation on either side of 0; each element by one thread, so the same bits always.
#include "cuda/normal.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void gelu_forward_kernel(int64_t n, const float* x, float* y) {
  for_elements(n, [=](int64_t i) { y[i] = x[i] * normal_distribution(x[i]).cumulative; });
}

__global__ void gelu_backward_kernel(int64_t n, const float* x, const float* dy, float* dx, bool add) {
  for_elements(n, [=](int64_t i) {
    const NormalDistribution normal = normal_distribution(x[i]);
    put(dx + i, dy[i] * (normal.cumulative + x[i] * normal.density), add);
  });
}

}  // namespace

void gelu_forward(int64_t n, const float* x, float* y) {
  LAUNCH(gelu_forward_kernel, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, x, y);
}

void gelu_backward(int64_t n, const float* x, const float* dy, float* dx, bool add) {
  LAUNCH(gelu_backward_kernel, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, x, dy, dx, add);
}

}  // namespace entangle::gpu
