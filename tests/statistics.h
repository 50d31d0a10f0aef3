// Whether numbers follow a distribution.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace entangle {

// Kolmogorov and Smirnov: the largest distance of the empirical distribution of u from the uniform one on [0, 1].
inline double uniform_distance(std::vector<double> u) {
  std::sort(u.begin(), u.end());
  const double n = static_cast<double>(u.size());
  double most = 0;
  for (size_t i = 0; i < u.size(); ++i) {
    most = std::max(
        {most, std::fabs(u[i] - static_cast<double>(i) / n), std::fabs(u[i] - static_cast<double>(i + 1) / n)});
  }
  return most;
}

// Fails once in a thousand seeds; numbers of another distribution come by the distribution function of theirs.
inline void expect_uniform(const std::vector<double>& u) {
  ASSERT_FALSE(u.empty());
  EXPECT_LT(uniform_distance(u), 1.95 / std::sqrt(static_cast<double>(u.size())));
}

// Pearson's statistic of counts against equal frequencies.
inline double chi_square(const std::vector<int>& counts) {
  double total = 0, statistic = 0;
  for (const int count : counts) total += count;
  const double expected = total / static_cast<double>(counts.size());
  for (const int count : counts) statistic += (count - expected) * (count - expected) / expected;
  return statistic;
}

}  // namespace entangle
