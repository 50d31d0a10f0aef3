#include "tools/common/ceilings.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/ops.h"
#include "engine/parallel.h"

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

// Floats of a buffer of four last-level caches, 64 MB to 512 MB.
int64_t copy_floats() {
  int64_t cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
#endif
  return std::clamp<int64_t>(4 * cache, 64 << 20, 512 << 20) / static_cast<int64_t>(sizeof(float));
}

}  // namespace

double measure_gflops_ceiling() {
  // 3 MFLOP per block of 1536 elements. Eight blocks for each thread take less than a time slice of the scheduler, so
  // some of the runs have every core to themselves even when others compute too.
  constexpr int64_t kTimes = 1000, kElements = 8 * 1536;
  std::vector<float> x(static_cast<size_t>(kElements * threads()), 1.0f);
  const auto kernel = kernels::multiply_add.on(DeviceKind::cpu);
  const int64_t n = static_cast<int64_t>(x.size());
  const double seconds = fastest(0.25, [&] { kernel(n, kTimes, 0.5f, 0.5f, x.data()); });
  return 1e-9 * static_cast<double>(kernel.cost(n, kTimes, 0.5f, 0.5f, x.data()).flops) / seconds;
}

double measure_copy_ceiling() {
  const int64_t n = copy_floats();
  // Outside of the tensor allocator, whose peak is a figure of its own. Written first: pages never written share one.
  const std::unique_ptr<float[]> from(new float[static_cast<size_t>(n)]), to(new float[static_cast<size_t>(n)]);
  std::fill_n(from.get(), n, 1.0f);
  const auto kernel = kernels::copy.on(DeviceKind::cpu);
  const double seconds = fastest(0.2, [&] { kernel(n, from.get(), to.get()); });
  return 1e-9 * static_cast<double>(kernel.cost(n, from.get(), to.get()).bytes) / seconds;
}

}  // namespace entangle
