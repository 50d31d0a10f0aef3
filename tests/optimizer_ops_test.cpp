// The rows of adamw and sum_squares. They work on bare arrays and record nothing, so these rows do by hand what
// check_case does for operations: guard words, reference, rerun, threads, every instruction-set path.
#include <algorithm>
#include <cmath>

#include "engine/ops.h"
#include "engine/parallel.h"
#include "tests/harness.h"
#include "tests/reference.h"

namespace entangle {
namespace {

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

AdamWState run_adamw(const AdamWState& start, const AdamWStep& step, int thread_count, Faults& faults) {
  set_threads(thread_count);
  std::vector<Guarded> buffers;
  for (const std::vector<float>& array : start.arrays) {
    buffers.emplace_back(static_cast<int64_t>(array.size()));
    std::copy(array.begin(), array.end(), buffers.back().data());
  }
  kernels::adamw.on(DeviceKind::cpu)(buffers[0].count(), step, buffers[0].data(), buffers[1].data(), buffers[2].data(),
                                     buffers[3].data());
  AdamWState end;
  for (size_t i = 0; i < 4; ++i) {
    buffers[i].check(kAdamWNames[i], faults);
    end.arrays[i] = buffers[i].values();
  }
  return end;
}

Faults check_adamw() {
  const SettingsScope restore;
  const AdamWStep steps[] = {{1e-3f, 0.9f, 0.999f, 1e-8f, 0.05f, 0.1f, 0.001f, 1.0f},
                             {0.1f, 0.8f, 0.95f, 1e-4f, 0.0f, 0.6723f, 0.2649f, 0.37f}};
  Faults faults;
  for (const int64_t n : {1, 1003, 70001}) {
    const AdamWState start = draw_adamw_state(n);
    for (const AdamWStep& step : steps) {
      reference::Arrays<reference::Bounded> want;
      for (const auto& array : start.arrays) want.emplace_back(array.begin(), array.end());
      want[1] = reference::adamw(step, want[0], want[1], want[2], want[3]);
      for (const CpuPath path : supported_paths()) {
        set_cpu_path(path);
        const AdamWState once = run_adamw(start, step, 1, faults), again = run_adamw(start, step, 1, faults);
        const AdamWState two_threads = run_adamw(start, step, 2, faults);
        for (size_t i = 0; i < 4; ++i) {
          const std::string what = std::string(name_of(path)) + ": " + kAdamWNames[i] + " of " + std::to_string(n);
          compare(what, once.arrays[i], want[i], 8, faults);
          compare_bits(what + ", rerun", again.arrays[i], once.arrays[i], faults);
          compare_bits(what + ", two threads", two_threads.arrays[i], once.arrays[i], faults);
        }
      }
    }
  }
  return faults;
}

const Row adamw_row("adamw", {"adamw"}, check_adamw);

double run_sum_squares(const std::vector<float>& g, int thread_count, Faults& faults) {
  set_threads(thread_count);
  Guarded buffer(static_cast<int64_t>(g.size()));
  std::copy(g.begin(), g.end(), buffer.data());
  double out[3] = {-1, NAN, -1};
  kernels::sum_squares.on(DeviceKind::cpu)(buffer.count(), buffer.data(), &out[1]);
  buffer.check("g", faults);
  if (out[0] != -1 || out[2] != -1) faults.push_back("sum_squares wrote beside its result");
  return out[1];
}

Faults check_sum_squares() {
  const SettingsScope restore;
  Faults faults;
  for (const int64_t n : {1, 17, 1003, 200003}) {
    Rng rng(6, Stream::synthetic);
    std::vector<float> g;
    for (int64_t i = 0; i < n; ++i) g.push_back(static_cast<float>(rng.uniform(-1, 1)));
    const double want = reference::sum_squares(reference::Array<double>(g.begin(), g.end()));
    for (const CpuPath path : supported_paths()) {
      set_cpu_path(path);
      const double got = run_sum_squares(g, 1, faults), two_threads = run_sum_squares(g, 2, faults);
      // Squares of fp32 are exact in double and n roundings of partial sums <= want wander like sqrt(n).
      const double tolerance = 8 * std::ldexp(1.0, -53) * want * std::sqrt(static_cast<double>(n));
      if (std::fabs(got - want) <= tolerance && got == two_threads) continue;
      faults.push_back(std::string(name_of(path)) + ", " + std::to_string(n) + " elements: " + std::to_string(got) +
                       " with one thread, " + std::to_string(two_threads) + " with two, not " + std::to_string(want));
    }
  }
  return faults;
}

const Row sum_squares_row("sum_squares", {"sum_squares"}, check_sum_squares);

}  // namespace
}  // namespace entangle
