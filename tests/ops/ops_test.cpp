// The rows of operations as tests, and what a row does not cover.
#include "engine/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/device.h"
#include "tests/ops/harness.h"

namespace entangle {
namespace {

class RowTest : public testing::Test {
 public:
  explicit RowTest(const std::function<Faults()>& check) : check_(check) {}
  void TestBody() override {
    constexpr size_t kFaultsShown = 8;
    const Faults faults = check_();
    for (size_t i = 0; i < std::min(faults.size(), kFaultsShown); ++i) ADD_FAILURE() << faults[i];
    if (faults.size() > kFaultsShown) ADD_FAILURE() << "and " << faults.size() - kFaultsShown << " more";
  }

 private:
  std::function<Faults()> check_;
};

// Every row is the test "Operations.<name>".
const bool rows_are_tests = Row::for_each([](const RowEntry& row) {
  testing::RegisterTest("Operations", row.name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                        [check = row.check]() -> RowTest* { return new RowTest(check); });
});

// Rows of several lengths with minus infinity in every third place, and at the end one with a NaN.
TEST(Softmax, MinusInfinityGivesZeroAndANaNItsRow) {
  const SettingsScope restore;
  for (const Place& place : places()) {
    place.choose();
    for (const int64_t width : {int64_t{5}, int64_t{300}, int64_t{1100}}) {
      std::vector<float> values(static_cast<size_t>(2 * width), 0.25f);
      for (size_t i = 0; i < values.size(); i += 3) values[i] = -INFINITY;
      values.back() = NAN;
      const std::vector<float> y = softmax(Tensor::from({2, width}, values, place.device)).to_vector();
      const double share = 1.0 / static_cast<double>(width - (width + 2) / 3);
      for (size_t i = 0; i < y.size(); ++i) {
        if (i >= static_cast<size_t>(width)) {
          EXPECT_TRUE(std::isnan(y[i])) << place.name << ", width " << width << ", element " << i;
        } else if (i % 3 == 0) {
          EXPECT_EQ(y[i], 0) << place.name << ", width " << width << ", element " << i;
        } else {
          EXPECT_NEAR(y[i], share, 4 * 0x1p-24 * share) << place.name << ", width " << width << ", element " << i;
        }
      }
    }
  }
}

TEST(Harness, EveryKernelHasARow) {
  for (const std::string& fault : check_coverage(all_kernels(), Row::all())) ADD_FAILURE() << fault;
}

#if defined(ENTANGLE_CUDA)
TEST(Harness, TheCudaDeviceRuns) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda() << ": the kernels of cuda/ were not run";
}
#endif

TEST(Harness, EveryInstructionSetPathRuns) {
  for (int i = 0; i < kCpuPaths; ++i) {
    const CpuPath path = static_cast<CpuPath>(i);
    if (!cpu_supports(path)) GTEST_SKIP() << "this processor has no " << name_of(path) << ": its kernels were not run";
  }
}

}  // namespace
}  // namespace entangle
