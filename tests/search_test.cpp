#include "search/search.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <string>

#include "nn/cost.h"
#include "search/generation.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

// 3 * (6 + 36 + 216) = 774 architectures.
SearchSpace small_space() { return {{1, 2, 3}, {8, 16, 24}, {1, 2, 3}, {1, 2}}; }

int64_t small_params(const Architecture& a) {
  int64_t sum = 10 * a.embed_dim;
  for (size_t i = 0; i < a.num_heads.size(); ++i)
    sum += a.embed_dim * (a.num_heads[i] + hidden_width(4, a.mlp_ratio[i]));
  return sum;
}

// Smooth, largest for the largest, and different for different architectures.
double small_fitness(const Architecture& a) {
  double sum = 0.1 * a.depth + 0.011 * a.embed_dim;
  for (size_t i = 0; i < a.num_heads.size(); ++i) {
    sum += 0.01 * std::sqrt(a.mlp_ratio[i] * static_cast<double>(i + 2)) +
           0.013 * a.num_heads[i] / static_cast<double>(i + 1);
  }
  return sum;
}

SearchSpace space_t() { return {{12, 13, 14}, {192, 216, 240}, {3.5, 4}, {3, 4}}; }

int64_t params_t(const Architecture& a) { return cost_of(SupernetConfig(), a).params; }

SearchOptions small_options() {
  SearchOptions options;
  options.population = 8, options.generations = 4, options.top = 4;
  options.mutations = 3, options.crossovers = 3;
  options.seed = 11;
  return options;
}

SearchOptions within(int64_t min_params, int64_t max_params, SearchOptions options = small_options()) {
  options.min_params = min_params, options.max_params = max_params;
  return options;
}

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" is not in: " << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

void expect_same(const SearchResult& a, const SearchResult& b) {
  ASSERT_EQ(a.candidates.size(), b.candidates.size());
  for (size_t i = 0; i < a.candidates.size(); ++i) {
    EXPECT_EQ(a.candidates[i].architecture, b.candidates[i].architecture) << i;
    EXPECT_EQ(a.candidates[i].params, b.candidates[i].params) << i;
    EXPECT_EQ(a.candidates[i].accuracy, b.candidates[i].accuracy) << i;
    EXPECT_EQ(a.candidates[i].generation, b.candidates[i].generation) << i;
  }
  EXPECT_EQ(a.best.architecture, b.best.architecture);
}

SearchResult run_small(const SearchOptions& options, const std::string& log = "") {
  return search(small_space(), options, small_fitness, small_params, log);
}

// -------------------------------------------------------------------------------------------------------- algorithm

TEST(Search, FindsTheBestUnderALimit) {
  const int64_t limit = 700;
  double best = 0;
  Rng rng(1, Stream::search);
  for (int i = 0; i < 50000; ++i) {
    const Architecture a = small_space().sample(rng);
    if (small_params(a) <= limit) best = std::max(best, small_fitness(a));
  }
  SearchOptions options = within(0, limit);
  options.generations = 20;
  const SearchResult result = run_small(options);
  EXPECT_EQ(result.best.accuracy, best);
  EXPECT_EQ(small_fitness(result.best.architecture), best);
  EXPECT_LE(result.best.params, limit);
  EXPECT_EQ(result.candidates.size(), 160u);
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
  std::vector<Candidate> all(5);
  const double accuracies[] = {0.3, 0.9, 0.3, 0.95, 0.3};
  for (size_t i = 0; i < 5; ++i) {
    all[i].accuracy = accuracies[i];
    all[i].generation = static_cast<int64_t>(i);
  }
  const std::vector<Candidate> top = most_accurate(all, 4);
  ASSERT_EQ(top.size(), 4u);
  const int64_t expected[] = {3, 1, 0, 2};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(top[i].generation, expected[i]) << i;
  EXPECT_EQ(most_accurate(all, 10).size(), 5u);
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
  expect_contains(small, "ranges from 120 to 576");
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
  expect_contains(message, "was found in 10000 random draws");
  expect_contains(message, concat("nearest are ", range.min, " below and "));
}

TEST(Search, ASmallSpaceEndsWithAllThereIs) {
  SearchOptions options = small_options();
  options.generations = 1000;
  const SearchSpace space = {{1, 2}, {8}, {1, 2}, {1}};  // 2 + 4
  for (const char* algorithm : {"evolution", "random"}) {
    options.algorithm = algorithm;
    EXPECT_EQ(search(space, options, small_fitness, small_params, "").candidates.size(), 6u);
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

// -------------------------------------------------------------------------------------------------------------- log

TEST(SearchLog, KilledAnywhereItEndsAsIfItHadNotBeen) {
  TemporaryDirectory dir;
  const SearchOptions options = within(200, 500);
  const SearchResult whole = run_small(options, dir.path("whole"));
  const std::string bytes = read(dir.path("whole"));
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), '\n'), 33);
  for (int killed_at = 0; killed_at <= 32; ++killed_at) {
    const std::string log = dir.path(concat("killed", killed_at));
    int evaluations = 0;
    const Fitness dying = [&](const Architecture& a) {
      if (evaluations++ == killed_at) throw std::runtime_error("killed");
      return small_fitness(a);
    };
    if (killed_at < 32) EXPECT_THROW(search(small_space(), options, dying, small_params, log), std::runtime_error);
    EXPECT_EQ(bytes.compare(0, read(log).size(), read(log)), 0);
    int again = 0;
    const Fitness counting = [&](const Architecture& a) { return ++again, small_fitness(a); };
    expect_same(search(small_space(), options, counting, small_params, log), whole);
    EXPECT_EQ(read(log), bytes) << killed_at;
    EXPECT_EQ(again, 32 - std::min(killed_at, killed_at < 32 ? 32 : 0)) << killed_at;
  }
}

TEST(SearchLog, CutAtAnyByteItIsRepaired) {
  TemporaryDirectory dir;
  SearchOptions options = small_options();
  options.population = 3, options.generations = 2, options.mutations = options.crossovers = 1;
  const SearchResult whole = run_small(options, dir.path("whole"));
  const std::string bytes = read(dir.path("whole")), log = dir.path("cut");
  for (size_t length = 0; length <= bytes.size(); length += length < bytes.size() - 2 ? 3 : 1) {
    write(log, bytes.substr(0, length));
    expect_same(run_small(options, log), whole);
    ASSERT_EQ(read(log), bytes) << length;
  }
}

TEST(SearchLog, EachLineIsThereWhenTheNextCandidateIsEvaluated) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  int64_t lines = 0;
  const Fitness fitness = [&](const Architecture& a) {
    const std::string text = read(log);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), ++lines);
    return small_fitness(a);
  };
  search(small_space(), small_options(), fitness, small_params, log);
}

TEST(SearchLog, AnotherSearchIsRefusedByItsFirstDifference) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  run_small(small_options(), log);
  const std::string bytes = read(log);
  const auto refused = [&](SearchOptions options, const SearchSpace& space = small_space()) {
    return message_of([&] { search(space, options, small_fitness, small_params, log); });
  };
  SearchOptions options = small_options();
  options.seed = 5;
  expect_contains(refused(options), "options.seed is 11 there and 5 here");
  expect_contains(refused(within(0, 300)), "options.max_params is 0 there and 300 here");
  options = small_options();
  options.algorithm = "random";
  expect_contains(refused(options), "options.algorithm is \"evolution\" there and \"random\" here");
  SearchSpace space = small_space();
  space.embed_dim = {8, 16};
  expect_contains(refused(small_options(), space), "space.embed_dim is [8,16,24] there and [8,16] here");
  std::string newer = bytes;
  newer.replace(newer.find("\"format_version\":1"), 18, "\"format_version\":2");
  write(log, newer);
  expect_contains(refused(small_options()), "format_version is 2 there and 1 here");
  EXPECT_EQ(read(log), newer) << "a refused log is left as it was";
}

TEST(SearchLog, WhatIsNotALogIsRefusedAndLeftAlone) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  const std::string others[] = {"precious notes", "precious notes\nin two lines\n", "{\"a\":1}\n",
                                std::string(100000, '[') + "\n", std::string("\0\n", 2)};
  for (const std::string& text : others) {
    write(log, text);
    expect_contains(message_of([&] { run_small(small_options(), log); }), "is not the log of a search");
    EXPECT_EQ(read(log), text);
  }
  expect_contains(message_of([&] { run_small(small_options(), dir.root()); }), "is not a file");
  expect_contains(message_of([&] { run_small(small_options(), dir.path("missing/log")); }), "cannot write");
}

TEST(SearchLog, AnEditedLineIsRefusedByItsNumber) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  run_small(small_options(), log);
  const std::string bytes = read(log);
  const size_t third = bytes.find('\n', bytes.find('\n') + 1) + 1;
  const size_t end = bytes.find('\n', third);
  const auto refused = [&](const std::string& line) {
    write(log, bytes.substr(0, third) + line + bytes.substr(end));
    return message_of([&] { run_small(small_options(), log); });
  };
  expect_contains(refused("nonsense"), "line 3");
  expect_contains(refused(""), "line 3");
  expect_contains(refused("{\"accuracy\":\"high\"}"), "line 3");
  expect_contains(refused("{\"accuracy\":1e999}"), "line 3");
  std::string line = bytes.substr(third, end - third);
  line.replace(line.find("\"params\":"), 9, "\"params\":1");
  expect_contains(refused(line), "line 3");
  write(log, bytes + bytes.substr(third, end - third + 1));
  expect_contains(message_of([&] { run_small(small_options(), log); }), "line 34");
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
