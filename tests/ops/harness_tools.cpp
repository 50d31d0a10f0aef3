#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"
#include "engine/parallel.h"
#include "tests/ops/harness.h"

#if defined(ENTANGLE_CUDA_EMULATED)
#include "cuda/emulator/emulator.h"
#endif

namespace entangle {

using reference::Array;
using reference::Bounded;

namespace {

constexpr uint32_t kGuardBits = 0x7fb5a5a5u;  // a signalling NaN: arithmetic on it gives a quiet one
constexpr double kEps = 1.0 / (1 << 24);

}  // namespace

uint32_t bits_of(float word) {
  uint32_t bits;
  std::memcpy(&bits, &word, sizeof bits);
  return bits;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

Generator uniform(double low, double high) {
  return [low, high](Rng& rng, int64_t) { return static_cast<float>(rng.uniform(low, high)); };
}

void compare(const std::string& what, const std::vector<float>& got, const Array<Bounded>& want, double c,
             Faults& faults) {
  if (got.size() != want.size()) {
    faults.push_back(concat(what, ": ", got.size(), " elements, not ", want.size()));
    return;
  }
  size_t wrong = 0, worst = 0;
  double worst_ratio = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double smallest = std::numeric_limits<float>::min();
    const double tolerance = c * kEps * (std::max(std::fabs(want[i].value), want[i].error) + smallest);
    const double ratio = std::fabs(double(got[i]) - want[i].value) / tolerance;
    if (std::isfinite(tolerance) && ratio <= 1) continue;
    if (wrong++ == 0 || !(ratio <= worst_ratio)) {
      worst = i;
      worst_ratio = ratio;
    }
  }
  if (wrong == 0) return;
  faults.push_back(concat(what, ": ", wrong, " of ", got.size(), " elements are wrong; element ", worst, " is ",
                          got[worst], ", not ", want[worst].value, ", off by ", worst_ratio, " times the tolerance"));
}

void compare_bits(const std::string& what, const std::vector<float>& got, const std::vector<float>& want,
                  Faults& faults) {
  if (same_bits(got, want)) return;
  size_t i = 0;
  while (i < std::min(got.size(), want.size()) && bits_of(got[i]) == bits_of(want[i])) ++i;
  if (i == std::min(got.size(), want.size())) {
    faults.push_back(concat(what, ": ", got.size(), " elements, then ", want.size()));
  } else {
    faults.push_back(concat(what, ": not the same bits at element ", i, ": ", got[i], " and ", want[i]));
  }
}

// ------------------------------------------------------------------------------------------------------ guard words

Guarded::Guarded(int64_t count, DeviceKind device)
    : count_(count),
      device_(device),
      memory_(static_cast<float*>(allocate(static_cast<size_t>(count + 2 * kGuard) * sizeof(float), device)),
              [device](float* memory) { deallocate(memory, device); }) {
  float guard;
  std::memcpy(&guard, &kGuardBits, sizeof guard);
  fill_floats(count + 2 * kGuard, guard, memory_.get(), device);
}

std::vector<float> Guarded::words() const {
  std::vector<float> words(static_cast<size_t>(count_ + 2 * kGuard));
  copy_floats(count_ + 2 * kGuard, memory_.get(), device_, words.data(), DeviceKind::cpu);
  return words;
}

std::vector<float> Guarded::values() const {
  const std::vector<float> all = words();
  return {all.begin() + kGuard, all.end() - kGuard};
}

void Guarded::set(const std::vector<float>& values) {
  CHECK(static_cast<int64_t>(values.size()) == count_, "a buffer of ", count_, " elements is set to ", values.size());
  copy_floats(count_, values.data(), DeviceKind::cpu, data(), device_);
}

void Guarded::check(const std::string& what, Faults& faults) const {
  const std::vector<float> all = words();
  for (int64_t i = 0; i < kGuard; ++i) {
    const size_t before = static_cast<size_t>(kGuard - 1 - i), after = static_cast<size_t>(kGuard + count() + i);
    const bool front = !is_guard(all[before]);
    if (!front && is_guard(all[after])) continue;
    faults.push_back(concat(what, ": written ", i + 1, " element(s) ", front ? "before its start" : "behind its end"));
    return;
  }
}

bool is_guard(float word) { return bits_of(word) == kGuardBits; }

// ----------------------------------------------------------------------------------------------------------- settings

std::vector<CpuPath> supported_paths() {
  std::vector<CpuPath> paths;
  for (int i = 0; i < kCpuPaths; ++i) {
    if (cpu_supports(static_cast<CpuPath>(i))) paths.push_back(static_cast<CpuPath>(i));
  }
  return paths;
}

void Place::choose() const {
  if (device == DeviceKind::cpu) set_cpu_path(path);
}

std::vector<Place> places() {
  std::vector<Place> all;
  for (const CpuPath path : supported_paths()) all.push_back({name_of(path), DeviceKind::cpu, path});
  if (why_no_cuda().empty()) all.push_back({name_of(DeviceKind::cuda), DeviceKind::cuda, cpu_path()});
  return all;
}

std::vector<Variation> variations_of(DeviceKind device) {
  if (device == DeviceKind::cpu) {
    const auto with_threads = [](int count) { return [count] { set_threads(count); }; };
    return {{"first run", with_threads(1)}, {"rerun", with_threads(1)}, {"two threads", with_threads(2)}};
  }
#if defined(ENTANGLE_CUDA_EMULATED)
  const auto in_order = [](emulator::Order order) { return [order] { emulator::set_order(order); }; };
  return {{"first run", in_order(emulator::Order::ascending)},
          {"threads descending", in_order(emulator::Order::descending)},
          {"threads shuffled", in_order(emulator::Order::shuffled)}};
#else
  return {{"first run", [] {}}, {"rerun", [] {}}, {"third run", [] {}}};
#endif
}

std::string take_device_fault() {
#if defined(ENTANGLE_CUDA_EMULATED)
  return emulator::take_fault();
#else
  return "";
#endif
}

SettingsScope::SettingsScope() : path_(cpu_path()), threads_(threads()) {}

SettingsScope::~SettingsScope() {
  set_cpu_path(path_);
  set_threads(threads_);
  set_poison(false);
#if defined(ENTANGLE_CUDA_EMULATED)
  emulator::set_order(emulator::Order::ascending);
#endif
}

std::string describe(const std::string& what, const std::vector<int64_t>& sizes) {
  std::string text = what;
  for (const int64_t size : sizes) text += " " + std::to_string(size);
  return text;
}

}  // namespace entangle
