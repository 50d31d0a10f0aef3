#include "engine/gradient_exchange.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops.h"
#include "tests/expect_error.h"
#include "tests/fake_ranks.h"

namespace entangle {
namespace {

Tensor parameter(const Shape& shape, float first) {
  Tensor tensor = Tensor::zeros(shape);
  tensor.set_requires_grad();
  for (int64_t i = 0; i < tensor.count(); ++i) tensor.grad()[i] = first + static_cast<float>(i);
  return tensor;
}

// A backward pass of one operation that finishes all.
void average(GradientExchange& exchange, const std::vector<Tensor>& views) {
  std::vector<TapedView> taped;
  for (const Tensor& view : views) taped.push_back({view, 0});
  exchange.begin(taped);
  exchange.finish();
}

TEST(GradientExchange, ViewsBecomeTheMeanAndTheRestStays) {
  FakeRanks ranks(1, 4, nullptr, 3);  // the others have three times the gradient: the mean is 2.5 of it
  GradientExchange exchange(ranks);
  const Tensor weight = parameter({3, 5, 7}, 1), bias = parameter({11}, 1000), unused = parameter({4}, 5);
  average(exchange, {weight.slice(1, 0, 2).slice(2, 0, 4), bias.slice(0, 0, 3)});
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
  average(exchange, {small, large});
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
  average(exchange, {frozen, parameter({2}, 1)});
  EXPECT_EQ(exchange.bytes(), 8);
}

TEST(GradientExchange, TheMeanOfAProcessAloneIsItsOwn) {
  SingleProcess alone;
  GradientExchange exchange(alone);
  const Tensor weight = parameter({3}, 1);
  average(exchange, {weight});
  EXPECT_EQ(weight.grad_to_vector(), (std::vector<float>{1, 2, 3}));
}

TEST(GradientExchange, ABucketLeavesAsSoonAsItsViewsAreFinished) {
  FakeRanks ranks(0, 2);
  GradientExchange exchange(ranks);
  constexpr int64_t kBucket = GradientExchange::kBucket;
  // Taken before the operations 0, 2 and 5 of a tape.
  exchange.begin({{parameter({3}, 0), 0}, {parameter({kBucket}, 0), 2}, {parameter({4}, 0), 5}});
  exchange.advance(6);
  EXPECT_TRUE(ranks.sums.empty());
  exchange.advance(3);  // operation 2 has not run: the second view's gradient may still grow
  EXPECT_TRUE(ranks.sums.empty());
  exchange.advance(2);
  ASSERT_EQ(ranks.sums.size(), 1u);
  EXPECT_EQ(ranks.sums[0][4], 0.0f);  // behind the last view's four numbers
  EXPECT_EQ(ranks.sums[0][5], 1.0f);
  exchange.advance(1);
  EXPECT_EQ(ranks.sums.size(), 1u);
  exchange.finish();
  EXPECT_EQ(ranks.sums.size(), 2u);
}

// What advance() is told while a tape runs backward: no view goes before its gradient is whole.
TEST(GradientExchange, FollowsABackwardPass) {
  FakeRanks ranks(0, 2);
  const Tensor x = Tensor::from({2, 2}, {1, 2, 3, 4});
  Tensor first = Tensor::from({2, 2}, {1, 0, 0, 1}), second = Tensor::from({2, 2}, {2, 0, 0, 3});
  first.set_requires_grad();
  second.set_requires_grad();
  GradientExchange exchange(ranks);
  std::vector<TapedView> views;
  std::vector<size_t> told;
  {
    Tape tape;
    views.push_back({first, tape.size()});
    const Tensor h = linear(x, first, Tensor());
    views.push_back({second, tape.size()});
    const Tensor loss = cross_entropy(linear(h, second, Tensor()), Tensor::from({2, 2}, {1, 0, 0, 1}));
    exchange.begin(views);
    tape.backward(loss, 1, [&](size_t left) {
      told.push_back(left);
      exchange.advance(left);
    });
  }
  EXPECT_EQ(told, (std::vector<size_t>{2, 1, 0}));
  const std::vector<float> want_first = first.grad_to_vector(), want_second = second.grad_to_vector();
  exchange.finish();  // the other rank has the same
  EXPECT_EQ(first.grad_to_vector(), want_first);
  EXPECT_EQ(second.grad_to_vector(), want_second);
  EXPECT_NE(want_first[0], 0.0f);
}

// Shards whose sum depends on the order: 1e8 swallows small numbers.
constexpr float kShards[8] = {1e8f, 3, -1e8f, 5, 0.25f, 1e7f, 7, -1e7f};

float tree_of(int begin, int end) {
  if (end - begin == 1) return kShards[begin];
  const int middle = (begin + end) / 2;
  return tree_of(begin, middle) + tree_of(middle, end);
}

TEST(GradientTree, AddsShardsInATree) {
  float in_a_row = 0;
  for (const float shard : kShards) in_a_row += shard;
  ASSERT_NE(in_a_row, tree_of(0, 8));
  SingleProcess alone;
  GradientTree tree(alone, 8);
  const Tensor weight = parameter({4, 3}, 0), left_out = parameter({2}, 5);
  const std::vector<TapedView> views = {{weight.slice(1, 0, 2), 0}};
  for (int round = 0; round < 2; ++round) {
    for (const float shard : kShards) {
      for (int64_t i = 0; i < weight.count(); ++i) weight.grad()[i] = i % 3 < 2 ? shard : 9;
      tree.add(views);
      EXPECT_EQ(weight.grad()[4], 0.0f);
    }
    tree.finish(views);
    for (int64_t i = 0; i < weight.count(); ++i) EXPECT_EQ(weight.grad()[i], i % 3 < 2 ? tree_of(0, 8) / 8 : 9) << i;
  }
  EXPECT_EQ(left_out.grad()[1], 6.0f);
  EXPECT_EQ(tree.bytes(), 0);
}

TEST(GradientTree, RanksSwapSumsOfTwiceAsManyShardsEachTime) {
  FakeRanks ranks(5, 8, nullptr, 3);  // what comes is three times what goes: each round makes four of one
  GradientTree tree(ranks, 16);
  const Tensor weight = parameter({2}, 0);
  const std::vector<TapedView> views = {{weight, 0}};
  for (const float shard : {1.0f, 2.0f}) {
    weight.grad()[0] = shard;
    tree.add(views);
  }
  tree.finish(views);
  EXPECT_EQ(ranks.swapped, (std::vector<int>{4, 7, 1}));
  EXPECT_EQ(weight.grad()[0], 3.0f * 64 / 16);
  EXPECT_EQ(tree.bytes(), 3 * 8);
}

TEST(GradientTree, WhatIsNoTreeIsRefused) {
  FakeRanks two(0, 2), three(0, 3), four(0, 4);
  expect_error([&] { GradientTree(two, 6); }, {"1, 2, 4, 8, ... shards, not over 6"});
  expect_error([&] { GradientTree(three, 8); }, {"not by 3"});
  expect_error([&] { GradientTree(four, 2); }, {"not by 4"});
  GradientTree tree(two, 4);
  const Tensor weight = parameter({2}, 0);
  tree.add({{weight, 0}});
  expect_error([&] { tree.finish({{weight, 0}}); }, {"of the 2 shards of rank 0 1 were added"});
}

}  // namespace
}  // namespace entangle
