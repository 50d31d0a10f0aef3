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
  for_elements(
      n, [=](int64_t i) { return x[i]; },
      [=](int64_t i, float value) { y[i] = value * normal_distribution(value).cumulative; });
}

__global__ void gelu_backward_kernel(int64_t n, const float* x, const float* dy, float* dx, bool add) {
  struct Element {
    float x, dy, before;
  };
  for_elements(
      n,
      [=](int64_t i) {
        return Element{x[i], dy[i], add ? dx[i] : 0.0f};
      },
      [=](int64_t i, const Element& at) {
        const NormalDistribution normal = normal_distribution(at.x);
        dx[i] = at.before + at.dy * (normal.cumulative + at.x * normal.density);
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
