#include "tools/common/correlation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/check.h"

namespace entangle {
namespace {

TEST(RankCorrelation, AveragesTiesAndHasTheSignOfTheOrder) {
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 30}, {2, 4, 5}), 1);
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3}, {3, 2, 1}), -1);
  // Ranks 0, 1.5, 1.5, 3 and 0, 2, 1, 3: covariance 4.5, variances 4.5 and 5.
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 2, 3}, {1, 3, 2, 4}), 4.5 / std::sqrt(4.5 * 5));
  EXPECT_TRUE(std::isnan(rank_correlation({1, 1}, {1, 2})));
  EXPECT_THROW(rank_correlation({1}, {1, 2}), Error);
  EXPECT_DOUBLE_EQ(mean_relative_error({11, 18}, {10, 20}), 0.1);
  EXPECT_THROW(mean_relative_error({}, {}), Error);
}

TEST(KendallTau, CountsPairsAndLeavesTiesOut) {
  EXPECT_EQ(kendall_tau({1, 2, 3, 4}, {10, 20, 30, 40}), 1);
  EXPECT_EQ(kendall_tau({1, 2, 3, 4}, {4, 3, 2, 1}), -1);
  EXPECT_NEAR(kendall_tau({1, 2, 3, 4}, {1, 2, 4, 3}), (5.0 - 1) / 6, 1e-12);
  // Of six pairs one is tied in the first list and another one in the second; the other four agree.
  EXPECT_NEAR(kendall_tau({1, 1, 2, 3}, {1, 2, 3, 3}), 4 / std::sqrt(5.0 * 5.0), 1e-12);
  EXPECT_TRUE(std::isnan(kendall_tau({1, 1}, {1, 2})));
  EXPECT_THROW(kendall_tau({1}, {1, 2}), Error);
}

// Kendall 1942: three rankings of which the third explains all that the first two have in common, and one that it does
// not.
TEST(PartialKendallTau, TakesOutWhatTheThirdExplains) {
  const std::vector<double> size = {1, 2, 3, 4, 5, 6};
  // Both rise with size but for one swap each, at different places: 13 of 15 pairs agree with size, 11 with one
  // another.
  const std::vector<double> a = {2, 1, 3, 4, 5, 6}, b = {1, 2, 3, 4, 6, 5};
  const double with_size = 13.0 / 15, together = 11.0 / 15;
  EXPECT_NEAR(partial_kendall_tau(a, b, size), (together - with_size * with_size) / (1 - with_size * with_size), 1e-12);
  EXPECT_LT(partial_kendall_tau(a, b, size), 0);
  EXPECT_NEAR(partial_kendall_tau(a, a, size), 1, 1e-12);
  EXPECT_FALSE(std::isfinite(partial_kendall_tau(size, b, size)));
}

}  // namespace
}  // namespace entangle
