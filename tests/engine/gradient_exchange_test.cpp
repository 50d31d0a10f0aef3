#include "engine/gradient_exchange.h"

#include <gtest/gtest.h>

#include "tests/fake_ranks.h"

namespace entangle {
namespace {

Tensor parameter(const Shape& shape, float first) {
  Tensor tensor = Tensor::zeros(shape);
  tensor.set_requires_grad();
  for (int64_t i = 0; i < tensor.count(); ++i) tensor.grad()[i] = first + static_cast<float>(i);
  return tensor;
}

TEST(GradientExchange, ViewsBecomeTheMeanAndTheRestStays) {
  FakeRanks ranks(1, 4, nullptr, 3);  // the others have three times the gradient: the mean is 2.5 of it
  GradientExchange exchange(ranks);
  const Tensor weight = parameter({3, 5, 7}, 1), bias = parameter({11}, 1000), unused = parameter({4}, 5);
  exchange.average({weight.slice(1, 0, 2).slice(2, 0, 4), bias.slice(0, 0, 3)});
  for (int64_t i = 0; i < weight.count(); ++i) {
    const bool viewed = i / 7 % 5 < 2 && i % 7 < 4;
    EXPECT_EQ(weight.grad()[i], (viewed ? 2.5f : 1.0f) * (1 + static_cast<float>(i))) << i;
  }
  for (int64_t i = 0; i < 11; ++i) {
    EXPECT_EQ(bias.grad()[i], (i < 3 ? 2.5f : 1.0f) * (1000 + static_cast<float>(i))) << i;
  }
  EXPECT_EQ(unused.grad()[3], 8.0f);
  EXPECT_EQ(exchange.bytes(), (3 * 2 * 4 + 3) * 4);
  EXPECT_EQ(ranks.pending, 0);
  // The last view used is finished first by a backward pass, and sent first.
  ASSERT_EQ(ranks.sums.size(), 1u);
  EXPECT_EQ(ranks.sums[0][0], 1000.0f);
  EXPECT_EQ(ranks.sums[0][3], 1.0f);
}

TEST(GradientExchange, BucketsAreFullButForTheLast) {
  FakeRanks ranks(0, 2);
  GradientExchange exchange(ranks);
  constexpr int64_t kBucket = GradientExchange::kBucket;
  const Tensor large = parameter({2 * kBucket + 5}, 0), small = parameter({3}, 0);
  exchange.average({small, large});
  ASSERT_EQ(ranks.sums.size(), 3u);
  EXPECT_EQ(ranks.sums[0].size(), static_cast<size_t>(kBucket));
  EXPECT_EQ(ranks.sums[1].size(), static_cast<size_t>(kBucket));
  EXPECT_EQ(ranks.sums[2].size(), 8u);
  for (int64_t i = 0; i < large.count(); i += 1009) EXPECT_EQ(large.grad()[i], static_cast<float>(i));
}

TEST(GradientExchange, FrozenParametersAreNotSent) {
  FakeRanks ranks(0, 2);
  GradientExchange exchange(ranks);
  Tensor frozen = parameter({6}, 1);
  frozen.set_requires_grad(false);
  exchange.average({frozen, parameter({2}, 1)});
  EXPECT_EQ(exchange.bytes(), 8);
}

TEST(GradientExchange, AProcessAloneSendsNothing) {
  SingleProcess alone;
  GradientExchange exchange(alone);
  const Tensor weight = parameter({3}, 1);
  exchange.average({weight});
  EXPECT_EQ(exchange.bytes(), 0);
  EXPECT_EQ(weight.grad_to_vector(), (std::vector<float>{1, 2, 3}));
}

}  // namespace
}  // namespace entangle
