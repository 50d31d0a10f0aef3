// Strategies: what a step trains, as a function of (seed, step) alone.
#include "search/strategy.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/files.h"

namespace entangle {
namespace {

SearchSpace space() { return {{1, 2, 3}, {8, 16}, {1, 2}, {1, 2, 4}}; }

StrategyOptions named(const std::string& name) {
  StrategyOptions options;
  options.name = name;
  return options;
}

TEST(Strategy, UniformDrawsWhatTheSpaceSamplesAtTheStep) {
  const Strategy strategy(named("uniform"), space(), 100, 7);
  EXPECT_EQ(strategy.subnets(), 1);
  std::set<std::string> seen;
  for (int64_t step = 0; step < 100; ++step) {
    Rng rng(7, Stream::architecture, static_cast<uint64_t>(step));
    const StepPlan want = {{space().sample(rng)}};
    EXPECT_TRUE(strategy.plan(step) == want) << step;
    seen.insert(want[0].architecture.to_json());
  }
  EXPECT_GT(seen.size(), 50u);
}

TEST(Strategy, SandwichTrainsLargestSmallestAndRandomOnesThatCountTheSame) {
  StrategyOptions options = named("sandwich");
  options.random_subnets = 3;
  const Strategy strategy(options, space(), 100, 7);
  EXPECT_EQ(strategy.subnets(), 5);
  const StepPlan plan = strategy.plan(4);
  ASSERT_EQ(plan.size(), 5u);
  EXPECT_EQ(plan[0].architecture, space().largest());
  EXPECT_EQ(plan[1].architecture, space().smallest());
  for (const PlannedSubnet& subnet : plan) {
    EXPECT_EQ(subnet.weight, 0.2);
    EXPECT_EQ(subnet.teacher, -1);
    EXPECT_TRUE(space().contains(subnet.architecture));
  }
  EXPECT_NE(plan[2].architecture, plan[3].architecture);
  EXPECT_TRUE(strategy.plan(4) == plan) << "a plan is no running state";
  EXPECT_FALSE(strategy.plan(5) == plan);
  EXPECT_FALSE(Strategy(options, space(), 100, 8).plan(4) == plan);
}

TEST(Strategy, InPlaceTheLargestTeachesAllOthers) {
  StrategyOptions options = named("sandwich");
  options.inplace_distillation = true;
  const StepPlan plan = Strategy(options, space(), 100, 7).plan(0);
  ASSERT_EQ(plan.size(), 4u);
  for (size_t i = 0; i < plan.size(); ++i) EXPECT_EQ(plan[i].teacher, i == 0 ? -1 : 0);
}

// Six choices to open in the first half of 120 steps: one every ten steps, the largest first.
TEST(Strategy, ProgressiveOpensChoiceByChoiceInItsOrder) {
  StrategyOptions options = named("progressive");
  const Strategy strategy(options, space(), 120, 7);
  const SearchSpace stages[] = {{{3}, {16}, {2}, {4}},
                                {{2, 3}, {16}, {2}, {4}},
                                {{1, 2, 3}, {16}, {2}, {4}},
                                {{1, 2, 3}, {16}, {1, 2}, {4}},
                                {{1, 2, 3}, {16}, {1, 2}, {2, 4}},
                                {{1, 2, 3}, {16}, {1, 2}, {1, 2, 4}},
                                space()};
  for (int64_t step = 0; step < 120; ++step) {
    const SearchSpace &open = strategy.space_at(step), &want = stages[std::min<int64_t>(step / 10, 6)];
    EXPECT_EQ(open.depth, want.depth) << step;
    EXPECT_EQ(open.mlp_ratio, want.mlp_ratio) << step;
    EXPECT_EQ(open.num_heads, want.num_heads) << step;
    EXPECT_EQ(open.embed_dim, want.embed_dim) << step;
    EXPECT_TRUE(open.contains(strategy.plan(step)[0].architecture)) << step;
    EXPECT_EQ(strategy.plan(step).size(), 1u);
  }
  EXPECT_EQ(strategy.plan(9)[0].architecture, space().largest());
}

TEST(Strategy, ProgressiveTakesAnotherOrderAndAnyNumberOfSteps) {
  StrategyOptions options = named("progressive");
  options.open_order = "embed_dim,num_heads , depth, mlp_ratio";
  options.open_by = 1;
  const Strategy strategy(options, space(), 6, 7);
  EXPECT_EQ(strategy.space_at(1).embed_dim.size(), 2u);
  EXPECT_EQ(strategy.space_at(1).depth.size(), 1u);
  EXPECT_EQ(strategy.space_at(5).depth.size(), 3u);
  EXPECT_EQ(strategy.space_at(5).mlp_ratio.size(), 1u) << "the last choice opens after the last step";
  options.open_by = 0;
  EXPECT_EQ(Strategy(options, space(), 6, 7).space_at(0).count(), space().count());
  const SearchSpace one = {{2}, {8}, {2}, {1}};
  EXPECT_EQ(Strategy(options, one, 6, 7).space_at(0).count(), 1);
}

TEST(Strategy, WrongOptionsAreNamed) {
  const auto error = [](const StrategyOptions& options) { return error_of([&] { options.validate(); }); };
  expect_error(error(named("sandwhich")), {"TRAIN.strategy is sandwhich", "uniform, sandwich or progressive"});
  StrategyOptions options = named("uniform");
  options.inplace_distillation = true;
  expect_error(error(options), {"TRAIN.inplace_distillation", "TRAIN.strategy=sandwich"});
  for (const char* order : {"depth", "depth, depth, num_heads, embed_dim", "depth, mlp_ratio, num_heads, width", "",
                            "depth, mlp_ratio, num_heads, embed_dim, depth"}) {
    options = named("progressive");
    options.open_order = order;
    expect_error(error(options), {"TRAIN.open_order is '" + std::string(order) + "'", "each once"});
  }
  options = named("progressive");
  options.open_by = 1.5;
  expect_error(error(options), {"TRAIN.open_by is 1.5"});
}

}  // namespace
}  // namespace entangle
