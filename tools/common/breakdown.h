// The kernels of some timed work, each against the machine's ceilings.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/kernel.h"

namespace entangle {

struct Breakdown {
  double seconds = 0;                // of the whole work
  std::vector<KernelEntry> kernels;  // those that were called, the longest first

  int64_t flops() const;
};

// Runs `work` with the timing of kernels on.
Breakdown break_down(const std::function<void()>& work);

// A table: a line per kernel, one for the time between kernels, one for the whole. Figures that do not apply are "-".
std::string format_breakdown(const Breakdown& breakdown, double gflops_ceiling, double copy_ceiling);

}  // namespace entangle
