// The rows of the ceilings' kernels, which record nothing, so these rows do by hand what check_case does.
#include "engine/ops.h"
#include "engine/parallel.h"
#include "engine/tensor.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference_numbers.h"

namespace entangle {
namespace {

// bf16 numbers both.
constexpr float kA = 0.75f, kB = -0.4140625f;

template <class T>
reference::Array<T> multiply_add(const reference::Array<T>& x, int64_t times, bool bf16) {
  reference::Array<T> y = x;
  for (T& e : y) {
    for (int64_t t = 0; t < times; ++t) e = bf16 ? e + T(kA) * T(kB) + T(kA) * T(kB) : T(kA) * e + T(kB);
  }
  return y;
}

std::vector<float> draw(int64_t n) {
  Rng rng(7, Stream::synthetic);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(rng.uniform(-1, 1)));
  return values;
}

template <class Kernel>
std::vector<float> run_multiply_add(const Kernel& kernel, const std::vector<float>& x, int64_t times, DeviceKind device,
                                    Faults& faults) {
  Guarded buffer(static_cast<int64_t>(x.size()), device);
  buffer.set(x);
  kernel.on(device)(buffer.count(), times, kA, kB, buffer.data());
  buffer.check("x", faults);
  return buffer.values();
}

template <class Kernel>
Faults check_multiply_add(const Kernel& kernel, bool bf16) {
  const SettingsScope restore;
  Faults faults;
  for (const int64_t n : {1, 191, 1537, 6001}) {
    const std::vector<float> x = draw(n);
    for (const int64_t times : {0, 1, 9}) {
      const auto want = multiply_add(reference::Array<reference::Bounded>(x.begin(), x.end()), times, bf16);
      for (const Place& place : places()) {
        place.choose();
        std::vector<float> once;
        for (const Variation& variation : variations_of(place.device)) {
          variation.choose();
          const std::vector<float> got = run_multiply_add(kernel, x, times, place.device, faults);
          if (once.empty()) once = got;
          compare_bits(describe(place.name + ", " + variation.name + ", elements", {n}), got, once, faults);
        }
        compare(describe(place.name + ", elements", {n}), once, want, 8, faults);
      }
    }
  }
  return faults;
}

// As the ceiling is measured (tools/common/ceilings.cpp).
template <class Kernel>
void time_multiply_add(const Kernel& kernel, DeviceKind device) {
  const int64_t n = 8 * 1536 * threads();
  kernel.on(device)(n, 1000, 0.5f, 0.5f, Tensor::zeros({n}, device).data());
}

const Row multiply_add_row(
    "multiply_add", {"multiply_add"}, [] { return check_multiply_add(kernels::multiply_add, false); },
    [](DeviceKind device) { time_multiply_add(kernels::multiply_add, device); });
const Row multiply_add_bf16_row(
    "multiply_add_bf16", {"multiply_add_bf16"}, [] { return check_multiply_add(kernels::multiply_add_bf16, true); },
    [](DeviceKind device) { time_multiply_add(kernels::multiply_add_bf16, device); });

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
        const std::string what = describe(place.name + ", " + variation.name + ", elements", {n});
        compare(what, y.values(), reference::Array<reference::Bounded>(x.begin(), x.end()), 8, faults);
        compare_bits(what, y.values(), x, faults);  // every time the same, then, too
      }
    }
  }
  return faults;
}

const Row copy_row("copy", {"copy"}, check_copy, [](DeviceKind device) {
  constexpr int64_t kCount = 1 << 24;
  const Tensor x = Tensor::zeros({kCount}, device), y = Tensor::zeros({kCount}, device);
  kernels::copy.on(device)(kCount, x.data(), y.data());
});

}  // namespace
}  // namespace entangle
