#include "tools/common/health.h"

#include <gtest/gtest.h>

#include <set>

#include "nn/cost.h"
#include "tests/files.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

TEST(SizeQuarters, CoverTheDrawnSizesInOrder) {
  const Config config = load_config("fashion-mnist");
  const std::vector<SizeBucket> quarters = size_quarters(config);
  ASSERT_EQ(quarters.size(), 4u);
  int64_t before = 0;
  for (const SizeBucket& quarter : quarters) {
    EXPECT_LE(before, quarter.least);
    EXPECT_LT(quarter.least, quarter.most);
    before = quarter.most;
    ASSERT_EQ(quarter.subnets.size(), 2u);
    const int64_t first = cost_of(config.model, quarter.subnets[0]).params;
    const int64_t second = cost_of(config.model, quarter.subnets[1]).params;
    EXPECT_LT(quarter.least, first);
    EXPECT_LT(first, second);
    EXPECT_LT(second, quarter.most);
    // As many of other draws lie below each as should.
    Rng rng(99, Stream::synthetic);
    int below_first = 0, below_second = 0;
    for (int i = 0; i < 4000; ++i) {
      const int64_t drawn = cost_of(config.model, config.space.sample(rng)).params;
      below_first += drawn < first;
      below_second += drawn < second;
    }
    const double share = static_cast<double>(&quarter - quarters.data()) / 4;
    EXPECT_NEAR(below_first / 4000.0, share + 1.0 / 16, 0.04);
    EXPECT_NEAR(below_second / 4000.0, share + 3.0 / 16, 0.04);
  }
  Config other = config;
  other.train.seed = 1;
  EXPECT_NE(size_quarters(other)[0].subnets, quarters[0].subnets);
  EXPECT_EQ(size_quarters(config)[3].subnets, quarters[3].subnets);
  Config one = config;
  one.space = {{4}, {64}, {2}, {2}};
  EXPECT_TRUE(size_quarters(one).empty());
}

TEST(SizeWarning, SaysThatLargeSubnetsAreBehindFromTwoStandardErrorsOn) {
  const std::vector<SizeBucket> buckets = {{100, 200, {}}, {201, 300, {}}};
  // On 500 images a difference about 80 % counts from 2 sqrt(2 * 0.16 / 500) = 5.1 points.
  EXPECT_EQ(size_warning(buckets, {0.82, 0.78}, 500), "");
  EXPECT_EQ(size_warning(buckets, {0.70, 0.90}, 500), "");
  const std::string warning = size_warning(buckets, {0.83, 0.77}, 500);
  EXPECT_EQ(warning,
            "warning: large subnets are behind small ones: top-1 77.0 % from 201 parameters on, 83.0 % up to 200 "
            "(held-out images; a "
            "difference counts from 5.0 points)");
  EXPECT_NE(size_warning(buckets, {0.82, 0.78}, 5000), "");
  EXPECT_EQ(size_warning({}, {}, 500), "");
}

class HealthOfATraining : public Programs {};

TEST_F(HealthOfATraining, IsLoggedEachEpochAndIsThatOfItsSubnets) {
  expect_trains("run", {"--epochs", "2"});
  const auto records = log_records(dir.path("run/log.jsonl"));
  const auto& held_out = records.back()["held_out"];
  std::set<std::string> names;
  for (const auto& item : held_out.items()) names.insert(item.key());
  EXPECT_EQ(names, (std::set<std::string>{"smallest", "middle", "largest", "quarter_1", "quarter_2", "quarter_3",
                                          "quarter_4"}));
  EXPECT_TRUE(records[records.size() / 2 - 1].contains("held_out"));
  EXPECT_FALSE(records[0].contains("held_out"));
  const LoadedModel model = load_model(dir.path("run/checkpoint.safetensors"), "", DeviceKind::cpu);
  const DataSource source = open_data_for(model.config);
  const Split split = training_split(model.config.data, *source.train);
  const EvaluationSet images(source.train, source, spread(split.held_out, model.config.train.health_images),
                             model.config.model.image_size, EvaluationSet::Keep::yes);
  const std::vector<SizeBucket> quarters = size_quarters(model.config);
  for (size_t q = 0; q < 4; ++q) {
    double mean = 0;
    for (const Architecture& a : quarters[q].subnets) mean += evaluate(*model.supernet, a, images).accuracy() / 2;
    EXPECT_EQ(held_out[concat("quarter_", q + 1)].get<double>(), mean) << q;
  }
  EXPECT_EQ(held_out["largest"].get<double>(),
            evaluate(*model.supernet, model.config.space.largest(), images).accuracy());
}

}  // namespace
}  // namespace entangle
