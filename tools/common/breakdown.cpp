#include "tools/common/breakdown.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace entangle {
namespace {

// A figure of the table; "-" where nothing was counted.
std::string figure(double value, const char* format) {
  if (value <= 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

struct Line {
  std::string name, calls;
  double seconds;
  int64_t flops, bytes;
};

std::string format_line(const Line& line, double whole, double gflops_ceiling, double copy_ceiling) {
  const double gflops = 1e-9 * static_cast<double>(line.flops) / line.seconds;
  const double gbytes = 1e-9 * static_cast<double>(line.bytes) / line.seconds;
  char text[160];
  std::snprintf(text, sizeof text, "%-24s %6s %10.3f %6.1f%% %9s %8s %6s %6s\n", line.name.c_str(), line.calls.c_str(),
                1e3 * line.seconds, 100 * line.seconds / whole, figure(gflops, "%.1f").c_str(),
                figure(gbytes, "%.1f").c_str(), figure(100 * gflops / gflops_ceiling, "%.1f").c_str(),
                figure(100 * gbytes / copy_ceiling, "%.1f").c_str());
  return text;
}

}  // namespace

int64_t Breakdown::flops() const {
  int64_t sum = 0;
  for (const KernelEntry& kernel : kernels) sum += kernel.flops;
  return sum;
}

Breakdown break_down(const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  Breakdown result;
  set_kernel_timing(true);
  const Clock::time_point start = Clock::now();
  work();
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  set_kernel_timing(false);
  for (const KernelEntry* entry = all_kernels(); entry != nullptr; entry = entry->next) {
    if (entry->calls > 0) result.kernels.push_back(*entry);
  }
  std::sort(result.kernels.begin(), result.kernels.end(),
            [](const KernelEntry& a, const KernelEntry& b) { return a.seconds > b.seconds; });
  return result;
}

std::string format_breakdown(const Breakdown& breakdown, double gflops_ceiling, double copy_ceiling) {
  Line between = {"between kernels", "", breakdown.seconds, 0, 0}, sum = {"sum", "", breakdown.seconds, 0, 0};
  int64_t calls = 0;
  char head[160];
  std::snprintf(head, sizeof head, "%-24s %6s %10s %7s %9s %8s %6s %6s\n", "kernel", "calls", "ms", "share", "GFLOP/s",
                "GB/s", "%FMA", "%copy");
  std::string table = head;
  for (const KernelEntry& kernel : breakdown.kernels) {
    const Line line = {kernel.name, std::to_string(kernel.calls), kernel.seconds, kernel.flops, kernel.bytes};
    table += format_line(line, breakdown.seconds, gflops_ceiling, copy_ceiling);
    between.seconds -= kernel.seconds;
    calls += kernel.calls;
    sum.flops += kernel.flops;
    sum.bytes += kernel.bytes;
  }
  sum.calls = std::to_string(calls);
  table += format_line(between, breakdown.seconds, gflops_ceiling, copy_ceiling);
  return table + format_line(sum, breakdown.seconds, gflops_ceiling, copy_ceiling);
}

}  // namespace entangle
