// The model of data-parallel time, and the program that measures its inputs.
#include <cmath>
#include <nlohmann/json.hpp>

#include "nn/cost.h"
#include "tests/expect_error.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/config.h"
#include "tools/common/scaling_model.h"

namespace entangle {
namespace {

Network network() {
  Network n;
  n.latency = 1e-3;
  n.rank_bandwidth = 100;
  n.node_bandwidth = 10;
  n.per_node = 4;
  return n;
}

TEST(ScalingModel, CountsLinksAndLevels) {
  EXPECT_EQ(sum_seconds(network(), 1, 1000, 100), 0);
  // Two ranks of a machine: each sends its half twice; one level.
  EXPECT_DOUBLE_EQ(sum_seconds(network(), 2, 1000, 1000), 2 * 500 / 100.0 + 2e-3);
  // Four buckets pay four latencies.
  EXPECT_DOUBLE_EQ(sum_seconds(network(), 2, 1000, 250), 2 * 500 / 100.0 + 8e-3);
  // Two machines of four: three quarters within, half between; two levels and one.
  EXPECT_DOUBLE_EQ(sum_seconds(network(), 8, 1000, 1000), 2 * (750 / 100.0 + 500 / 10.0) + 6e-3);
  expect_error([] { sum_seconds(network(), 0, 1, 1); }, {"over 0 ranks"});
}

TEST(ScalingModel, TheBackwardPassHidesAllButTheLastBucket) {
  Network quick = network();
  quick.latency = 0;
  StepModel step;
  step.compute = 100;
  step.backward = 0.5;
  step.bytes = 1000;
  step.bucket = 100;
  // 10 s of sums, of which nine buckets travel beside 45 s of computing.
  EXPECT_DOUBLE_EQ(exposed_seconds(quick, 2, step), 1);
  EXPECT_DOUBLE_EQ(scaling_efficiency(quick, 2, step), 100 / 101.0);
  step.compute = 10;  // 4.5 s of computing hide half of nine
  EXPECT_DOUBLE_EQ(exposed_seconds(quick, 2, step), 1 + 9 - 4.5);
  step.bytes = 50;  // one bucket alone is never hidden
  EXPECT_DOUBLE_EQ(exposed_seconds(quick, 2, step), 0.5);
  step.jitter = 0.1;
  EXPECT_DOUBLE_EQ(exposed_seconds(quick, 2, step), 0.5 + 0.56);
  EXPECT_EQ(exposed_seconds(quick, 1, step), 0);
}

class BenchAllreduce : public Programs {};

TEST_F(BenchAllreduce, CountsWhatASubnetSendsAndPredicts) {
  const Outcome outcome = run({"bench_allreduce", "--config", dir.path("tiny.yaml"), "--step-ms", "10"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  const Config config = load_config(dir.path("tiny.yaml"));
  EXPECT_EQ(json["largest_bytes"], 4 * cost_of(config.model, config.space.largest()).params);
  EXPECT_GT(json["sampled_bytes"], 4 * cost_of(config.model, config.space.smallest()).params);
  EXPECT_LT(json["sampled_bytes"], json["largest_bytes"]);
  ASSERT_EQ(json["predicted"].size(), 8u);
  EXPECT_EQ(json["predicted"][7]["ranks"], 1024);
  double before = 1;
  for (const auto& row : json["predicted"]) {
    EXPECT_LE(row["efficiency"].get<double>(), before);
    before = row["efficiency"];
  }
  EXPECT_FALSE(json.contains("measured"));
  EXPECT_EQ(run({"bench_allreduce", "--step-ms", "0"}).status, 2);
  expect_user_error({"bench_allreduce", "--times", "0"}, {"--times is 0"});
}

}  // namespace
}  // namespace entangle
