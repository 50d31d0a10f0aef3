#include "engine/kernel.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/trace.h"

namespace entangle {
namespace {

bool timing = false;
int unwatched = 0;  // scopes
const KernelEntry* hooked = nullptr;
LaunchHook launch_hook = nullptr;

const KernelEntry*& list_head() {
  static const KernelEntry* head = nullptr;
  return head;
}

CpuPath fastest_path() {
  for (int i = kCpuPaths - 1; i > 0; --i) {
    if (cpu_supports(static_cast<CpuPath>(i))) return static_cast<CpuPath>(i);
  }
  return CpuPath::baseline;
}

CpuPath checked(CpuPath path) {
  CHECK(cpu_supports(path), "the instruction-set path '", name_of(path),
        "' needs a processor that has it; the fastest here is '", name_of(fastest_path()), "'");
  return path;
}

CpuPath initial_path() {
  const char* wanted = std::getenv("ENTANGLE_CPU");
  if (wanted == nullptr || *wanted == '\0') return fastest_path();
  std::string known;
  for (int i = 0; i < kCpuPaths; ++i) {
    const CpuPath path = static_cast<CpuPath>(i);
    if (std::string(wanted) == name_of(path)) return checked(path);
    known += std::string(i > 0 ? ", " : "") + name_of(path);
  }
  RAISE("ENTANGLE_CPU=", wanted, " is no instruction-set path; known are ", known);
}

CpuPath& current_path() {
  static CpuPath path = initial_path();
  return path;
}

}  // namespace

const char* name_of(CpuPath path) {
  static const char* const names[] = {"baseline", "avx2", "avx512", "avx512_bf16"};
  return names[static_cast<int>(path)];
}

bool cpu_supports(CpuPath path) {
#if defined(__x86_64__)
  switch (path) {
    case CpuPath::baseline:
      return true;
    case CpuPath::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CpuPath::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    case CpuPath::avx512_bf16:
      return cpu_supports(CpuPath::avx512) && __builtin_cpu_supports("avx512bf16");
  }
  return false;
#else
  return path == CpuPath::baseline;
#endif
}

CpuPath cpu_path() { return current_path(); }
void set_cpu_path(CpuPath path) { current_path() = checked(path); }

const KernelEntry* all_kernels() { return list_head(); }

const KernelEntry* register_kernel(KernelEntry* entry) {
  entry->next = list_head();
  list_head() = entry;
  return entry;
}

void set_kernel_timing(bool on) {
  timing = on;
  if (!on) return;
  for (const KernelEntry* entry = all_kernels(); entry != nullptr; entry = entry->next) {
    entry->calls = entry->flops = entry->bytes = 0;
    entry->seconds = 0;
  }
}
bool kernel_timing() { return timing; }

void set_launch_hook(const KernelEntry* kernel, LaunchHook hook) {
  hooked = kernel;
  launch_hook = hook;
}

bool launches_watched() { return (timing || launch_hook != nullptr || tracing()) && unwatched == 0; }
UnwatchedLaunches::UnwatchedLaunches() { ++unwatched; }
UnwatchedLaunches::~UnwatchedLaunches() { --unwatched; }

KernelTimer::KernelTimer(const KernelEntry& entry, const KernelCost& cost, DeviceKind device, void** written,
                         size_t arguments)
    : entry_(entry),
      device_(device),
      written_(written),
      arguments_(arguments),
      span_(tracing() ? new TraceSpan("kernel", entry.name, cost) : nullptr),
      timer_(new DeviceTimer(device)) {
  if (!timing) return;
  ++entry.calls;
  entry.flops += cost.flops;
  entry.bytes += cost.bytes;
}

KernelTimer::~KernelTimer() {
  const double seconds = timer_->stop();
  if (timing) entry_.seconds += seconds;
  delete timer_;
  delete span_;
  if (launch_hook == nullptr || hooked != &entry_) return;
  launch_hook(written_, static_cast<size_t>(std::remove(written_, written_ + arguments_, nullptr) - written_), device_);
}

}  // namespace entangle
