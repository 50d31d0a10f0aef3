// What is written once for each instruction set, tested with each.
#pragma once

#include <gtest/gtest.h>

#include "engine/kernel.h"

namespace entangle {

// Runs `test` under every path that this processor has.
template <class F>
void on_every_path(const F& test) {
  const CpuPath before = cpu_path();
  for (int i = 0; i < kCpuPaths; ++i) {
    const CpuPath path = static_cast<CpuPath>(i);
    if (!cpu_supports(path)) continue;
    const testing::ScopedTrace trace(__FILE__, __LINE__, name_of(path));
    set_cpu_path(path);
    test();
    if (testing::Test::HasFatalFailure()) break;
  }
  set_cpu_path(before);
}

}  // namespace entangle
