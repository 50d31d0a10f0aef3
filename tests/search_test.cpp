#include "search/search.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>

#include "nn/cost.h"
#include "search/draw.h"
#include "search/generation.h"
#include "tests/small_search.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

using namespace small_search;

SearchSpace space_t() { return {{12, 13, 14}, {192, 216, 240}, {3.5, 4}, {3, 4}}; }

int64_t params_t(const Architecture& a) { return cost_of(SupernetConfig(), a).params; }

// -------------------------------------------------------------------------------------------------------- algorithm

TEST(Search, FindsTheBestUnderALimit) {
  // 16,128 architectures; the fitness rewards every gene, and the best that the limit allows is known by enumeration.
  const SearchSpace space = {{4, 5, 6}, {8, 16, 24}, {2, 4}, {1, 2}};
  SearchOptions options = within(0, 1200, SearchOptions());
  double best = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(space.count()); ++i) {
    const Architecture a = architecture_at(space, i);
    if (small_params(a) <= options.max_params) best = std::max(best, small_fitness(a));
  }
  for (uint64_t seed = 0; seed < 5; ++seed) {
    options.seed = seed;
    const SearchResult result = search(space, options, small_fitness, small_params, "");
    EXPECT_EQ(result.best.accuracy, best) << seed << " " << result.best.architecture.to_json();
    EXPECT_EQ(small_fitness(result.best.architecture), best);
    EXPECT_LE(result.best.params, options.max_params);
    EXPECT_EQ(result.candidates.size(), 1000u);
  }
}

TEST(Search, NeverRepeatsACandidateAndKeepsInclusiveLimits) {
  // Both limits are the sizes of architectures that exist.
  const int64_t low = small_params(Architecture::uniform(2, 16, 1, 1));
  const int64_t high = small_params(Architecture::uniform(2, 16, 2, 3));
  for (const char* algorithm : {"evolution", "random"}) {
    SearchOptions options = within(low, high);
    options.algorithm = algorithm;
    options.generations = 12;
    std::set<std::string> seen;
    bool at_low = false, at_high = false;
    const SearchResult result = run_small(options);
    for (const Candidate& candidate : result.candidates) {
      EXPECT_TRUE(small_space().contains(candidate.architecture));
      EXPECT_TRUE(seen.insert(candidate.architecture.to_json()).second) << candidate.architecture.to_json();
      EXPECT_EQ(candidate.params, small_params(candidate.architecture));
      EXPECT_GE(candidate.params, low);
      EXPECT_LE(candidate.params, high);
      at_low = at_low || candidate.params == low;
      at_high = at_high || candidate.params == high;
    }
    EXPECT_EQ(seen.size(), 96u);
    EXPECT_TRUE(at_low && at_high) << algorithm;
  }
}

TEST(Search, GenerationsAreNumberedAndTheLastOneCounts) {
  // The fitness rises with every evaluation: the best is the very last candidate.
  double evaluations = 0;
  const SearchResult result = search(
      small_space(), small_options(), [&](const Architecture&) { return ++evaluations; }, small_params, "");
  ASSERT_EQ(result.candidates.size(), 32u);
  EXPECT_EQ(result.best.architecture, result.candidates.back().architecture);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(result.candidates[i].generation, static_cast<int64_t>(i / 8));
}

TEST(Search, TheEarliestOfEqualsIsBest) {
  const SearchResult result = search(
      small_space(), small_options(), [](const Architecture&) { return 0.5; }, small_params, "");
  EXPECT_EQ(result.best.architecture, result.candidates.front().architecture);
}

TEST(Search, SeedDecidesAndAlgorithmsShareTheFirstGeneration) {
  SearchOptions options = small_options();
  const SearchResult evolution = run_small(options);
  expect_same(evolution, run_small(options));
  options.algorithm = "random";
  const SearchResult random = run_small(options);
  EXPECT_EQ(random.candidates.size(), evolution.candidates.size());
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(random.candidates[i].architecture, evolution.candidates[i].architecture);
  EXPECT_NE(random.candidates[8].architecture, evolution.candidates[8].architecture);
  options.seed = 12;
  EXPECT_NE(run_small(options).candidates[0].architecture, random.candidates[0].architecture);
}

TEST(Search, EvolutionBeatsRandomInTheMean) {
  // Smooth and separable, in conflict with the limit; the published population and half the generations.
  const auto fitness = [](const Architecture& a) {
    double sum = 0.02 * a.depth + 0.002 * a.embed_dim;
    for (size_t i = 0; i < a.num_heads.size(); ++i) {
      const double depth = static_cast<double>(i) / 14;
      sum += 0.1 * a.mlp_ratio[i] * depth + 0.05 * a.num_heads[i] * (1 - depth);
    }
    return sum;
  };
  double evolution = 0, random = 0;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SearchOptions options = within(0, 7000000, SearchOptions());
    options.seed = seed;
    options.generations = 10;
    evolution += search(space_t(), options, fitness, params_t, "").best.accuracy / 5;
    options.algorithm = "random";
    const SearchResult result = search(space_t(), options, fitness, params_t, "");
    EXPECT_EQ(result.candidates.size(), 500u);
    random += result.best.accuracy / 5;
  }
  EXPECT_GT(evolution, random + 0.02);
}

TEST(Search, ParentsAreTheBestOfAllTimeInStableOrder) {
  // More than a sort that is not stable leaves in order by chance.
  std::vector<Candidate> all(100);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].accuracy = i % 3 == 0 ? 0.9 : 0.3;
    all[i].generation = static_cast<int64_t>(i);
  }
  const std::vector<Candidate> top = most_accurate(all, 60);
  ASSERT_EQ(top.size(), 60u);
  for (size_t i = 0; i < 34; ++i) EXPECT_EQ(top[i].generation, static_cast<int64_t>(3 * i));
  for (size_t i = 35; i < 60; ++i) {
    EXPECT_EQ(top[i].accuracy, 0.3);
    EXPECT_GT(top[i].generation, top[i - 1].generation);
  }
  EXPECT_EQ(most_accurate(all, 1000).size(), 100u);
}

TEST(Search, EachGenerationHasNumbersOfItsOwn) {
  SearchOptions options = small_options();
  options.algorithm = "random";
  const SearchSpace space = space_t();
  const ParameterCount params = params_t;
  const auto first_of = [&](int64_t number) {
    return CandidateSource(space, options, params).generation(number, {})[0].architecture;
  };
  EXPECT_EQ(first_of(1), first_of(1));
  EXPECT_NE(first_of(1), first_of(2));
}

// With rates of zero a mutation repeats its parent, and with equal parents so does a crossover.
TEST(Search, ChildrenThatOnlyRepeatAreGivenUpAndRefilled) {
  SearchOptions options = small_options();
  options.mutate_block = options.mutate_shape = 0;
  options.top = 1;
  const SearchResult result = run_small(options);
  EXPECT_EQ(result.candidates.size(), 32u);
}

TEST(Search, GenerationsHoldMutationsThenCrossoversThenRandomOnes) {
  // Mutations change embed_dim only, and the only parent has a fixed pattern.
  SearchOptions options = small_options();
  options.mutate_block = 0, options.mutate_shape = 1, options.top = 2, options.mutations = 2, options.crossovers = 2;
  const SearchSpace space = {{6}, {8, 16, 24, 32, 40, 48}, {1, 2, 3}, {1, 2}};
  const ParameterCount params = small_params;
  CandidateSource source(space, options, params);
  std::vector<Candidate> past(2);
  past[0].architecture = Architecture::uniform(6, 8, 1, 1);
  past[1].architecture = Architecture::uniform(6, 48, 2, 3);
  const std::vector<Candidate> next = source.generation(5, past);
  ASSERT_EQ(next.size(), 8u);
  for (size_t i = 0; i < 2; ++i) {
    const Architecture& a = next[i].architecture;
    EXPECT_TRUE(a == Architecture::uniform(6, a.embed_dim, 1, 1) || a == Architecture::uniform(6, a.embed_dim, 2, 3));
  }
  for (size_t i = 2; i < 4; ++i) {
    const Architecture& a = next[i].architecture;
    EXPECT_TRUE(a.embed_dim == 8 || a.embed_dim == 48);
    EXPECT_EQ(std::count(a.mlp_ratio.begin(), a.mlp_ratio.end(), 2.0), 0);
  }
  for (const Candidate& candidate : next) EXPECT_EQ(candidate.generation, 5);
}

// ----------------------------------------------------------------------------------------------------------- limits

TEST(Search, LimitsOutsideOfTheSpaceAreRefusedBeforeAnyEvaluation) {
  TemporaryDirectory dir;
  const Fitness never = [](const Architecture&) -> double { throw std::logic_error("evaluated"); };
  const Range range = parameter_range(space_t(), params_t);
  const auto refused = [&](const SearchOptions& options) {
    return message_of([&] { search(space_t(), options, never, params_t, dir.path("log")); });
  };
  const std::string shown = concat("they have ", range.min, " to ", range.max, " parameters");
  expect_contains(refused(within(0, range.min - 1)), shown);
  expect_contains(refused(within(range.max + 1, 0)), shown);
  EXPECT_FALSE(std::ifstream(dir.path("log"))) << "a refused search leaves no log behind";
}

TEST(Search, AWindowThatNoArchitectureMeetsNamesTheNearest) {
  // Sizes are multiples of 8 in the small space: 701 .. 703 lies between two that exist, and it is searched completely.
  const std::string small = message_of([] { run_small(within(701, 703)); });
  expect_contains(small, "no architecture with 701 to 703 parameters exists among the 774");
  expect_contains(small, "ranges from 120 to 1248, and nearest are 696 below and 704 above");
}

TEST(Search, ANarrowWindowNearAnEndIsFound) {
  // Uniform draws of this space meet its lowest percent once in tens of millions.
  const Range range = parameter_range(space_t(), params_t);
  SearchOptions options = within(0, range.min + (range.max - range.min) / 100);
  options.algorithm = "random";
  options.generations = 1;
  const SearchResult result = search(
      space_t(), options, [](const Architecture&) { return 0.1; }, params_t, "");
  EXPECT_EQ(result.candidates.size(), 8u);
  // Only the smallest itself: found, and then the search ends.
  options = within(0, range.min);
  const SearchResult one = search(
      space_t(), options, [](const Architecture&) { return 0.1; }, params_t, "");
  ASSERT_EQ(one.candidates.size(), 1u);
  EXPECT_EQ(one.best.architecture, space_t().smallest());
}

TEST(Search, ALargeSpaceWithAnEmptyWindowNamesTheNearest) {
  // One more parameter than the smallest, which no architecture has.
  const Range range = parameter_range(space_t(), params_t);
  const std::string message = message_of([&] {
    search(
        space_t(), within(range.min + 1, range.min + 2), [](const Architecture&) { return 0.1; }, params_t, "");
  });
  expect_contains(message, "was found in 1000 random draws");
  expect_contains(message, concat("nearest are ", range.min, " below and "));
}

TEST(Search, ASmallSpaceEndsWithAllThereIs) {
  SearchOptions options = small_options();
  options.generations = 1000;
  const SearchSpace space = {{1, 2}, {8}, {1, 2}, {1}};  // 2 + 4
  for (const char* algorithm : {"evolution", "random"}) {
    options.algorithm = algorithm;
    int64_t draws = 0;
    const ParameterCount counting = [&](const Architecture& a) { return ++draws, small_params(a); };
    EXPECT_EQ(search(space, options, small_fitness, counting, "").candidates.size(), 6u);
    EXPECT_LT(draws, 10000) << "the generations after the last candidate are not tried";
  }
  const SearchSpace one = {{2}, {8}, {1}, {1}};
  const SearchResult result = search(one, options, small_fitness, small_params, "");
  ASSERT_EQ(result.candidates.size(), 1u);
  EXPECT_EQ(result.best.architecture, one.smallest());
}

TEST(Search, ASpaceIsUsedUpToItsLastArchitecture) {
  SearchOptions options = small_options();
  options.population = 50;
  options.generations = 30;
  EXPECT_EQ(run_small(options).candidates.size(), 774u);
}

// ----------------------------------------------------------------------------------------------- errors and progress

TEST(Search, AFitnessThatIsNotFiniteNamesTheArchitecture) {
  TemporaryDirectory dir;
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    int evaluations = 0;
    Architecture culprit;
    const Fitness fitness = [&](const Architecture& a) {
      culprit = a;
      return ++evaluations == 5 ? bad : 0.5;
    };
    const std::string log = dir.path(concat("log", bad));
    const std::string message = message_of([&] { search(small_space(), small_options(), fitness, small_params, log); });
    expect_contains(message, culprit.to_json());
    const std::string text = read(log);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5) << "the header and the four before it";
  }
}

TEST(Search, ProgressSeesEveryEvaluationAndStops) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  int64_t calls = 0;
  const SearchProgress stop = [&](const Candidate& candidate, int64_t done, int64_t planned) {
    EXPECT_EQ(done, ++calls);
    EXPECT_EQ(planned, 32);
    EXPECT_EQ(candidate.accuracy, small_fitness(candidate.architecture));
    return done < 13;
  };
  const SearchResult part = search(small_space(), small_options(), small_fitness, small_params, log, stop);
  EXPECT_EQ(part.candidates.size(), 13u);
  EXPECT_EQ(calls, 13);
  // Continuing reports what is evaluated now only.
  const SearchProgress count = [&](const Candidate&, int64_t done, int64_t) { return done == ++calls; };
  expect_same(search(small_space(), small_options(), small_fitness, small_params, log, count),
              run_small(small_options()));
  EXPECT_EQ(calls, 32);
}

TEST(SearchOptions, ValidateNamesTheOption) {
  const auto refused = [](auto change, const std::string& reason) {
    SearchOptions options;
    change(options);
    expect_contains(message_of([&] { options.validate(small_space()); }), reason);
  };
  using O = SearchOptions;
  EXPECT_NO_THROW(O().validate(small_space()));
  refused([](O& o) { o.algorithm = "magic"; }, "algorithm is \"magic\"");
  refused([](O& o) { o.population = 0; }, "population is 0");
  refused([](O& o) { o.population = int64_t{1} << 60; }, "population is 1152921504606846976");
  refused([](O& o) { o.generations = 0; }, "generations is 0");
  refused([](O& o) { o.top = 0; }, "top is 0");
  refused([](O& o) { o.mutations = -1; }, "mutations is -1");
  refused([](O& o) { o.crossovers = -1; }, "crossovers is -1");
  refused([](O& o) { o.mutations = 26; }, "more than the population of 50");
  refused([](O& o) { o.mutate_block = 1.5; }, "mutate_block is 1.5");
  refused([](O& o) { o.mutate_shape = std::nan(""); }, "mutate_shape is nan");
  refused([](O& o) { o.min_params = -1; }, "must not be negative");
  refused([](O& o) { o.min_params = 10, o.max_params = 9; }, "min_params 10 is above max_params 9");
  O random;
  random.algorithm = "random", random.population = 5;
  EXPECT_NO_THROW(random.validate(small_space()));
  SearchSpace broken = small_space();
  broken.num_heads.clear();
  EXPECT_THROW(O().validate(broken), Error);
}

}  // namespace
}  // namespace entangle
