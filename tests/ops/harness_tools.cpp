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

namespace {

// Part of what is allowed. A NaN is beyond it, and so is an infinite tolerance.
double part_of(double error, double allowed) {
  const double part = error / allowed;
  return std::isfinite(allowed) && part >= 0 ? part : INFINITY;
}

void note_error(const std::string& what, int64_t count, double error, double allowed) {
  if (Ledger* ledger = Ledger::current()) {
    ledger->note(what, [&](Figures& figures) {
      figures.compared += count;
      const double part = part_of(error, allowed);
      if (figures.allowed != 0 && part <= figures.part) return;
      figures.part = part;
      figures.error = error;
      figures.allowed = allowed;
    });
  }
}

void note_rerun(const std::string& what, bool same) {
  if (Ledger* ledger = Ledger::current()) {
    ledger->note(what, [&](Figures& figures) {
      ++figures.reruns;
      figures.differing += !same;
    });
  }
}

}  // namespace

void compare(const std::string& what, const std::vector<float>& got, const Array<Bounded>& want, double c,
             Faults& faults) {
  if (got.size() != want.size()) {
    faults.push_back(concat(what, ": ", got.size(), " elements, not ", want.size()));
    return;
  }
  size_t wrong = 0, worst = 0;
  double worst_part = -1;
  const auto allowed = [&](size_t i) {
    return c * kEps * (std::max(std::fabs(want[i].value), want[i].error) + double(std::numeric_limits<float>::min()));
  };
  const auto error = [&](size_t i) { return std::fabs(double(got[i]) - want[i].value); };
  for (size_t i = 0; i < got.size(); ++i) {
    const double part = part_of(error(i), allowed(i));
    wrong += !(part <= 1);
    if (part <= worst_part) continue;
    worst = i;
    worst_part = part;
  }
  if (!got.empty()) note_error(what, static_cast<int64_t>(got.size()), error(worst), allowed(worst));
  if (wrong == 0) return;
  faults.push_back(concat(what, ": ", wrong, " of ", got.size(), " elements are wrong; element ", worst, " is ",
                          got[worst], ", not ", want[worst].value, ", off by ", worst_part, " times the tolerance"));
}

void compare_number(const std::string& what, double got, double want, double tolerance, Faults& faults) {
  const double error = std::fabs(got - want);
  note_error(what, 1, error, tolerance);
  if (!(error <= tolerance)) faults.push_back(concat(what, ": ", got, ", not ", want));
}

void compare_numbers_bits(const std::string& what, double got, double want, Faults& faults) {
  const bool same = std::memcmp(&got, &want, sizeof got) == 0;
  note_rerun(what, same);
  if (!same) faults.push_back(concat(what, ": not the same bits: ", got, " and ", want));
}

void compare_bits(const std::string& what, const std::vector<float>& got, const std::vector<float>& want,
                  Faults& faults) {
  note_rerun(what, same_bits(got, want));
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

namespace {

const Place* only_place = nullptr;
Ledger* current_ledger = nullptr;

}  // namespace

OnlyAt::OnlyAt(const Place& place) : place_(place) { only_place = &place_; }
OnlyAt::~OnlyAt() { only_place = nullptr; }

Ledger::Ledger(const RowEntry& row) : row_(row) { current_ledger = this; }
Ledger::~Ledger() { current_ledger = nullptr; }
Ledger* Ledger::current() { return current_ledger; }

std::vector<Place> places() {
  if (only_place != nullptr) return {*only_place};
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
