#include "tools/common/ceilings.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device.h"
#include "engine/ops.h"
#include "engine/parallel.h"
#include "engine/tensor.h"

namespace entangle {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The seconds of the fastest of the runs that fit into `budget` seconds, at least three; the first warms up.
template <class F>
double fastest(double budget, const F& run) {
  run();
  double best = 0;
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 3 || seconds_since(begin) < budget; ++i) {
    const Clock::time_point start = Clock::now();
    run();
    const double seconds = seconds_since(start);
    if (i == 0 || seconds < best) best = seconds;
  }
  return best;
}

// Floats of a buffer of four last-level caches, 64 MB to 512 MB; on a GPU 512 MB.
int64_t copied_floats(DeviceKind device) {
#if defined(ENTANGLE_CUDA_EMULATED)
  if (device == DeviceKind::cuda) return 1 << 10;
#endif
  int64_t cache = device == DeviceKind::cpu ? 0 : 128 << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  if (device == DeviceKind::cpu) cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
#endif
  return std::clamp<int64_t>(4 * cache, 64 << 20, 512 << 20) / static_cast<int64_t>(sizeof(float));
}

template <class Kernel>
double multiply_add_gflops(const Kernel& multiply_adds) {
  // 3 MFLOP per block of 1536 elements. Eight blocks for each thread take less than a time slice of the scheduler, so
  // some of the runs have every core to themselves even when others compute too.
  constexpr int64_t kTimes = 1000, kElements = 8 * 1536;
  std::vector<float> x(static_cast<size_t>(kElements * threads()), 1.0f);
  const auto kernel = multiply_adds.on(DeviceKind::cpu);
  const int64_t n = static_cast<int64_t>(x.size());
  const double seconds = fastest(0.25, [&] { kernel(n, kTimes, 0.5f, 0.5f, x.data()); });
  return 1e-9 * static_cast<double>(kernel.cost(n, kTimes, 0.5f, 0.5f, x.data()).flops) / seconds;
}

double product_gflops(DeviceKind device, Precision precision) {
#if defined(ENTANGLE_CUDA_EMULATED)
  constexpr int64_t kSize = 64;
#else
  constexpr int64_t kSize = 8192;
#endif
  const Tensor x = Tensor::zeros({kSize, kSize}, device), w = Tensor::zeros({kSize, kSize}, device);
  const double seconds = fastest(0.25, [&] {
    linear(x, w, Tensor(), precision);
    synchronize(device);
  });
  return 2e-9 * static_cast<double>(kSize * kSize * kSize) / seconds;
}

}  // namespace

double measure_gflops_ceiling(DeviceKind device, Precision precision) {
  if (device != DeviceKind::cpu) return product_gflops(device, precision);
  return precision == Precision::bf16 ? multiply_add_gflops(kernels::multiply_add_bf16)
                                      : multiply_add_gflops(kernels::multiply_add);
}

double measure_copy_ceiling(DeviceKind device) {
  const int64_t n = copied_floats(device);
  const auto kernel = kernels::copy.on(device);
  const auto gbytes = [&](const float* from, float* to) {
    const double seconds = fastest(0.2, [&] {
      kernel(n, from, to);
      synchronize(device);
    });
    return 1e-9 * static_cast<double>(kernel.cost(n, from, to).bytes) / seconds;
  };
  if (device != DeviceKind::cpu) {
    const Tensor from = Tensor::zeros({n}, device), to = Tensor::zeros({n}, device);
    return gbytes(from.data(), to.data());
  }
  // Outside of the tensor allocator, whose peak is a figure of its own. Written first: pages never written share one.
  const std::unique_ptr<float[]> from(new float[static_cast<size_t>(n)]), to(new float[static_cast<size_t>(n)]);
  std::fill_n(from.get(), n, 1.0f);
  return gbytes(from.get(), to.get());
}

}  // namespace entangle
