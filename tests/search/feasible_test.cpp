#include "search/feasible.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/search/small_search.h"
#include "tools/common/model_costs.h"

namespace entangle {
namespace {

using namespace small_search;

SearchSpace odd_space() { return {{2, 4}, {8, 24}, {1, 2, 3}, {1, 3}}; }  // 2 * (36 + 1296) = 2,664

CostLimits limits_of(int64_t max_params, int64_t min_macs = 0, int64_t max_latency = 0) {
  CostLimits limits;
  if (max_params > 0) limits[0].max = max_params;
  limits[1].min = min_macs;
  if (max_latency > 0) limits[3].max = max_latency;
  return limits;
}

std::vector<Architecture> legal(const CostTable& table, const CostLimits& limits) {
  std::vector<Architecture> out;
  for (const Architecture& a : every_architecture(table.space())) {
    const Costs costs = table.of(a);
    bool within = true;
    for (size_t i = 0; i < kMetrics; ++i) within = within && costs[i] >= limits[i].min && costs[i] <= limits[i].max;
    if (within) out.push_back(a);
  }
  return out;
}

TEST(CostTable, SumsLayersAndKnowsItsRange) {
  const CostTable table = small_table(odd_space());
  Range want[kMetrics];
  for (Range& range : want) range = {INT64_MAX, 0};
  for (const Architecture& a : every_architecture(odd_space())) {
    const Costs costs = table.of(a);
    ASSERT_EQ(costs[0], small_params(a));
    for (size_t i = 0; i < kMetrics; ++i) {
      want[i].min = std::min(want[i].min, costs[i]);
      want[i].max = std::max(want[i].max, costs[i]);
    }
  }
  for (const Metric metric : kAllMetrics) {
    EXPECT_EQ(table.range(metric).min, want[static_cast<size_t>(metric)].min);
    EXPECT_EQ(table.range(metric).max, want[static_cast<size_t>(metric)].max);
    EXPECT_EQ(parse_metric(name_of(metric)), metric);
  }
  expect_contains(message_of([&] { table.of(Architecture::uniform(3, 8, 1, 1)); }), "is not of the search space");
}

TEST(FeasibleSet, CountsAndNumbersWhatEnumerationFinds) {
  const CostTable table = small_table(odd_space());
  // Each limit at the value of an architecture in the middle, so that it meets them all.
  const Costs middle = table.of(Architecture::uniform(4, 8, 3, 2));
  for (const CostLimits& limits :
       {CostLimits{}, limits_of(middle[0]), limits_of(0, middle[1]), limits_of(0, 0, middle[3]),
        limits_of(middle[0], middle[1] / 2, middle[3]), limits_of(middle[0], middle[1], middle[3])}) {
    const std::vector<Architecture> want = legal(table, limits);
    ASSERT_FALSE(want.empty());
    const FeasibleSet set(table, limits);
    ASSERT_EQ(set.count(), static_cast<double>(want.size()));
    std::set<std::string> found, expected;
    for (int64_t i = 0; i < static_cast<int64_t>(want.size()); ++i) found.insert(set.at(i).to_json());
    for (const Architecture& a : want) expected.insert(a.to_json());
    EXPECT_EQ(found, expected);
    EXPECT_THROW(set.at(static_cast<int64_t>(want.size())), Error);
    EXPECT_THROW(set.at(-1), Error);
    for (const Metric metric : kAllMetrics) {
      const auto [least, most] = std::minmax_element(want.begin(), want.end(), [&](const auto& a, const auto& b) {
        return get(table.of(a), metric) < get(table.of(b), metric);
      });
      EXPECT_EQ(set.range(metric).min, get(table.of(*least), metric));
      EXPECT_EQ(set.range(metric).max, get(table.of(*most), metric));
    }
  }
}

// The probability of each is that of a draw gene by gene, over the probability that such a draw is within the limits.
TEST(FeasibleSet, SamplesAsRefusedUniformDrawsWould) {
  const CostTable table = small_table({{1, 3}, {8, 16}, {1, 2}, {1, 2}});
  const CostLimits limits = limits_of(450, 0, 13500);
  const std::vector<Architecture> all = legal(table, limits);
  ASSERT_GT(all.size(), 10u);
  double mass = 0;
  for (const Architecture& a : all) mass += std::pow(4, -a.depth);
  const FeasibleSet set(table, limits);
  std::map<std::string, int> drawn;
  Rng rng(3, Stream::search);
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) ++drawn[set.sample(rng).to_json()];
  EXPECT_EQ(drawn.size(), all.size());
  for (const Architecture& a : all) {
    const double p = std::pow(4, -a.depth) / mass;
    EXPECT_NEAR(drawn[a.to_json()], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << a.to_json();
  }
}

TEST(FeasibleSet, AnEmptyBoxNamesTheLimitAndTheNearestValue) {
  const CostTable table = small_table(odd_space());
  const auto refused = [&](const CostLimits& limits) { return message_of([&] { FeasibleSet(table, limits); }); };
  const Range params = table.range(Metric::params), macs = table.range(Metric::macs);
  expect_contains(refused(limits_of(params.min - 1)),
                  concat("meets params <= ", params.min - 1, "; the space has params of ", params.min, " to ",
                         params.max, "; the nearest that can be met: max_params at least ", params.min));
  expect_contains(refused(limits_of(0, macs.max + 1)), concat("min_macs at most ", macs.max));
  // Each alone can be met, not both: the nearest of either under the other, by enumeration.
  const int64_t max_params = 400, min_macs = 6000;
  int64_t most_macs = 0, least_params = INT64_MAX;
  for (const Architecture& a : every_architecture(odd_space())) {
    const Costs costs = table.of(a);
    if (costs[0] <= max_params) most_macs = std::max(most_macs, costs[1]);
    if (costs[1] >= min_macs) least_params = std::min(least_params, costs[0]);
  }
  ASSERT_LT(most_macs, min_macs);
  expect_contains(refused(limits_of(max_params, min_macs)), concat("nearest that can be met: max_params at least ",
                                                                   least_params, ", or min_macs at most ", most_macs));
  // A gap between two values: both sides.
  CostLimits gap;
  gap[0] = {321, 335};
  expect_contains(refused(gap), "min_params at most 320, or max_params at least 336");
  // Latency is told in milliseconds; three limits of which no single one is in the way.
  expect_contains(refused(limits_of(0, 0, 100)), "latency <= 0.0001 ms");
  expect_contains(refused(limits_of(1, 1000000, 1)), "no change of a single limit helps; the nearest architecture has");
}

TEST(FeasibleSet, DecidesThePublishedSpacesExactly) {
  const SupernetConfig model;
  const SearchSpace space = {{12, 13, 14}, {192, 216, 240}, {3.5, 4}, {3, 4}};
  const CostTable table = model_costs(model, space, 1);
  const FeasibleSet all(table, {});
  EXPECT_EQ(all.count(), space.count());
  const Range range = table.range(Metric::params);
  EXPECT_EQ(range.min, get(table.of(space.smallest()), Metric::params));
  EXPECT_EQ(range.max, get(table.of(space.largest()), Metric::params));
  // One more parameter than the smallest, which no architecture has: the next one is known.
  CostLimits limits;
  limits[0] = {range.min + 1, range.min + 2};
  Architecture next = space.smallest();
  next.mlp_ratio[0] = 4;
  expect_contains(
      message_of([&] { FeasibleSet(table, limits); }),
      concat("min_params at most ", range.min, ", or max_params at least ", get(table.of(next), Metric::params)));
  // The twelve subnets with one larger ratio, and no other.
  limits[0] = {get(table.of(next), Metric::params), get(table.of(next), Metric::params)};
  const FeasibleSet twelve(table, limits);
  EXPECT_EQ(twelve.count(), 12);
  Rng rng(1, Stream::search);
  EXPECT_EQ(get(table.of(twelve.sample(rng)), Metric::params), limits[0].min);
}

TEST(FeasibleSet, CostsWithoutRegularityAreRefusedWhenTheyAreTooMany) {
  SearchSpace space = {{40}, {8}, {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}};
  const CostTable table(
      space, [](int) { return Costs{}; },
      [](int, int heads, double ratio) {
        return Costs{0, 0, 0, static_cast<int64_t>(1e9 * std::sqrt(heads * 7 + ratio))};
      });
  expect_contains(message_of([&] { FeasibleSet(table, {}); }), "more than 2 million different sums");
}

}  // namespace
}  // namespace entangle
