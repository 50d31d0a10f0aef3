// The parts that reports of experiments are made of.
#include <gtest/gtest.h>

#include <cmath>

#include "nn/cost.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/experiment.h"

namespace entangle {
namespace {

TEST(SpreadText, IsMeanAndRange) {
  EXPECT_EQ(spread_text({84.216}, 2), "84.22");
  EXPECT_EQ(spread_text({1, 4, 2.5}, 1), "2.5 (1.0 to 4.0)");
  EXPECT_THROW(spread_text({}, 1), Error);
}

TEST(SpreadArchitectures, CoverTheSizesFromTheSmallestToTheLargest) {
  const Config config = load_config("fashion-mnist");
  const std::vector<Architecture> subnets = spread_architectures(config, 9, 0);
  ASSERT_EQ(subnets.size(), 9u);
  EXPECT_EQ(subnets.front(), config.space.smallest());
  EXPECT_EQ(subnets.back(), config.space.largest());
  const auto params = [&](size_t i) { return static_cast<double>(cost_of(config.model, subnets[i]).params); };
  const double step = (params(8) - params(0)) / 8;
  for (size_t i = 1; i < 9; ++i) {
    EXPECT_GT(params(i), params(i - 1));
    EXPECT_NEAR(params(i), params(0) + static_cast<double>(i) * step, step / 2) << i;
  }
  Config small = config;
  small.space = {{2}, {64}, {2, 3}, {2}};
  expect_error(error_of([&] { spread_architectures(small, 9, 0); }), {"fewer than 9 architectures", "--count"});
  EXPECT_EQ(spread_architectures(small, 4, 0).size(), 4u);
}

class ExperimentReports : public Programs {};

TEST_F(ExperimentReports, ARunIsReadBackEpochByEpoch) {
  expect_trains("run", {"--epochs", "2", "--set", "TRAIN.strategy=sandwich"});
  const RunRecord run = read_training(dir.path("run"));
  const auto records = log_records(dir.path("run/log.jsonl"));
  ASSERT_EQ(run.epochs.size(), 2u);
  double loss = 0;
  for (int i = kStepsPerEpoch; i < 2 * kStepsPerEpoch; ++i)
    loss += records[static_cast<size_t>(i)]["loss"].get<double>();
  EXPECT_NEAR(run.epochs[1].loss, loss / kStepsPerEpoch, 1e-9);
  EXPECT_EQ(run.epochs[0].passes, 4);
  EXPECT_EQ(run.epochs[1].passes, 8);
  EXPECT_EQ(run.epochs[1].held_out[2], records.back()["held_out"]["largest"].get<double>());
  EXPECT_GT(run.peak_memory, 0);
  EXPECT_GT(run.minutes, 0);
  // Of a run that was cut the last line is of the first epoch.
  std::string log = read_raw(dir.path("run/log.jsonl"));
  size_t end = 0;
  for (int i = 0; i < kStepsPerEpoch; ++i) end = log.find('\n', end) + 1;
  write_raw(dir.path("run/log.jsonl"), log.substr(0, end));
  expect_error(error_of([&] { read_training(dir.path("run")); }), {"is at epoch 1 of 2", "finish it"});
  write_raw(dir.path("run/log.jsonl"), log.substr(0, log.rfind("{\"step\":20")));
  expect_error(error_of([&] { read_training(dir.path("run")); }), {"its checkpoint is not of its log's last step 19"});
  write_raw(dir.path("run/log.jsonl"), "{\"step\":1}\n");
  expect_error(error_of([&] { read_training(dir.path("run")); }), {"log.jsonl: line 1: ", "epoch"});
  expect_user_error({"report_experiment", "curves", "--output", "x", "label"},
                    {"'label' is not of the form LABEL=DIR"});
  expect_user_error({"report_experiment", "front", "--output", "x", "--run", "run"}, {"cannot read", "search.jsonl"});
  EXPECT_EQ(this->run({"report_experiment"}).status, 2);
}

}  // namespace
}  // namespace entangle
