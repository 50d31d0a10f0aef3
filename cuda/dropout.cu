// Dropout, forward and backward.
//
// Math. y[i] = x[i] / (1 - rate) where word i of the random sequence, as a uniform number, is at least rate; else 0.
// The map is linear and symmetric, so the backward pass is the same function of dy, with the mask drawn again.
// Shapes. n elements.
// Preconditions. 0 <= rate < 1.
// Launch. A thread takes four elements that share one block of Philox words; no shared memory.
// Numerics. The mask is equal on every device: random words are functions of (key, i). The same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void dropout_kernel(int64_t n, float rate, RngKey key, const float* x, float* y, bool add) {
  const int64_t four = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const RngBlock words = rng_block(key, static_cast<uint64_t>(four));
  const float keep = 1.0f / (1.0f - rate);
  for (int k = 0; k < 4; ++k) {
    const int64_t i = four * 4 + k;
    const float uniform = static_cast<float>(words.word[k] >> 8) * (1.0f / 16777216.0f);
    if (i < n) put(y + i, uniform >= rate ? x[i] * keep : 0.0f, add);
  }
}

}  // namespace

void dropout_forward(int64_t n, float rate, RngKey key, const float* x, float* y) {
  LAUNCH(dropout_kernel, blocks_for(n, 4 * kThreads), kThreads, 0, stream(), n, rate, key, x, y, false);
}

void dropout_backward(int64_t n, float rate, RngKey key, const float* dy, float* dx, bool add) {
  LAUNCH(dropout_kernel, blocks_for(n, 4 * kThreads), kThreads, 0, stream(), n, rate, key, dy, dx, add);
}

}  // namespace entangle::gpu
