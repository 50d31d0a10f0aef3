#include <fstream>
#include <stdexcept>
#include <string>

#include "search/search.h"
#include "tests/search/small_search.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

using namespace small_search;

TEST(Search, LimitsThatNothingMeetsAreRefusedBeforeAnyEvaluation) {
  TemporaryDirectory dir;
  const Fitness never = [](const Architecture&) -> double { throw std::logic_error("evaluated"); };
  const CostTable table = table_t();
  const Range range = table.range(Metric::params);
  const std::string message = message_of([&] { run(table, within(0, range.min - 1), never, dir.path("log")); });
  expect_contains(message, concat("no architecture of the space meets params <= ", range.min - 1));
  expect_contains(message, concat("params of ", range.min, " to ", range.max));
  expect_contains(message, concat("max_params at least ", range.min));
  EXPECT_FALSE(std::ifstream(dir.path("log"))) << "a refused search leaves no log behind";
}

TEST(Search, EveryLimitIsKeptInAnyCombination) {
  SearchOptions options = small_options();
  options.max_params = 700, options.min_macs = 2000, options.max_activation_bytes = 200, options.max_latency_ms = 0.014;
  options.generations = 3;
  const CostLimits limits = options.limits();
  EXPECT_EQ(limits[3].max, 14000);
  for (const char* algorithm : {"evolution", "random", "nsga2"}) {
    options.algorithm = algorithm;
    const SearchResult result = run_small(options);
    EXPECT_EQ(result.candidates.size(), 24u);
    for (const Candidate& candidate : result.candidates) {
      EXPECT_EQ(candidate.costs, small_table().of(candidate.architecture));
      for (size_t i = 0; i < kMetrics; ++i) EXPECT_TRUE(limits[i].holds(candidate.costs[i])) << algorithm << i;
    }
  }
}

TEST(Search, ANarrowWindowNearAnEndIsFound) {
  // Uniform draws of this space meet its lowest percent once in tens of millions.
  const CostTable table = table_t();
  const Range range = table.range(Metric::params);
  SearchOptions options = within(0, range.min + (range.max - range.min) / 100);
  options.algorithm = "random";
  options.generations = 1;
  const Fitness constant = [](const Architecture&) { return 0.1; };
  EXPECT_EQ(run(table, options, constant).candidates.size(), 8u);
  // Only the smallest itself: found, and then the search ends.
  options = within(0, range.min);
  const SearchResult one = run(table, options, constant);
  ASSERT_EQ(one.candidates.size(), 1u);
  EXPECT_EQ(one.best.architecture, space_t().smallest());
}

TEST(Search, ASmallSpaceEndsWithAllThereIs) {
  SearchOptions options = small_options();
  options.generations = 1000;
  const SearchSpace space = {{1, 2}, {8}, {1, 2}, {1}};  // 2 + 4
  const SearchSpace one = {{2}, {8}, {1}, {1}};
  for (const char* algorithm : {"evolution", "random", "nsga2"}) {
    options.algorithm = algorithm;
    const SearchResult all = run(small_table(space), options, small_fitness);
    EXPECT_EQ(all.candidates.size(), 6u);
    EXPECT_TRUE(all.finished);
    const SearchResult result = run(small_table(one), options, small_fitness);
    ASSERT_EQ(result.candidates.size(), 1u);
    EXPECT_EQ(result.best.architecture, one.smallest());
  }
}

TEST(Search, ASpaceIsUsedUpToItsLastArchitecture) {
  SearchOptions options = small_options();
  options.population = 50;
  options.generations = 30;
  for (const char* algorithm : {"evolution", "random", "nsga2"}) {
    options.algorithm = algorithm;
    EXPECT_EQ(run_small(options).candidates.size(), 774u) << algorithm;
  }
}

}  // namespace
}  // namespace entangle
