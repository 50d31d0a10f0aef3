// Residual connection with drop-path, forward and backward.
//
// Math. y[b] = x[b] + factor[b] branch[b];  dbranch[b] = factor[b] dy[b]. factor null: 1.
// Shapes. x, branch, y, dy, dbranch [batch, n]; factor [batch].
// Preconditions. None: any alignment; dbranch holds a gradient when `add`.
// Launch. Grid (tiles of an image, images), blocks of kThreads over kPerBlock elements of one image, so that no element
// has to find its image by a division; no shared memory.
// Numerics. fp32; each element by one thread, so the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void residual_forward_kernel(int64_t batch, int64_t n, const float* x, const float* branch,
                                        const float* factor, float* y) {
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    const float scale = factor == nullptr ? 1.0f : factor[b];
    for_elements(n, [=](int64_t i) { y[b * n + i] = x[b * n + i] + scale * branch[b * n + i]; });
  }
}

__global__ void residual_backward_kernel(int64_t batch, int64_t n, const float* factor, const float* dy, float* dbranch,
                                         bool add) {
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    const float scale = factor == nullptr ? 1.0f : factor[b];
    for_elements(n, [=](int64_t i) { put(dbranch + b * n + i, scale * dy[b * n + i], add); });
  }
}

}  // namespace

void residual_forward(int64_t batch, int64_t n, const float* x, const float* branch, const float* factor, float* y) {
  LAUNCH(residual_forward_kernel, image_grid(n, batch), kThreads, 0, stream(), batch, n, x, branch, factor, y);
}

void residual_backward(int64_t batch, int64_t n, const float* factor, const float* dy, float* dbranch, bool add) {
  LAUNCH(residual_backward_kernel, image_grid(n, batch), kThreads, 0, stream(), batch, n, factor, dy, dbranch, add);
}

}  // namespace entangle::gpu
