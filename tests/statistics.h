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

// Pearson's statistic of counts against the shares that they should have of all.
inline double chi_square(const std::vector<int>& counts, const std::vector<double>& shares) {
  double total = 0, statistic = 0;
  for (const int count : counts) total += count;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = total * shares[i];
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return statistic;
}

// Against equal frequencies.
inline double chi_square(const std::vector<int>& counts) {
  return chi_square(counts, std::vector<double>(counts.size(), 1 / static_cast<double>(counts.size())));
}

}  // namespace entangle
