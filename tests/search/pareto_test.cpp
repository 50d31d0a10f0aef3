#include "search/pareto.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/rng.h"
#include "search/front.h"
#include "tests/search/small_search.h"

namespace entangle {
namespace {

using namespace small_search;

std::vector<Point> random_points(size_t count, size_t objectives, uint64_t seed, int64_t levels) {
  Rng rng(seed, Stream::synthetic);
  std::vector<Point> points(count, Point(objectives));
  for (Point& point : points) {
    for (double& x : point) x = static_cast<double>(rng.below(levels)) / static_cast<double>(levels);
  }
  return points;
}

// Share of a fine grid's cells, of which points on the grid cover whole ones, that some point dominates: exact.
double counted_volume(const std::vector<Point>& points, int64_t levels, size_t objectives) {
  int64_t cells = 1, covered = 0;
  for (size_t i = 0; i < objectives; ++i) cells *= levels;
  for (int64_t cell = 0; cell < cells; ++cell) {
    Point corner;
    for (int64_t rest = cell, i = 0; i < static_cast<int64_t>(objectives); ++i, rest /= levels)
      corner.push_back(static_cast<double>(rest % levels) / static_cast<double>(levels));
    covered += std::any_of(points.begin(), points.end(), [&](const Point& p) {
      return std::equal(p.begin(), p.end(), corner.begin(), [](double a, double b) { return a <= b + 1e-12; });
    });
  }
  return static_cast<double>(covered) / static_cast<double>(cells);
}

TEST(Pareto, DominatesIsStrictInOneObjective) {
  EXPECT_TRUE(dominates({1, 2}, {1, 3}));
  EXPECT_FALSE(dominates({1, 2}, {1, 2}));
  EXPECT_FALSE(dominates({1, 3}, {2, 2}));
  EXPECT_FALSE(dominates({1, 3}, {1, 2}));
}

TEST(Pareto, FrontsAreThoseOfPeelingOffWhatNothingDominates) {
  for (const size_t objectives : {1, 2, 4}) {
    const std::vector<Point> points = random_points(120, objectives, objectives, 12);
    std::vector<size_t> left(points.size());
    for (size_t i = 0; i < left.size(); ++i) left[i] = i;
    for (const std::vector<size_t>& front : sort_into_fronts(points)) {
      std::vector<size_t> best, rest;
      for (const size_t i : left) {
        const bool beaten =
            std::any_of(left.begin(), left.end(), [&](size_t k) { return dominates(points[k], points[i]); });
        (beaten ? rest : best).push_back(i);
      }
      EXPECT_EQ(front, best);
      left = rest;
    }
    EXPECT_TRUE(left.empty());
  }
  EXPECT_TRUE(sort_into_fronts({}).empty());
}

TEST(Pareto, CrowdingIsTheNeighboursDistanceOverTheRange) {
  const std::vector<Point> points = {{9, 9}, {0, 8}, {1, 4}, {4, 2}, {10, 0}};
  const std::vector<double> distances = crowding_distances(points, {1, 2, 3, 4});
  EXPECT_TRUE(std::isinf(distances[0]) && std::isinf(distances[3]));
  EXPECT_DOUBLE_EQ(distances[1], 4.0 / 10 + 6.0 / 8);
  EXPECT_DOUBLE_EQ(distances[2], 9.0 / 10 + 4.0 / 8);
  // Equal in an objective: it adds nothing, and nothing is divided by zero.
  const std::vector<double> flat = crowding_distances({{0, 5}, {1, 5}, {3, 5}}, {0, 1, 2});
  EXPECT_DOUBLE_EQ(flat[1], 1);
}

TEST(Pareto, HypervolumeIsTheVolumeCounted) {
  EXPECT_DOUBLE_EQ(hypervolume({{0.25, 0.5}}, {1, 1}), 0.375);
  EXPECT_EQ(hypervolume({}, {1, 1}), 0);
  EXPECT_EQ(hypervolume({{1, 0}, {0, 1.5}}, {1, 1}), 0) << "not below the reference";
  EXPECT_THROW(hypervolume({{1, 2, 3}}, {1, 1}), Error);
  for (const size_t objectives : {1, 2, 3, 4}) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
      const std::vector<Point> points = random_points(2 + 5 * seed, objectives, seed + 10, 8);
      EXPECT_NEAR(hypervolume(points, Point(objectives, 1)), counted_volume(points, 8, objectives), 1e-12);
    }
  }
}

TEST(Pareto, HypervolumeOfALargeFrontIsQuick) {
  const std::vector<Point> points = random_points(400, 4, 3, 1 << 20);
  const double volume = hypervolume(points, Point(4, 1));
  EXPECT_GT(volume, 0.5);
  EXPECT_LT(volume, 1);
}

Candidate candidate_of(double accuracy, int64_t params, int64_t macs) {
  Candidate candidate;
  candidate.accuracy = accuracy;
  candidate.costs = {params, macs, 0, 0};
  return candidate;
}

TEST(Front, HoldsWhatNoneDominatesByRisingCost) {
  std::vector<Candidate> all = {candidate_of(0.9, 50, 5), candidate_of(0.8, 10, 9),  candidate_of(0.8, 20, 9),
                                candidate_of(0.7, 10, 8), candidate_of(0.95, 60, 1), candidate_of(0.9, 50, 5)};
  all[5].generation = 1;
  all.push_back(candidate_of(0.99, 1, 1));
  all.back().stopped = true;
  const std::vector<Candidate> front = front_of(all, {Metric::params, Metric::macs});
  ASSERT_EQ(front.size(), 4u);
  EXPECT_EQ(front[0].accuracy, 0.8);
  EXPECT_EQ(front[1].accuracy, 0.7);
  EXPECT_EQ(front[2].accuracy, 0.9);
  EXPECT_EQ(front[2].generation, 0) << "the earliest of equals";
  EXPECT_EQ(front[3].accuracy, 0.95);
  EXPECT_EQ(front_of(all, {Metric::params}).size(), 3u);
}

TEST(Front, CoversAShareOfItsScale) {
  const std::vector<Candidate> all = {candidate_of(0.75, 20, 0), candidate_of(0.5, 10, 0)};
  const FrontScale scale = {{Metric::params}, {{0, 40}}, 0.5, 1};
  EXPECT_DOUBLE_EQ(covered_share(all, scale), 0.25);
  const FrontScale lower = {{Metric::params}, {{0, 40}}, 0, 1};
  EXPECT_DOUBLE_EQ(covered_share(all, lower), 0.5 * 0.75 + 0.25 * 0.5);
  const FrontScale flat = {{Metric::params}, {{20, 20}}, 0.5, 0.5};
  EXPECT_EQ(covered_share({candidate_of(0.5, 20, 0)}, flat), 0);
}

// Two costs in conflict with accuracy; at an equal number of candidates NSGA-II covers more in every seed.
TEST(Nsga2, CoversMoreThanRandomSearchInEverySeed) {
  const SearchSpace space = {{6, 7, 8}, {16, 24, 32, 40}, {1, 2, 3, 4}, {1, 2, 3, 4}};
  const CostTable table = small_table(space);
  const Fitness fitness = [](const Architecture& a) {
    double sum = std::log(a.embed_dim) + 0.1 * a.depth;
    for (size_t i = 0; i < a.num_heads.size(); ++i) {
      const double late = static_cast<double>(i) / 8;
      sum += 0.2 * std::sqrt(a.mlp_ratio[i]) * late + 0.2 * std::sqrt(a.num_heads[i]) * (1 - late);
    }
    return sum / 20;
  };
  SearchOptions options;
  options.population = 40, options.generations = 12, options.objectives = "params,macs";
  const std::vector<Metric> metrics = options.objective_metrics();
  for (uint64_t seed = 0; seed < 5; ++seed) {
    options.seed = seed;
    options.algorithm = "nsga2";
    const SearchResult nsga2 = run(table, options, fitness);
    options.algorithm = "random";
    const SearchResult random = run(table, options, fitness);
    ASSERT_EQ(nsga2.candidates.size(), 480u);
    ASSERT_EQ(random.candidates.size(), 480u);
    const FrontScale scale = {metrics, {table.range(metrics[0]), table.range(metrics[1])}, 0.1, 0.5};
    EXPECT_GT(covered_share(nsga2.candidates, scale), covered_share(random.candidates, scale)) << seed;
  }
}

}  // namespace
}  // namespace entangle
