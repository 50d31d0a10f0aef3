// A time line of what the process does: spans of time, each within the ones around it on its thread, and the memory in use.
//
//   start_trace(DeviceKind::cpu);
//   { const TraceSpan span("forward", "gelu"); ... }
//   const Trace trace = stop_trace();
//
// While a trace is taken, kernels are spans too, and the host waits for each (KernelTimer in engine/kernel.h): on a GPU the
// spans have the device's times, but nothing overlaps. Off, a span costs a branch.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "engine/kernel.h"

namespace entangle {

// Times are nanoseconds since the start of the trace. Names must outlive it; the ones used are literals.
struct TracedSpan {
  const char *category, *name;
  int thread;  // 0, 1, ...
  int64_t start, end;
  KernelCost cost;  // of a kernel
};

// The bytes that the allocator of the traced device has handed out at a time.
struct TracedMemory {
  int64_t time, in_use;
};

// What was taken between start_trace() and stop_trace().
struct Trace {
  DeviceKind device = DeviceKind::cpu;
  int main_thread = 0;               // the one that started the trace
  std::vector<TracedSpan> spans;     // in the order in which they ended
  std::vector<TracedMemory> memory;  // sampled where spans of the main thread begin and end
  bool full = false;                 // spans that began after the last one were left out
};

inline std::atomic<bool> trace_is_on{false};
inline bool tracing() { return trace_is_on.load(std::memory_order_relaxed); }

// Takes spans from every thread until stop_trace(), at most `most` of them but for those that are open then. Throws Error
// when a trace is being taken already.
void start_trace(DeviceKind device, size_t most = 200000);
Trace stop_trace();

// One span, from construction to the end of the scope.
class TraceSpan {
 public:
  TraceSpan(const char* category, const char* name, const KernelCost& cost = {0, 0})
      : category_(tracing() ? category : nullptr) {
    if (category_ != nullptr) begin(name, cost);
  }
  ~TraceSpan() {
    if (category_ != nullptr) end();
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  void begin(const char* name, const KernelCost& cost);
  void end();

  const char *category_, *name_ = nullptr;
  int64_t start_ = 0;  // of the clock
  KernelCost cost_ = {0, 0};
};

}  // namespace entangle
