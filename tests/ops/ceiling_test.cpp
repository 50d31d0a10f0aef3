// What is measured as this machine's ceilings.
#include "tools/common/ceilings.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/parallel.h"
#include "tests/ops/harness.h"

namespace entangle {
namespace {

TEST(Ceilings, FollowThePath) {
  const SettingsScope restore;
  set_threads(1);
  double gflops[kCpuPaths] = {};
  for (const CpuPath path : supported_paths()) {
    set_cpu_path(path);
    gflops[static_cast<size_t>(path)] = measure_gflops_ceiling();
    EXPECT_GT(gflops[static_cast<size_t>(path)], 0.1) << name_of(path);
    const double bf16 = measure_gflops_ceiling(DeviceKind::cpu, Precision::bf16);
    EXPECT_GT(bf16, 0.1) << name_of(path);
#if !defined(__SANITIZE_ADDRESS__)  // which checks each operand
    // Only one path multiplies pairs.
    const double least = name_of(path) == std::string("avx512_bf16") ? 1.2 : 0.5;
    EXPECT_GT(bf16, least * gflops[static_cast<size_t>(path)]) << name_of(path);
#endif
  }
#if defined(__x86_64__)
  // Twice the lanes and one instruction for two: four times the rate, less what others on the machine take away.
  if (cpu_supports(CpuPath::avx2)) {
    EXPECT_GT(gflops[1], 1.2 * gflops[0]);
  }
#endif
}

}  // namespace
}  // namespace entangle
