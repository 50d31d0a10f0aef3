// Runs every test. The last line says how many passed and failed; a run without a test is a failure.
#include <gtest/gtest.h>

#include <cstdio>

namespace {

// Counts over all iterations of --gtest_repeat, which the library's own totals forget.
class Totals : public testing::EmptyTestEventListener {
 public:
  void OnTestEnd(const testing::TestInfo& info) override {
    const testing::TestResult& result = *info.result();
    ++(result.Failed() ? failed : result.Skipped() ? skipped : passed);
  }
  // A failure outside of any test, in a fixture of a whole suite.
  void OnTestSuiteEnd(const testing::TestSuite& suite) override { failed += suite.ad_hoc_test_result().Failed(); }

  int passed = 0, failed = 0, skipped = 0;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto totals = new Totals;  // the library deletes it when the program ends
  testing::UnitTest::GetInstance()->listeners().Append(totals);
  const int status = RUN_ALL_TESTS();
  if (testing::GTEST_FLAG(list_tests)) return status;
  std::fflush(stderr);
  std::printf("%d passed, %d failed", totals->passed, totals->failed);
  if (totals->skipped > 0) std::printf(", %d skipped", totals->skipped);
  std::printf("\n");
  return status != 0 || totals->failed > 0 || totals->passed == 0 ? 1 : 0;
}
