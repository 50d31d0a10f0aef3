#include "search/predictor.h"

#include <algorithm>
#include <stdexcept>

#include "search/algorithm.h"
#include "tests/search/small_search.h"
#include "tests/temporary_directory.h"
#include "tools/common/correlation.h"

namespace entangle {
namespace {

using namespace small_search;

// Random architectures of the small space, with what the small fitness says of them and some noise.
std::vector<Candidate> scored(size_t count, double noise, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  std::vector<Candidate> out(count);
  for (Candidate& candidate : out) {
    candidate.architecture = small_space().sample(rng);
    candidate.accuracy = small_fitness(candidate.architecture) + noise * normal(rng);
  }
  return out;
}

// The small fitness adds up over genes, as the predictor supposes.
TEST(AccuracyPredictor, OrdersUnseenSubnetsOfAnAdditiveAccuracy) {
  AccuracyPredictor predictor(small_space());
  ASSERT_TRUE(predictor.fit(scored(200, 0, 1)));
  std::vector<double> predicted, wanted;
  for (const Architecture& a : every_architecture(small_space())) {
    predicted.push_back(predictor.predict(a));
    wanted.push_back(small_fitness(a));
    EXPECT_NEAR(predicted.back(), wanted.back(), 0.02) << a.to_json();
  }
  EXPECT_GT(kendall_tau(predicted, wanted), 0.95);
}

// One choice, in columns of 0 and 1 and a last column of ones, whose effect is not penalised.
std::vector<double> row_of(const Architecture& a, const SearchSpace& space) {
  std::vector<double> row;
  const auto add = [&](const auto& choices, double value) {
    for (const auto choice : choices) row.push_back(static_cast<double>(choice) == value ? 1 : 0);
  };
  add(space.embed_dim, a.embed_dim);
  add(space.depth, a.depth);
  for (size_t block = 0; block < static_cast<size_t>(space.depth.back()); ++block) {
    const bool there = block < a.num_heads.size();
    add(space.num_heads, there ? a.num_heads[block] : -1);
    add(space.mlp_ratio, there ? a.mlp_ratio[block] : -1);
  }
  row.push_back(1);
  return row;
}

// Effects by Gauss-Jordan elimination of the normal equations, without `left_out`.
std::vector<double> effects_without(const std::vector<Candidate>& all, size_t left_out, double penalty) {
  const size_t n = row_of(all[0].architecture, small_space()).size();
  std::vector<std::vector<double>> m(n, std::vector<double>(n + 1));
  for (size_t i = 0; i + 1 < n; ++i) m[i][i] = penalty;
  for (size_t c = 0; c < all.size(); ++c) {
    if (c == left_out) continue;
    const std::vector<double> row = row_of(all[c].architecture, small_space());
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) m[i][j] += row[i] * row[j];
      m[i][n] += row[i] * all[c].accuracy;
    }
  }
  for (size_t pivot = 0; pivot < n; ++pivot) {
    for (size_t i = 0; i < n; ++i) {
      if (i == pivot) continue;
      const double factor = m[i][pivot] / m[pivot][pivot];
      for (size_t j = pivot; j <= n; ++j) m[i][j] -= factor * m[pivot][j];
    }
  }
  std::vector<double> effects;
  for (size_t i = 0; i < n; ++i) effects.push_back(m[i][n] / m[i][i]);
  return effects;
}

double predicted_by(const std::vector<double>& effects, const Architecture& a) {
  const std::vector<double> row = row_of(a, small_space());
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) sum += row[i] * effects[i];
  return sum;
}

TEST(AccuracyPredictor, LeavingOneOutIsFittingAnewAndChoosesThePenalty) {
  const std::vector<Candidate> all = scored(40, 0.05, 2);
  std::vector<double> best;
  double least = 1e300, penalty_of_best = 0;
  for (const double penalty : {0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0}) {
    std::vector<double> predictions;
    double error = 0;
    for (size_t c = 0; c < all.size(); ++c) {
      predictions.push_back(predicted_by(effects_without(all, c, penalty), all[c].architecture));
      error += std::pow(predictions.back() - all[c].accuracy, 2);
    }
    if (error < least) least = error, best = predictions, penalty_of_best = penalty;
  }
  EXPECT_GT(penalty_of_best, 0.1) << "the case is to need a choice";
  AccuracyPredictor predictor(small_space());
  ASSERT_TRUE(predictor.fit(all));
  ASSERT_EQ(predictor.leave_one_out().size(), all.size());
  for (size_t c = 0; c < all.size(); ++c) EXPECT_NEAR(predictor.leave_one_out()[c], best[c], 1e-9) << c;
  const std::vector<double> whole = effects_without(all, all.size(), penalty_of_best);
  for (const Architecture& a : every_architecture(small_space())) {
    EXPECT_NEAR(predictor.predict(a), predicted_by(whole, a), 1e-9) << a.to_json();
  }
}

TEST(AccuracyPredictor, LearnsNothingFromWhatWasGivenUpAndNeedsTwo) {
  std::vector<Candidate> some = scored(20, 0.01, 3), more = some;
  for (Candidate candidate : scored(20, 5, 4)) {
    candidate.stopped = true;
    more.push_back(candidate);
  }
  AccuracyPredictor a(small_space()), b(small_space());
  ASSERT_TRUE(a.fit(some) && b.fit(more));
  EXPECT_EQ(a.predict(small_space().largest()), b.predict(small_space().largest()));
  EXPECT_THROW(a.predict(Architecture::uniform(9, 8, 1, 1)), Error);
  some.resize(1);
  EXPECT_FALSE(a.fit(some));
  EXPECT_THROW(a.predict(small_space().largest()), Error);
  some.push_back(some[0]);  // nothing to tell apart: everything is as accurate as the mean
  ASSERT_TRUE(a.fit(some));
  EXPECT_NEAR(a.predict(small_space().largest()), some[0].accuracy, 1e-12);
}

SearchOptions predicting() {
  SearchOptions options = small_options();
  options.predictor = "ridge", options.predictor_pool = 4;
  return options;
}

TEST(AccuracyPredictor, ASearchScoresTheChildrenThatItPrefers) {
  const SearchResult with = run_small(predicting()), without = run_small(small_options());
  ASSERT_EQ(with.candidates.size(), without.candidates.size());
  EXPECT_GE(with.best.accuracy, without.best.accuracy);
  // Children were predicted from the generations before, random ones and the first generation were not.
  std::vector<Candidate> past;
  for (size_t begin = 0; begin < with.candidates.size(); begin += 8) {
    AccuracyPredictor predictor(small_space());
    int64_t children = 0;
    for (size_t i = begin; i < begin + 8; ++i) {
      const Candidate& candidate = with.candidates[i];
      if (!candidate.predicted) continue;
      ++children;
      ASSERT_TRUE(predictor.fit(past));
      EXPECT_EQ(*candidate.predicted, predictor.predict(candidate.architecture));
    }
    EXPECT_EQ(children, begin == 0 ? 0 : 6);
    past.insert(past.end(), with.candidates.begin() + static_cast<std::ptrdiff_t>(begin),
                with.candidates.begin() + static_cast<std::ptrdiff_t>(begin) + 8);
  }
  // A wider choice of children gives ones that are expected to be better.
  const auto mean_prediction = [](const SearchResult& result) {
    double sum = 0;
    for (size_t i = 8; i < 16; ++i) sum += result.candidates[i].predicted.value_or(0);
    return sum;
  };
  SearchOptions narrow = predicting();
  narrow.predictor_pool = 1;
  EXPECT_GT(mean_prediction(with), mean_prediction(run_small(narrow)));
}

TEST(AccuracyPredictor, WhatWasNotChosenMayComeAgain) {
  const CostTable table = small_table();
  const FeasibleSet feasible(table, SearchOptions().limits());
  CandidateSource source(table, feasible);
  const Architecture a = small_space().largest();
  const std::optional<Candidate> candidate = source.admit(a);
  ASSERT_TRUE(candidate);
  EXPECT_FALSE(source.admit(a));
  source.put_back(*candidate);
  EXPECT_TRUE(source.admit(a));
}

TEST(AccuracyPredictor, AKilledSearchEndsAsIfItHadNotBeen) {
  TemporaryDirectory dir;
  const SearchResult whole = run_small(predicting(), dir.path("whole"));
  const std::string bytes = read(dir.path("whole"));
  EXPECT_NE(bytes.find("\"predicted\":"), std::string::npos);
  for (int killed_at = 0; killed_at < 32; ++killed_at) {
    const std::string log = dir.path(concat("killed", killed_at));
    int evaluations = 0;
    const Fitness dying = [&](const Architecture& a) {
      if (evaluations++ == killed_at) throw std::runtime_error("killed");
      return small_fitness(a);
    };
    EXPECT_THROW(run(small_table(), predicting(), dying, log), std::runtime_error);
    expect_same(run_small(predicting(), log), whole);
    EXPECT_EQ(read(log), bytes) << killed_at;
  }
}

TEST(AccuracyPredictor, OptionsAreChecked) {
  const auto message = [](SearchOptions options) { return message_of([&] { options.validate(small_space()); }); };
  SearchOptions options = predicting();
  options.predictor = "forest";
  expect_contains(message(options), "predictor is \"forest\", but must be none or ridge");
  options = predicting();
  options.algorithm = "random";
  expect_contains(message(options), "predictor ridge goes with algorithm evolution, not with random");
  options = predicting();
  options.predictor_pool = 0;
  expect_contains(message(options), "predictor_pool is 0");
  options.predictor_pool = 500000;
  expect_contains(message(options), "population times predictor_pool");
}

}  // namespace
}  // namespace entangle
