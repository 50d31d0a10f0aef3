// The ceilings: the rows of their kernels, which record nothing (so these rows do by hand what check_case does), and
// what is measured with them.
#include <gtest/gtest.h>

#include "engine/ops.h"
#include "engine/parallel.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference_numbers.h"
#include "tools/common/ceilings.h"

namespace entangle {
namespace {

template <class T>
reference::Array<T> multiply_add(const reference::Array<T>& x, int64_t times, double a, double b) {
  reference::Array<T> y = x;
  for (T& e : y) {
    for (int64_t t = 0; t < times; ++t) e = T(a) * e + T(b);
  }
  return y;
}

std::vector<float> draw(int64_t n) {
  Rng rng(7, Stream::synthetic);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(rng.uniform(-1, 1)));
  return values;
}

std::vector<float> run_multiply_add(const std::vector<float>& x, int64_t times, DeviceKind device, Faults& faults) {
  Guarded buffer(static_cast<int64_t>(x.size()), device);
  buffer.set(x);
  kernels::multiply_add.on(device)(buffer.count(), times, 0.75f, -0.5f, buffer.data());
  buffer.check("x", faults);
  return buffer.values();
}

Faults check_multiply_add() {
  const SettingsScope restore;
  Faults faults;
  for (const int64_t n : {1, 191, 1537, 6001}) {
    const std::vector<float> x = draw(n);
    for (const int64_t times : {0, 1, 9}) {
      const auto want = multiply_add(reference::Array<reference::Bounded>(x.begin(), x.end()), times, 0.75, -0.5);
      for (const Place& place : places()) {
        place.choose();
        std::vector<float> once;
        for (const Variation& variation : variations_of(place.device)) {
          variation.choose();
          const std::vector<float> got = run_multiply_add(x, times, place.device, faults);
          if (once.empty()) once = got;
          compare_bits(describe(place.name + ", " + variation.name + ", elements", {n}), got, once, faults);
        }
        compare(describe(place.name + ", elements", {n}), once, want, 8, faults);
      }
    }
  }
  return faults;
}

const Row multiply_add_row("multiply_add", {"multiply_add"}, check_multiply_add);

Faults check_copy() {
  const SettingsScope restore;
  Faults faults;
  for (const int64_t n : {1, 1003, (1 << 18) + 5}) {
    const std::vector<float> x = draw(n);
    for (const Place& place : places()) {
      place.choose();
      for (const Variation& variation : variations_of(place.device)) {
        variation.choose();
        Guarded from(n, place.device), y(n, place.device);
        from.set(x);
        kernels::copy.on(place.device)(n, from.data(), y.data());
        y.check("y", faults);
        compare_bits(describe(place.name + ", " + variation.name + ", elements", {n}), y.values(), x, faults);
      }
    }
  }
  return faults;
}

const Row copy_row("copy", {"copy"}, check_copy);

TEST(Ceilings, FollowThePath) {
  const SettingsScope restore;
  set_threads(1);
  double gflops[kCpuPaths] = {};
  for (const CpuPath path : supported_paths()) {
    set_cpu_path(path);
    gflops[static_cast<size_t>(path)] = measure_gflops_ceiling();
    EXPECT_GT(gflops[static_cast<size_t>(path)], 0.1) << name_of(path);
  }
#if defined(__x86_64__)
  // Twice the lanes and one instruction for two: four times the rate, less what others on the machine take away.
  if (cpu_supports(CpuPath::avx2)) {
    EXPECT_GT(gflops[1], 1.2 * gflops[0]);
  }
#endif
}

}  // namespace
}  // namespace entangle
