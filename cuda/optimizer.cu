// The gradient's norm, and AdamW.
//
// Math. sum_squares: out[0] = sum g^2.
//   adamw: g' = clip g;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2;
//   w = w (1 - lr decay) - lr (m/c1) / (sqrt(v/c2) + eps);  g = 0.
//   clip = min(1, clip_norm / sqrt(squares[0])), or 1 when clip_norm is 0; squares[0] not finite: only g = 0.
// Shapes. g, w, m, v: n elements of the parameter arena. out, squares: one double in device memory, so that the host
// waits for neither.
// Preconditions. eps > 0.
// Launch. adamw: blocks of kThreads over kPerBlock elements, no shared memory; 32 bytes an element, bound by memory.
//   sum_squares: at most kMostBlocks blocks, each over fixed strides of the array, whose sums are added as in
//   block_sums.cuh; a place of shared memory for each warp.
// Numerics. fp32; sum_squares in double, where squares are exact. Fixed strides, fixed order: the same bits always.
#include "cuda/block_sums.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int64_t kMostBlocks = 256;

__global__ void adamw_kernel(int64_t n, AdamWStep s, const double* squares, float* w, float* g, float* m, float* v) {
  if (!isfinite(squares[0])) {
    for_elements(n, [=](int64_t i) { g[i] = 0; });
    return;
  }
  const float norm = static_cast<float>(sqrt(squares[0]));
  const float clip = s.clip_norm > 0 && norm > s.clip_norm ? s.clip_norm / norm : 1.0f;
  const float shrink = 1.0f - s.lr * s.decay, step = s.lr / s.correction1;
  const float root_correction = 1.0f / sqrtf(s.correction2);
  struct Element {
    float w, g, m, v;
  };
  for_elements(
      n,
      [=](int64_t i) {
        return Element{w[i], g[i], m[i], v[i]};
      },
      [=](int64_t i, const Element& at) {
        const float gradient = at.g * clip;
        const float first = s.beta1 * at.m + (1.0f - s.beta1) * gradient;
        const float second = s.beta2 * at.v + (1.0f - s.beta2) * gradient * gradient;
        w[i] = at.w * shrink - step * first / (sqrtf(second) * root_correction + s.eps);
        m[i] = first;
        v[i] = second;
        g[i] = 0;
      });
}

__global__ void sum_squares_kernel(int64_t n, const float* g, double* partial, unsigned* counts, double* out) {
  Shared shared;
  double* scratch = shared.take<double>(warps_in_block());
  int* flag = shared.take<int>(1);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  double sum = 0;
  walk<8>(
      static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, n, stride, [=](int64_t i) { return g[i]; },
      [&](int64_t, float value) { sum += static_cast<double>(value) * static_cast<double>(value); });
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  sum_over_blocks(blockIdx.x, gridDim.x, 1, partial, counts, flag, [=](int64_t, double total) { *out = total; });
}

}  // namespace

void adamw(int64_t n, const AdamWStep& s, const double* squares, float* w, float* g, float* m, float* v) {
  LAUNCH(adamw_kernel, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, s, squares, w, g, m, v);
}

void sum_squares(int64_t n, const float* g, double* out) {
  const int64_t blocks = at_most(kMostBlocks, blocks_for(n, kPerBlock));
  const Workspace<double> partial(tree_places(blocks));
  LAUNCH(sum_squares_kernel, static_cast<unsigned>(blocks), kThreads,
         shared_bytes<double>(kThreads / kWarp) + shared_bytes<int>(1), stream(), n, g, partial.data(),
         arrivals(tree_counts(blocks)), out);
}

}  // namespace entangle::gpu
