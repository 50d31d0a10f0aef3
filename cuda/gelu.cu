// Exact GELU, forward and backward.
//
// Math. y = x Phi(x), dx = dy (Phi(x) + x phi(x)). Phi and phi share one exponential: with e = exp(-x^2/2) and
//   t = 1 / (1 + 0.35 |x|),   1 - Phi(|x|) = e S(t) / 2,   phi(x) = e / sqrt(2 pi),
// where S(t) = exp(x^2/2) erfc(|x| / sqrt 2) is a polynomial in t with relative error 3e-8 over |x| <= 10.
// Shapes. x, y, dy, dx: n elements.
// Preconditions. None: any alignment; dx holds a gradient when `add`.
// Launch. Blocks of kThreads over kPerBlock elements; no shared memory. Bound by memory: 8 bytes an element forward, 12
// backward (16 when adding).
// Numerics. fp32; no cancellation on either side of 0; each element by one thread, so the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

struct NormalDistribution {
  float cumulative, density;
};

__device__ inline NormalDistribution normal_distribution(float x) {
  const float e = expf(x * x * -0.5f), t = 1.0f / (1.0f + 0.35f * fabsf(x));
  float s = -0.05830119922757149f;
  s = s * t + 0.28798940777778625f;
  s = s * t - 0.5115248560905457f;
  s = s * t + 0.31846001744270325f;
  s = s * t - 0.04629779979586601f;
  s = s * t + 0.2110496610403061f;
  s = s * t + 0.23965705931186676f;
  s = s * t + 0.27972495555877686f;
  s = s * t + 0.27924272418022156f;
  const float tail = 0.5f * e * (s * t);
  return {x > 0.0f ? 1.0f - tail : tail, 0.3989422804f * e};
}

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
