// Dropout, forward and backward.
//
// Math. y[i] = x[i] / (1 - rate) where word first + i of the random sequence, as a uniform number, is at least rate; else 0.
// The map is linear and symmetric, so the backward pass is the same function of dy, with the mask drawn again.
// Shapes. n elements.
// Preconditions. 0 <= rate < 1, first >= 0.
// Launch. A thread takes the elements, up to four, that share one block of Philox words; no shared memory.
// Numerics. The mask is equal on every device: random words are functions of (key, first + i). The same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void dropout_kernel(int64_t n, float rate, RngKey key, int64_t first, const float* x, float* y, bool add) {
  const int64_t four = first / 4 + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const RngBlock words = rng_block(key, static_cast<uint64_t>(four));
  const float keep = 1.0f / (1.0f - rate);
  for (int k = 0; k < 4; ++k) {
    const int64_t i = four * 4 + k - first;
    const float uniform = static_cast<float>(words.word[k] >> 8) * (1.0f / 16777216.0f);
    if (i >= 0 && i < n) put(y + i, uniform >= rate ? x[i] * keep : 0.0f, add);
  }
}

// Blocks for the elements and for those before the first in its block of words.
unsigned blocks_from(int64_t first, int64_t n) { return blocks_for(n == 0 ? 0 : first % 4 + n, 4 * kThreads); }

}  // namespace

void dropout_forward(int64_t n, float rate, RngKey key, int64_t first, const float* x, float* y) {
  LAUNCH(dropout_kernel, blocks_from(first, n), kThreads, 0, stream(), n, rate, key, first, x, y, false);
}

void dropout_backward(int64_t n, float rate, RngKey key, int64_t first, const float* dy, float* dx, bool add) {
  LAUNCH(dropout_kernel, blocks_from(first, n), kThreads, 0, stream(), n, rate, key, first, dy, dx, add);
}

}  // namespace entangle::gpu
