// The rows of adamw and sum_squares. They work on bare arrays and record nothing, so these rows do by hand what
// check_case does for operations: guard words, reference, rerun, threads, every place where kernels run.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/device.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference.h"

namespace entangle {
namespace {

// One double on a device, between two others.
class DeviceNumber {
 public:
  DeviceNumber(double value, DeviceKind device)
      : device_(device), memory_(static_cast<double*>(allocate(3 * sizeof(double), device))) {
    const double start[3] = {-1, value, -1};
    copy_bytes(sizeof start, start, DeviceKind::cpu, memory_, device);
  }
  ~DeviceNumber() { deallocate(memory_, device_); }
  DeviceNumber(const DeviceNumber&) = delete;
  DeviceNumber& operator=(const DeviceNumber&) = delete;
  double* data() { return memory_ + 1; }
  double read(const std::string& what, Faults& faults) const {
    double now[3];
    copy_bytes(sizeof now, memory_, device_, now, DeviceKind::cpu);
    if (now[0] != -1 || now[2] != -1) faults.push_back(what + " wrote beside its result");
    return now[1];
  }

 private:
  DeviceKind device_;
  double* memory_;
};

struct AdamWState {
  std::vector<float> arrays[4];  // w, g, m, v
};
const char* const kAdamWNames[] = {"w", "g", "m", "v"};

AdamWState draw_adamw_state(int64_t n) {
  AdamWState state;
  Rng rng(5, Stream::synthetic);
  for (int64_t i = 0; i < n; ++i) {
    const bool untouched = i % 7 == 3;  // outside of every subnet so far: g = m = v = 0
    state.arrays[0].push_back(static_cast<float>(rng.uniform(-1, 1)));
    state.arrays[1].push_back(untouched ? 0 : static_cast<float>(rng.uniform(-0.1, 0.1)));
    state.arrays[2].push_back(untouched ? 0 : static_cast<float>(rng.uniform(-0.01, 0.01)));
    state.arrays[3].push_back(untouched ? 0 : static_cast<float>(rng.uniform(0, 1e-3)));
  }
  return state;
}

AdamWState run_adamw(const AdamWState& start, const AdamWStep& step, double squares, DeviceKind device,
                     const Variation& variation, Faults& faults) {
  variation.choose();
  DeviceNumber number(squares, device);
  std::vector<Guarded> buffers;
  for (const std::vector<float>& array : start.arrays) {
    buffers.emplace_back(static_cast<int64_t>(array.size()), device);
    buffers.back().set(array);
  }
  kernels::adamw.on(device)(buffers[0].count(), step, number.data(), buffers[0].data(), buffers[1].data(),
                            buffers[2].data(), buffers[3].data());
  if (std::isfinite(squares) && number.read("adamw", faults) != squares) faults.push_back("adamw wrote to squares");
  AdamWState end;
  for (size_t i = 0; i < 4; ++i) {
    buffers[i].check(kAdamWNames[i], faults);
    end.arrays[i] = buffers[i].values();
  }
  return end;
}

Faults check_adamw() {
  const SettingsScope restore;
  const AdamWStep plain = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.05f, 0.1f, 0.001f, 0.0f};
  const AdamWStep clipping = {0.1f, 0.8f, 0.95f, 1e-4f, 0.0f, 0.6723f, 0.2649f, 3.7f};
  const std::pair<AdamWStep, double> runs[] = {
      {plain, 1e4}, {clipping, 100}, {clipping, 13}, {plain, INFINITY}, {clipping, NAN}};
  Faults faults;
  for (const int64_t n : {1, 1003, 70001}) {
    const AdamWState start = draw_adamw_state(n);
    for (const auto& [step, squares] : runs) {
      reference::Arrays<reference::Bounded> want;
      for (const auto& array : start.arrays) want.emplace_back(array.begin(), array.end());
      want[1] = reference::adamw(step, squares, want[0], want[1], want[2], want[3]);
      for (const Place& place : places()) {
        place.choose();
        const std::vector<Variation> variations = variations_of(place.device);
        const AdamWState once = run_adamw(start, step, squares, place.device, variations[0], faults);
        for (const Variation& variation : variations) {
          const AdamWState again = run_adamw(start, step, squares, place.device, variation, faults);
          for (size_t i = 0; i < 4; ++i) {
            const std::string what = place.name + ": " + kAdamWNames[i] + " of " + std::to_string(n);
            compare(what, again.arrays[i], want[i], 8, faults);
            compare_bits(what + ", " + variation.name, again.arrays[i], once.arrays[i], faults);
          }
        }
      }
    }
  }
  return faults;
}

constexpr int64_t kTimed = 1 << 21;

void time_adamw(DeviceKind device) {
  const AdamWStep step = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.05f, 0.1f, 0.001f, 0.0f};
  DeviceNumber squares(1, device);
  const Tensor w = Tensor::zeros({kTimed}, device), g = Tensor::zeros({kTimed}, device),
               m = Tensor::zeros({kTimed}, device), v = Tensor::zeros({kTimed}, device);
  kernels::adamw.on(device)(kTimed, step, squares.data(), w.data(), g.data(), m.data(), v.data());
}

const Row adamw_row("adamw", {"adamw"}, check_adamw, time_adamw);

double run_sum_squares(const std::vector<float>& g, DeviceKind device, const Variation& variation, Faults& faults) {
  variation.choose();
  Guarded buffer(static_cast<int64_t>(g.size()), device);
  buffer.set(g);
  DeviceNumber out(NAN, device);
  kernels::sum_squares.on(device)(buffer.count(), buffer.data(), out.data());
  buffer.check("g", faults);
  return out.read("sum_squares", faults);
}

Faults check_sum_squares() {
  const SettingsScope restore;
  Faults faults;
  for (const int64_t n : {1, 17, 1003, 200003}) {
    Rng rng(6, Stream::synthetic);
    std::vector<float> g;
    for (int64_t i = 0; i < n; ++i) g.push_back(static_cast<float>(rng.uniform(-1, 1)));
    const double want = reference::sum_squares(reference::Array<double>(g.begin(), g.end()));
    // Squares of fp32 are exact in double and n roundings of partial sums <= want wander like sqrt(n).
    const double tolerance = 8 * std::ldexp(1.0, -53) * want * std::sqrt(static_cast<double>(n));
    for (const Place& place : places()) {
      place.choose();
      const std::vector<Variation> variations = variations_of(place.device);
      const double once = run_sum_squares(g, place.device, variations[0], faults);
      for (const Variation& variation : variations) {
        const double got = run_sum_squares(g, place.device, variation, faults);
        const std::string what = place.name + ", " + variation.name + ", " + std::to_string(n) + " elements";
        compare_number(what, got, want, tolerance, faults);
        compare_numbers_bits(what, got, once, faults);
      }
    }
  }
  return faults;
}

const Row sum_squares_row("sum_squares", {"sum_squares"}, check_sum_squares, [](DeviceKind device) {
  DeviceNumber out(0, device);
  kernels::sum_squares.on(device)(kTimed, Tensor::zeros({kTimed}, device).data(), out.data());
});

}  // namespace
}  // namespace entangle
