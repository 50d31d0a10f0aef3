#include "engine/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/check.h"

namespace entangle {
namespace {

constexpr int kDraws = 100000;

struct Moments {
  double mean = 0, variance = 0;
};

template <class Draw>
Moments moments_of(const Draw& draw) {
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = draw();
    sum += x;
    squares += x * x;
  }
  const double mean = sum / kDraws;
  return {mean, squares / kDraws - mean * mean};
}

void expect_block(RngKey key, uint64_t block, std::vector<uint32_t> want) {
  const RngBlock got = rng_block(key, block);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(got.word[i], want[i]) << "word " << i;
    EXPECT_EQ(rng_word(key, 4 * block + i), want[i]) << "word " << i << " by its index";
  }
}

// Known answers published with the algorithm: counter = (block low, block high, step, stream), key = (seed low, high).
TEST(Rng, PhiloxKnownAnswers) {
  expect_block({0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const RngKey ones = {~uint64_t{0}, 0xffffffff, 0xffffffff};
  const RngBlock got = rng_block(ones, ~uint64_t{0});
  const uint32_t want[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], want[i]);
  // Digits of pi, different in every word: this one also fixes which word is which.
  const RngBlock pi = rng_block({0x299f31d0a4093822, 0x03707344, 0x13198a2e}, 0x85a308d3243f6a88);
  const uint32_t pi_want[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pi.word[i], pi_want[i]);
}

TEST(Rng, CursorReadsTheSequenceInOrder) {
  Rng rng(7, Stream::dropout, 3);
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(rng.word(), rng_word(rng_key(7, Stream::dropout, 3), i));
}

TEST(Rng, SequencesDifferInSeedStreamAndStep) {
  const std::vector<RngKey> keys = {rng_key(1, Stream::mixing, 1), rng_key(2, Stream::mixing, 1),
                                    rng_key(1, Stream::search, 1), rng_key(1, Stream::mixing, 2),
                                    rng_key(1, Stream::mixing, 1 + (uint64_t{1} << 32))};
  for (size_t a = 0; a < keys.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      int equal = 0;
      for (uint64_t i = 0; i < 1000; ++i) equal += rng_word(keys[a], i) == rng_word(keys[b], i);
      EXPECT_LE(equal, 1) << a << " and " << b;
    }
  }
}

// Five standard errors: sd / sqrt(n) of the mean, and of the variance sqrt((m4 - sd^4) / n).
TEST(Rng, UniformMoments) {
  Rng rng(1, Stream::synthetic);
  double least = 1, most = 0;
  const Moments found = moments_of([&] {
    const double x = rng.uniform();
    least = std::min(least, x);
    most = std::max(most, x);
    return x;
  });
  EXPECT_NEAR(found.mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(found.variance, 1.0 / 12, 5 * std::sqrt((1.0 / 80 - 1.0 / 144) / kDraws));
  EXPECT_GE(least, 0);
  EXPECT_LT(most, 1);
  const RngKey key = rng_key(2, Stream::synthetic);
  uint64_t i = 0;
  const Moments single = moments_of([&] { return rng_uniform(key, i++); });
  EXPECT_NEAR(single.mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(single.variance, 1.0 / 12, 5 * std::sqrt((1.0 / 80 - 1.0 / 144) / kDraws));
}

TEST(Rng, NormalMoments) {
  Rng rng(3, Stream::synthetic);
  const Moments found = moments_of([&] { return normal(rng); });
  EXPECT_NEAR(found.mean, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(found.variance, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_EQ(rng.next, uint64_t{2 * kDraws});
}

// Kolmogorov-Smirnov: sqrt(n) D exceeds 1.95 with probability 0.001.
TEST(Rng, NormalDistribution) {
  Rng rng(4, Stream::synthetic);
  std::vector<double> draws(kDraws);
  for (double& x : draws) x = normal(rng);
  std::sort(draws.begin(), draws.end());
  double distance = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double below = 0.5 * std::erfc(-draws[i] / std::sqrt(2.0));
    distance = std::max({distance, std::abs(below - double(i) / kDraws), std::abs(below - double(i + 1) / kDraws)});
  }
  EXPECT_LT(distance * std::sqrt(kDraws), 1.95);
}

// Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
TEST(Rng, BetaMoments) {
  for (const double a : {0.8, 1.0, 0.2, 5.0}) {
    Rng rng(5, Stream::mixing);
    const Moments found = moments_of([&] { return symmetric_beta(rng, a); });
    const double variance = 1 / (4 * (2 * a + 1));
    EXPECT_NEAR(found.mean, 0.5, 5 * std::sqrt(variance / kDraws)) << a;
    // The fourth central moment is at most that of a fair coin on {0, 1}, 1/16.
    EXPECT_NEAR(found.variance, variance, 5 * std::sqrt(1.0 / 16 / kDraws)) << a;
  }
}

TEST(Rng, BetaOfOneIsUniform) {
  Rng rng(6, Stream::mixing);
  std::vector<double> draws(kDraws);
  for (double& x : draws) x = symmetric_beta(rng, 1.0);
  std::sort(draws.begin(), draws.end());
  double distance = 0;
  for (int i = 0; i < kDraws; ++i) distance = std::max(distance, std::abs(draws[i] - (i + 0.5) / kDraws));
  EXPECT_LT(distance * std::sqrt(kDraws), 1.95);
}

TEST(Rng, BetaStaysInRangeForAnyParameter) {
  for (const double a : {1e-6, 1e-3, 1e3, 1e9}) {
    Rng rng(8, Stream::mixing);
    for (int i = 0; i < 1000; ++i) {
      const double x = symmetric_beta(rng, a);
      ASSERT_TRUE(x >= 0 && x <= 1) << x << " for " << a;
    }
  }
  Rng rng(8, Stream::mixing);
  for (const double a : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(symmetric_beta(rng, a), Error) << a;
  }
}

// Each of the 24 orders of four items: chi-squared with 23 degrees of freedom exceeds 49.7 with probability 0.001.
TEST(Rng, ShuffleIsUniform) {
  constexpr int kShuffles = 24000;
  std::vector<int> count(4 * 4 * 4 * 4, 0);
  Rng rng(9, Stream::data_order);
  for (int i = 0; i < kShuffles; ++i) {
    int64_t items[4] = {0, 1, 2, 3};
    shuffle(rng, items, 4);
    ++count[((items[0] * 4 + items[1]) * 4 + items[2]) * 4 + items[3]];
  }
  double statistic = 0;
  int orders = 0;
  for (const int seen : count) {
    if (seen == 0) continue;
    ++orders;
    statistic += (seen - 1000.0) * (seen - 1000.0) / 1000.0;
  }
  EXPECT_EQ(orders, 24);
  EXPECT_LT(statistic, 49.7);
}

TEST(Rng, ShuffleKeepsEveryItem) {
  for (const int64_t count : {0, 1, 2, 1000}) {
    std::vector<int64_t> items(count), want(count);
    std::iota(want.begin(), want.end(), 100);
    items = want;
    Rng rng(10, Stream::data_order);
    shuffle(rng, items.data(), count);
    EXPECT_EQ(items != want, count == 1000 || (count == 2 && items[0] == 101));
    std::sort(items.begin(), items.end());
    EXPECT_EQ(items, want);
  }
}

}  // namespace
}  // namespace entangle
