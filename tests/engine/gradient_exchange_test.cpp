#include "engine/gradient_exchange.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/bf16.h"
#include "engine/ops.h"
#include "engine/rng.h"
#include "tests/expect_error.h"
#include "tests/fake_ranks.h"
#include "tests/thread_ranks.h"

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
  FakeRanks ranks(0, 2, nullptr, 3);
  GradientExchange exchange(ranks);
  constexpr int64_t kBucket = GradientExchange::kBucket;
  const Tensor large = parameter({2 * kBucket + 5}, 0), small = parameter({3}, 0);
  average(exchange, {small, large});
  ASSERT_EQ(ranks.sums.size(), 3u);
  EXPECT_EQ(ranks.sums[0].size(), static_cast<size_t>(kBucket));
  EXPECT_EQ(ranks.sums[1].size(), static_cast<size_t>(kBucket));
  EXPECT_EQ(ranks.sums[2].size(), 8u);
  for (int64_t i = 0; i < large.count(); i += 1009) EXPECT_EQ(large.grad()[i], 2 * static_cast<float>(i));
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

TEST(Bf16, RoundsToTheNearestOfTwoEvenOnTies) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = from_bf16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(from_bf16(to_bf16(value)))) << bits;
      continue;
    }
    EXPECT_EQ(to_bf16(value), bits);
    if (bits % 0x8000 >= 0x7f7f) continue;  // the next one is infinite
    const float next = from_bf16(static_cast<uint16_t>(bits + 1)), middle = value + (next - value) / 2;
    EXPECT_EQ(to_bf16(middle), bits + bits % 2) << bits;
    EXPECT_EQ(to_bf16(std::nextafter(middle, value)), bits);
    EXPECT_EQ(to_bf16(std::nextafter(middle, next)), bits + 1);
  }
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()), 0x7f80) << "infinite";
  const uint32_t small_nan = 0x7f800001;  // whose upper half alone would be infinite
  float nan;
  std::memcpy(&nan, &small_nan, sizeof nan);
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(nan))));
}

// The gradient of rank r, of which some numbers nearly cancel.
float gradient_of(int rank, int64_t i) {
  const float x =
      rng_uniform(rng_key(3, Stream::synthetic, static_cast<uint64_t>(rank)), static_cast<uint64_t>(i)) - 0.5f;
  return i % 3 == 0 && rank == 1 ? -gradient_of(0, i) : x;
}

TEST(GradientExchange, OnABf16WireTheMeanIsWithinItsBoundInHalfTheBytes) {
  constexpr int64_t kCount = 3000;
  for (const int size : {2, 3, 4}) {
    std::vector<std::vector<float>> means(static_cast<size_t>(size));
    ThreadRanks::run(size, [&](Communicator& ranks) {
      GradientExchange exchange(ranks, Precision::bf16);
      const Tensor weight = parameter({kCount + 1}, 0);
      for (int64_t i = 0; i < kCount; ++i) weight.grad()[i] = gradient_of(ranks.rank(), i);
      average(exchange, {weight.slice(0, 0, kCount)});
      EXPECT_EQ(exchange.bytes(), 2 * kCount);
      means[static_cast<size_t>(ranks.rank())] = weight.grad_to_vector();
    });
    const double u = std::ldexp(1.0, -8);
    for (int64_t i = 0; i < kCount; ++i) {
      double mean = 0, size_of_all = 0;
      float sum = 0;
      for (int rank = 0; rank < size; ++rank) {
        mean += gradient_of(rank, i) / size;
        size_of_all += std::fabs(gradient_of(rank, i)) / size;
        sum += from_bf16(to_bf16(gradient_of(rank, i)));
      }
      const size_t at = static_cast<size_t>(i);
      EXPECT_LE(std::fabs(means[0][at] - mean), u * ((1 + u) * size_of_all + std::fabs(mean)) + 1e-7) << i;
      EXPECT_EQ(means[0][at], from_bf16(to_bf16(sum)) * (1.0f / static_cast<float>(size)))
          << "rounded once each, " << i;
      for (const auto& other : means) EXPECT_EQ(other[at], means[0][at]);
    }
    EXPECT_EQ(means[0][kCount], static_cast<float>(kCount)) << "outside of the view";
  }
}

// What several subnets of a step used: of a parameter the larger view; of what the last one left out, all.
TEST(GradientExchange, ViewsOfSeveralPassesAreJoined) {
  FakeRanks ranks(0, 2, nullptr, 3);
  GradientExchange exchange(ranks);
  const Tensor weight = parameter({4, 6}, 1), bias = parameter({3, 5}, 100), early = parameter({7}, 1000);
  const auto used = [](const Tensor& view, size_t before) { return TapedView{view, before}; };
  const std::vector<TapedView> all =
      joined_views({used(early, 0), used(weight.slice(0, 0, 2).slice(1, 0, 5), 3), used(bias, 4)},
                   {used(weight.slice(0, 0, 1).slice(1, 0, 4), 2), used(bias.view({3, 2}, {2, 1}), 6)});
  ASSERT_EQ(all.size(), 3u);
  exchange.begin(joined_views(all, {used(weight.slice(0, 0, 2), 1)}));
  exchange.advance(5);
  EXPECT_TRUE(ranks.sums.empty());  // less than a bucket
  exchange.finish();
  ASSERT_EQ(ranks.sums.size(), 1u);
  EXPECT_EQ(ranks.sums[0].size(), 12u + 15 + 7);
  EXPECT_EQ(ranks.sums[0].back(), 12.0f) << "what is finished last comes last";
  for (int64_t i = 0; i < 24; ++i) EXPECT_EQ(weight.grad()[i], (i < 12 ? 2.0f : 1.0f) * static_cast<float>(i + 1));
  EXPECT_EQ(bias.grad()[14], 2 * 114.0f);
  EXPECT_EQ(early.grad()[6], 2 * 1006.0f);
  expect_error([&] { joined_views({used(weight.slice(0, 0, 2).slice(1, 0, 5), 0)}, {used(weight.slice(0, 0, 1), 0)}); },
               {"neither covers the other"});
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
  const std::vector<TapedView> smaller = {{weight.slice(0, 0, 1), 0}};
  expect_error([&] { tree.add(smaller); }, {"a sum of shards of 2 numbers meets a gradient of 1"});
  tree.add({{weight, 0}});
  expect_error([&] { tree.finish(smaller); }, {"meets a gradient of 1"});
}

}  // namespace
}  // namespace entangle
