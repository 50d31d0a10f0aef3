#include "engine/trace.h"

#include <chrono>
#include <mutex>
#include <utility>

#include "engine/check.h"
#include "engine/memory.h"

namespace entangle {
namespace {

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int this_thread() {
  static std::atomic<int> next{0};
  thread_local const int own = next++;
  return own;
}

struct Recorder {
  std::mutex mutex;
  bool taking = false;
  int64_t origin = 0;
  size_t most = 0;
  Trace trace;
};
Recorder& recorder() {
  static Recorder one;
  return one;
}

// Of the main thread, under the mutex.
void sample_memory(Recorder& r, int64_t time) {
  r.trace.memory.push_back({time - r.origin, memory_counters(r.trace.device).in_use});
}

}  // namespace

void start_trace(DeviceKind device, size_t most) {
  Recorder& r = recorder();
  const std::lock_guard<std::mutex> lock(r.mutex);
  CHECK(!r.taking, "a trace is being taken already; stop_trace() ends it");
  r.taking = true;
  r.origin = now();
  r.most = most;
  r.trace = {};
  r.trace.device = device;
  r.trace.main_thread = this_thread();
  trace_is_on = true;
}

Trace stop_trace() {
  Recorder& r = recorder();
  const std::lock_guard<std::mutex> lock(r.mutex);
  trace_is_on = false;
  r.taking = false;
  return std::exchange(r.trace, {});
}

void TraceSpan::begin(const char* name, const KernelCost& cost) {
  name_ = name;
  cost_ = cost;
  Recorder& r = recorder();
  const std::lock_guard<std::mutex> lock(r.mutex);
  start_ = now();
  if (r.taking && this_thread() == r.trace.main_thread) sample_memory(r, start_);
}

void TraceSpan::end() {
  Recorder& r = recorder();
  const std::lock_guard<std::mutex> lock(r.mutex);
  const int64_t time = now();
  if (!r.taking || start_ < r.origin) return;  // of another trace
  r.trace.spans.push_back({category_, name_, this_thread(), start_ - r.origin, time - r.origin, cost_});
  if (this_thread() == r.trace.main_thread) sample_memory(r, time);
  if (r.trace.spans.size() < r.most) return;
  r.trace.full = true;
  trace_is_on = false;
}

}  // namespace entangle
