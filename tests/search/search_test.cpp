#include "search/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "search/algorithm.h"
#include "tests/search/small_search.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

using namespace small_search;

int64_t params_of(const Candidate& candidate) { return get(candidate.costs, Metric::params); }

// -------------------------------------------------------------------------------------------------------- algorithm

TEST(Search, FindsTheBestUnderALimit) {
  // 16,128 architectures; the fitness rewards every gene, and the best that the limit allows is known by enumeration.
  const SearchSpace space = {{4, 5, 6}, {8, 16, 24}, {2, 4}, {1, 2}};
  SearchOptions options = within(0, 1200, SearchOptions());
  double best = 0;
  for (const Architecture& a : every_architecture(space)) {
    if (small_params(a) <= options.max_params) best = std::max(best, small_fitness(a));
  }
  for (uint64_t seed = 0; seed < 5; ++seed) {
    options.seed = seed;
    const SearchResult result = run(small_table(space), options, small_fitness);
    EXPECT_EQ(result.best.accuracy, best) << seed << " " << result.best.architecture.to_json();
    EXPECT_EQ(small_fitness(result.best.architecture), best);
    EXPECT_LE(params_of(result.best), options.max_params);
    EXPECT_EQ(result.candidates.size(), 1000u);
  }
}

TEST(Search, NeverRepeatsACandidateAndKeepsInclusiveLimits) {
  // Both limits are the sizes of architectures that exist.
  const int64_t low = small_params(Architecture::uniform(2, 16, 1, 1));
  const int64_t high = small_params(Architecture::uniform(2, 16, 2, 3));
  for (const char* algorithm : {"evolution", "random", "nsga2"}) {
    SearchOptions options = within(low, high);
    options.algorithm = algorithm;
    options.generations = 12;
    std::set<std::string> seen;
    bool at_low = false, at_high = false;
    const SearchResult result = run_small(options);
    for (const Candidate& candidate : result.candidates) {
      EXPECT_TRUE(small_space().contains(candidate.architecture));
      EXPECT_TRUE(seen.insert(candidate.architecture.to_json()).second) << candidate.architecture.to_json();
      const int64_t params = params_of(candidate);
      EXPECT_EQ(params, small_params(candidate.architecture));
      EXPECT_GE(params, low);
      EXPECT_LE(params, high);
      at_low = at_low || params == low;
      at_high = at_high || params == high;
    }
    EXPECT_EQ(seen.size(), 96u);
    EXPECT_TRUE(at_low && at_high) << algorithm;
  }
}

TEST(Search, GenerationsAreNumberedAndTheLastOneCounts) {
  // The fitness rises with every evaluation: the best is the very last candidate.
  double evaluations = 0;
  const SearchResult result = run(small_table(), small_options(), [&](const Architecture&) { return ++evaluations; });
  ASSERT_EQ(result.candidates.size(), 32u);
  EXPECT_EQ(result.best.architecture, result.candidates.back().architecture);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(result.candidates[i].generation, static_cast<int64_t>(i / 8));
}

TEST(Search, TheEarliestOfEqualsIsBest) {
  const SearchResult result = run(small_table(), small_options(), [](const Architecture&) { return 0.5; });
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
  const CostTable table = table_t();
  double evolution = 0, random = 0;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SearchOptions options = within(0, 7000000, SearchOptions());
    options.seed = seed;
    options.generations = 10;
    evolution += run(table, options, fitness).best.accuracy / 5;
    options.algorithm = "random";
    const SearchResult result = run(table, options, fitness);
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
  const std::vector<const Candidate*> top = most_accurate(all, 60);
  ASSERT_EQ(top.size(), 60u);
  for (size_t i = 0; i < 34; ++i) EXPECT_EQ(top[i]->generation, static_cast<int64_t>(3 * i));
  for (size_t i = 35; i < 60; ++i) {
    EXPECT_EQ(top[i]->accuracy, 0.3);
    EXPECT_GT(top[i]->generation, top[i - 1]->generation);
  }
  all[0].stopped = true;
  EXPECT_EQ(most_accurate(all, 1000).size(), 99u) << "what was given up does not rank";
}

TEST(Search, EachGenerationHasNumbersOfItsOwn) {
  SearchOptions options = small_options();
  options.algorithm = "random", options.population = 1, options.generations = 3;
  const SearchResult result = run(table_t(), options, [](const Architecture&) { return 0.5; });
  EXPECT_NE(result.candidates[0].architecture, result.candidates[1].architecture);
  EXPECT_NE(result.candidates[1].architecture, result.candidates[2].architecture);
}

TEST(Search, AGenerationIsEvaluatedInLexicographicOrderAndInGroups) {
  // A group ends where its generation does.
  class Groups : public Evaluator {
   public:
    int64_t group() const override { return 3; }
    void evaluate(const std::vector<Job>& jobs) override {
      sizes.push_back(jobs.size());
      for (const Job& job : jobs) job.candidate->accuracy = 0.5, job.candidate->images = 7;
    }
    std::vector<size_t> sizes;
  } groups;
  SearchLog none("");
  const SearchResult result = search(small_table(), small_options(), groups, none);
  EXPECT_EQ(groups.sizes, (std::vector<size_t>{3, 3, 2, 3, 3, 2, 3, 3, 2, 3, 3, 2}));
  for (size_t i = 1; i < result.candidates.size(); ++i) {
    const Candidate &a = result.candidates[i - 1], &b = result.candidates[i];
    EXPECT_EQ(b.images, 7);
    if (a.generation != b.generation) continue;
    EXPECT_LE(a.architecture.embed_dim, b.architecture.embed_dim);
    if (a.architecture.embed_dim < b.architecture.embed_dim) continue;
    EXPECT_LE(a.architecture.num_heads[0], b.architecture.num_heads[0]);
  }
}

// Which candidates a search may give up on: below the last parent for evolution, below the best for random search.
TEST(Search, TheBarIsWhatACandidateMustReachToMatter) {
  std::vector<Candidate> past(6);
  for (size_t i = 0; i < past.size(); ++i) past[i].accuracy = 0.1 * static_cast<double>(i + 1);
  past[5].stopped = true;
  SearchOptions options = small_options();
  const SearchSpace space = small_space();
  EXPECT_EQ(make_algorithm(space, options)->bar({}, past)->accuracy, past[1].accuracy);
  options.top = 6;
  EXPECT_EQ(make_algorithm(space, options)->bar({}, past), nullptr) << "fewer than the parents that are kept";
  options.algorithm = "random";
  EXPECT_EQ(make_algorithm(space, options)->bar({}, past)->accuracy, past[4].accuracy);
  EXPECT_EQ(make_algorithm(space, options)->bar({}, {}), nullptr);
  // For the front only what costs no more counts.
  options.algorithm = "nsga2";
  for (size_t i = 0; i < past.size(); ++i) past[i].costs[0] = static_cast<int64_t>(i);
  Candidate next;
  EXPECT_EQ(make_algorithm(space, options)->bar(next, past), &past[0]);
  next.costs[0] = 2;
  EXPECT_EQ(make_algorithm(space, options)->bar(next, past), &past[2]);
  next.costs[0] = -1;
  EXPECT_EQ(make_algorithm(space, options)->bar(next, past), nullptr);
}

TEST(Search, JobsCarryTheirBarOnlyWhereStoppingIsAllowed) {
  class Bars : public Evaluator {
   public:
    void evaluate(const std::vector<Job>& jobs) override {
      for (const Job& job : jobs) {
        job.candidate->accuracy = small_fitness(job.candidate->architecture);
        bars += job.bar != nullptr;
        // What does not exceed its bar is given up, with an accuracy that would win if it ranked.
        job.candidate->stopped = job.bar != nullptr && job.candidate->accuracy <= job.bar->accuracy;
        if (job.candidate->stopped) job.candidate->accuracy = 10;
      }
    }
    int64_t bars = 0;
  } bars;
  SearchOptions options = small_options();
  options.early_stop = false;
  SearchLog none(""), other("");
  search(small_table(), options, bars, none);
  EXPECT_EQ(bars.bars, 0);
  options.early_stop = true;
  const SearchResult stopping = search(small_table(), options, bars, other);
  EXPECT_EQ(bars.bars, 24) << "all but the first generation";
  // What is given up changes nothing that is drawn later, and does not win.
  const SearchResult whole = run_small(small_options());
  ASSERT_EQ(stopping.candidates.size(), whole.candidates.size());
  for (size_t i = 0; i < whole.candidates.size(); ++i)
    EXPECT_EQ(stopping.candidates[i].architecture, whole.candidates[i].architecture);
  EXPECT_EQ(stopping.best.architecture, whole.best.architecture);
}

// With rates of zero a mutation repeats its parent, and with equal parents so does a crossover.
TEST(Search, ChildrenThatOnlyRepeatAreGivenUpAndRefilled) {
  SearchOptions options = small_options();
  options.mutate_block = options.mutate_shape = 0;
  options.top = 1;
  const SearchResult result = run_small(options);
  EXPECT_EQ(result.candidates.size(), 32u);
}

TEST(Search, EvolutionBreedsMutationsThenCrossovers) {
  // Mutations change embed_dim only, and the parents have fixed patterns.
  SearchOptions options = small_options();
  options.mutate_block = 0, options.mutate_shape = 1, options.top = 2, options.mutations = 2, options.crossovers = 2;
  const SearchSpace space = {{6}, {8, 16, 24, 32, 40, 48}, {1, 2, 3}, {1, 2}};
  const CostTable table = small_table(space);
  const FeasibleSet all(table, {});
  CandidateSource source(table, all);
  std::vector<Candidate> past(2), next;
  past[0].architecture = Architecture::uniform(6, 8, 1, 1);
  past[1].architecture = Architecture::uniform(6, 48, 2, 3);
  Rng rng(11, Stream::search);
  make_algorithm(space, options)->breed(past, source, rng, next);
  ASSERT_EQ(next.size(), 4u);
  for (size_t i = 0; i < 2; ++i) {
    const Architecture& a = next[i].architecture;
    EXPECT_TRUE(a == Architecture::uniform(6, a.embed_dim, 1, 1) || a == Architecture::uniform(6, a.embed_dim, 2, 3));
  }
  for (size_t i = 2; i < 4; ++i) {
    const Architecture& a = next[i].architecture;
    EXPECT_TRUE(a.embed_dim == 8 || a.embed_dim == 48);
    EXPECT_EQ(std::count(a.mlp_ratio.begin(), a.mlp_ratio.end(), 2.0), 0);
  }
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
    const std::string message = message_of([&] { run(small_table(), small_options(), fitness, log); });
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
  const SearchResult part = run(small_table(), small_options(), small_fitness, log, stop);
  EXPECT_EQ(part.candidates.size(), 13u);
  EXPECT_FALSE(part.finished);
  EXPECT_EQ(calls, 13);
  // Continuing reports what is evaluated now only.
  const SearchProgress count = [&](const Candidate&, int64_t done, int64_t) { return done == ++calls; };
  expect_same(run(small_table(), small_options(), small_fitness, log, count), run_small(small_options()));
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
  refused([](O& o) { o.min_macs = 10, o.max_macs = 9; }, "min_macs 10 is above max_macs 9");
  refused([](O& o) { o.max_activation_bytes = -1; }, "max_activation_bytes -1 must not be negative");
  refused([](O& o) { o.min_latency_ms = 2, o.max_latency_ms = 1.5; }, "min_latency_ms 2 is above max_latency_ms 1.5");
  refused([](O& o) { o.max_latency_ms = std::nan(""); }, "max_latency_ms nan");
  refused([](O& o) { o.objectives = "params,speed"; }, "'speed' is not a cost; there are params, macs");
  refused([](O& o) { o.objectives = "macs,macs"; }, "objectives names macs twice");
  refused([](O& o) { o.objectives = ""; }, "'' is not a cost");
  O random;
  random.algorithm = "random", random.population = 5;
  EXPECT_NO_THROW(random.validate(small_space()));
  SearchSpace broken = small_space();
  broken.num_heads.clear();
  EXPECT_THROW(O().validate(broken), Error);
}

}  // namespace
}  // namespace entangle
