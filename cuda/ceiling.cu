// What the GPU can do at most: fused multiply-adds in registers, and copying.
//
// Math. multiply_add: x[i] = a x[i] + b, `times` times.  multiply_add_bf16: x[i] = x[i] + a b + a b, a and b rounded to
// bf16.  copy: y = x.
// Shapes. n elements.
// Preconditions. None: any alignment.
// Launch. Blocks of kThreads over kPerBlock elements. multiply_add keeps a thread's four elements in registers: four
// independent chains in each of the 2048 threads of a multiprocessor hide the four cycles of a multiply-add.
// Numerics. fp32; each element by one thread.
#include "cuda/bf16.cuh"
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int kChains = kPerBlock / kThreads;

template <bool kBf16>
__global__ void multiply_add_kernel(int64_t n, int64_t times, float a, float b, float* x) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kPerBlock + threadIdx.x;
  const float left = to_float(to_bf16(a)), right = to_float(to_bf16(b));
  float value[kChains];
  for (int k = 0; k < kChains; ++k) {
    const int64_t i = first + k * kThreads;
    value[k] = i < n ? x[i] : 0.0f;
  }
  for (int64_t t = 0; t < times; ++t) {
    for (int k = 0; k < kChains; ++k) {
      value[k] = kBf16 ? left * right + (left * right + value[k]) : value[k] * a + b;
    }
  }
  for (int k = 0; k < kChains; ++k) {
    const int64_t i = first + k * kThreads;
    if (i < n) x[i] = value[k];
  }
}

__global__ void copy_kernel(int64_t n, const float* x, float* y) {
  for_elements(
      n, [=](int64_t i) { return x[i]; }, [=](int64_t i, float value) { y[i] = value; });
}

}  // namespace

void multiply_add(int64_t n, int64_t times, float a, float b, float* x) {
  LAUNCH(multiply_add_kernel<false>, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, times, a, b, x);
}

void multiply_add_bf16(int64_t n, int64_t times, float a, float b, float* x) {
  LAUNCH(multiply_add_kernel<true>, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, times, a, b, x);
}

void copy(int64_t n, const float* x, float* y) {
  LAUNCH(copy_kernel, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, x, y);
}

}  // namespace entangle::gpu
