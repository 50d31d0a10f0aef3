// The supernet against itself cut out, and against its own cost model; the published code's numbers are in
// supernet_parity_test.cpp.
#include "nn/supernet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "engine/parallel.h"
#include "nn/cost.h"
#include "tests/small_supernet.h"
#include "tools/common/config.h"

namespace entangle {
namespace {

// A network of exactly the subnet's size, holding copies of the subnet's views.
void cut_out(const Supernet& from, const Architecture& a, Supernet& to) {
  std::vector<TapedView> views, own;
  ForwardOptions options;
  options.views = &views;
  from.forward(random_images(from.config(), 1), a, options);
  options.views = &own;
  to.forward(random_images(to.config(), 1), a, options);
  ASSERT_EQ(views.size(), own.size());
  for (size_t i = 0; i < views.size(); ++i) {
    ASSERT_EQ(views[i].view.shape(), own[i].view.shape());
    ASSERT_TRUE(own[i].view.contiguous());
    const std::vector<float> values = views[i].view.to_vector();
    std::copy(values.begin(), values.end(), own[i].view.data());
  }
}

class Nesting : public ::testing::TestWithParam<QkvBias> {};

TEST_P(Nesting, CutOutSubnetEqualsItsView) {
  SupernetConfig config = small_config();
  config.qkv_bias = GetParam();
  const Supernet net(config, 1);
  const Architecture a = Architecture::uniform(2, 16, 2, 1.5);
  SupernetConfig cut = config;
  cut.embed_dim = a.embed_dim;
  cut.depth = a.depth;
  cut.num_heads = a.num_heads[0];
  cut.mlp_ratio = a.mlp_ratio[0];
  Supernet dense(cut, 2);
  cut_out(net, a, dense);

  const Tensor images = random_images(config, 3);
  EXPECT_EQ(run_step(net, a, images), run_step(dense, a, images));
  std::vector<TapedView> views, own;
  ForwardOptions options;
  options.views = &views;
  net.forward(images, a, options);
  options.views = &own;
  dense.forward(images, a, options);
  for (size_t i = 0; i < views.size(); ++i) {
    const std::vector<float> gradient = views[i].view.grad_to_vector();
    EXPECT_EQ(gradient, own[i].view.grad_to_vector()) << "view " << i;
    EXPECT_TRUE(std::any_of(gradient.begin(), gradient.end(), [](float g) { return g != 0; })) << "view " << i;
  }
}

// Whatever lies outside of the views cannot be seen: it may be NaN, and receives no gradient.
TEST_P(Nesting, WeightsOutsideOfTheViewsAreNeverTouched) {
  SupernetConfig config = small_config();
  config.qkv_bias = GetParam();
  Supernet net(config, 1);
  const Architecture a = mixed_architecture();
  const Tensor images = random_images(config, 3);
  const std::vector<float> want = run_step(net, a, images);

  std::vector<TapedView> views;
  ForwardOptions options;
  options.views = &views;
  net.forward(images, a, options);
  ParameterArena& arena = net.parameters();
  const std::vector<float> values(arena.values(), arena.values() + arena.size());
  std::vector<char> inside(static_cast<size_t>(arena.size()), 0);
  for (const TapedView& taped : views) {
    const Tensor& view = taped.view;
    const Shape& s = view.shape();
    const int64_t first = view.data() - arena.values();
    for (int64_t i = 0; i < s.count(); ++i) {
      int64_t rest = i, at = first;
      for (int d = s.rank - 1; d >= 0; --d) {
        at += rest % s[d] * view.stride(d);
        rest /= s[d];
      }
      inside[static_cast<size_t>(at)] = 1;
    }
  }
  int64_t outside = 0;
  for (size_t i = 0; i < inside.size(); ++i) {
    if (inside[i]) continue;
    ++outside;
    ASSERT_EQ(arena.gradients()[i], 0.0f);
    arena.values()[i] = std::numeric_limits<float>::quiet_NaN();
  }
  EXPECT_GT(outside, arena.size() / 4);
  EXPECT_EQ(run_step(net, a, images), want);
}

INSTANTIATE_TEST_SUITE_P(Bias, Nesting, ::testing::Values(QkvBias::aligned, QkvBias::contiguous));

// The contiguous bias shifts K and V entries with the drawn width; the aligned one does not.
TEST(Supernet, QkvBiasSharing) {
  for (const QkvBias bias : {QkvBias::aligned, QkvBias::contiguous}) {
    SupernetConfig config = small_config();
    config.qkv_bias = bias;
    const Supernet net(config, 1);
    const float* start = net.parameters().find("blocks.0.attn.qkv.bias")->tensor.data();
    for (const int heads : {1, 2, 3}) {
      std::vector<TapedView> views;
      ForwardOptions options;
      options.views = &views;
      net.forward(random_images(config, 1), Architecture::uniform(1, 16, heads, 1), options);
      const auto view =
          std::find_if(views.begin(), views.end(), [&](const TapedView& v) { return v.view.data() == start; });
      ASSERT_NE(view, views.end());
      EXPECT_EQ(view->view.stride(0), bias == QkvBias::aligned ? 24 : 8 * heads);
    }
  }
}

std::vector<float> train(int threads_wanted, const SupernetConfig& config) {
  set_threads(threads_wanted);
  Supernet net(config, 3);
  const Tensor images = random_images(config, 6);
  SearchSpace space{{1, 2, 3}, {16, 24}, {1, 2}, {1, 2, 3}};
  for (int64_t step = 0; step < 4; ++step) {
    Rng rng(3, Stream::architecture, static_cast<uint64_t>(step));
    ForwardOptions options;
    options.training = true;
    options.seed = 3;
    options.step = static_cast<uint64_t>(step);
    run_step(net, space.sample(rng), images, options);
    adamw_step(net.parameters(), {}, step + 1, 1e-2);
  }
  set_threads(0);
  return {net.parameters().values(), net.parameters().values() + net.parameters().size()};
}

TEST(Supernet, TrainingIsBitEqualForAnyNumberOfThreads) {
  SupernetConfig config = small_config();
  config.drop_path = 0.3;
  config.dropout = 0.1;
  config.attention_dropout = 0.1;
  const std::vector<float> one = train(1, config);
  EXPECT_EQ(one, train(1, config));
  EXPECT_EQ(one, train(2, config));
  EXPECT_EQ(one, train(5, config));
}

TEST(Supernet, PublishedInitialisation) {
  SupernetConfig config = small_config();
  config.init_std = 0.02;
  config.embed_dim = 96;
  const Supernet net(config, 1);
  for (const Parameter& p : net.parameters().all()) {
    const std::vector<float> v = p.tensor.to_vector();
    const auto [low, high] = std::minmax_element(v.begin(), v.end());
    double squares = 0;
    for (const float x : v) squares += static_cast<double>(x) * x;
    const double deviation = std::sqrt(squares / static_cast<double>(v.size()));
    if (p.name.find("patch_embed") == 0) {
      const double bound = 1 / std::sqrt(2.0 * 4 * 4);
      EXPECT_LE(std::max(-*low, *high), bound) << p.name;
      EXPECT_NEAR(deviation, bound / std::sqrt(3.0), bound * 0.15) << p.name;
    } else if (p.name.find("norm.weight") != std::string::npos) {
      EXPECT_EQ(*low, 1.0f) << p.name;
      EXPECT_EQ(*high, 1.0f) << p.name;
    } else if (p.name.size() > 5 && p.name.compare(p.name.size() - 5, 5, ".bias") == 0) {
      EXPECT_EQ(squares, 0) << p.name;
    } else {
      // The standard error of a deviation estimated from n values is about deviation / sqrt(2 n).
      EXPECT_NEAR(deviation, 0.02, 0.02 * 5 / std::sqrt(2.0 * static_cast<double>(v.size()))) << p.name;
    }
  }
}

TEST(Supernet, DecayLeavesOutVectorsAndPositions) {
  const Supernet net(small_config(), 1);
  for (const Parameter& p : net.parameters().all()) {
    const bool is_vector = p.file_shape.rank == 1 || p.name == "pos_embed" || p.name == "cls_token";
    EXPECT_EQ(p.decay, !is_vector) << p.name;
  }
}

// What drop-path and dropout leave of an image is the same in any part of the global batch, and differs from step to step.
TEST(Supernet, WhatIsDroppedIsKeyedByTheGlobalSample) {
  for (const double drop_path : {0.0, 0.5}) {
    for (const auto& [dropout, attention_dropout] : {std::pair(0.0, 0.0), {0.2, 0.0}, {0.0, 0.2}, {0.3, 0.3}}) {
      SupernetConfig config = small_config();
      config.drop_path = drop_path;
      config.dropout = dropout;
      config.attention_dropout = attention_dropout;
      const Supernet net(config, 1);
      const Tensor images = random_images(config, 8);
      ForwardOptions options;
      options.training = true;
      options.seed = 11;
      const std::vector<float> whole = net.forward(images, config.full(), options).to_vector();
      const auto of_part = [&](int64_t first, int64_t count) {
        options.first_sample = first;
        const Tensor part = images.slice(0, first, count);
        return net.forward(Tensor::from(part.shape(), part.to_vector()), config.full(), options).to_vector();
      };
      for (const auto& [first, count] : {std::pair(0, 1), {1, 2}, {4, 4}, {7, 1}}) {
        const std::vector<float> part = of_part(first, count);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + first * config.num_classes))
            << "drop-path " << drop_path << ", dropout " << dropout << ", " << attention_dropout << ", image " << first;
      }
      if (drop_path + dropout + attention_dropout == 0) continue;
      const std::vector<float> now = of_part(4, 4);
      options.step = 1;
      EXPECT_NE(of_part(4, 4), now);
    }
  }
}

// The multiplications saved are those of the dropped images, to the last one.
TEST(Supernet, DroppedImagesAreNotComputed) {
  SupernetConfig config = small_config();
  config.drop_path = 0.6;
  const Supernet net(config, 1);
  constexpr int64_t kBatch = 8, kTokens = 10, kWidth = 24, kHeads = 24, kHidden = 48, kTableRows = 4;
  const int64_t attention = kTokens * kWidth * 4 * kHeads + kTokens * kHeads * (2 * kTokens + 4 * kTableRows);
  const int64_t mlp = 2 * kTokens * kWidth * kHidden;
  ForwardOptions options;
  options.training = true;
  options.seed = 5;
  bool some_branch_is_empty = false;
  for (options.step = 0; options.step < 40; ++options.step) {
    int64_t want = cost_of(config, config.full()).macs * kBatch;
    for (uint64_t branch = 0; branch < 6; ++branch) {
      const double rate = 0.6 * static_cast<double>(branch / 2) / 2;
      int64_t dropped = 0;
      for (uint64_t b = 0; b < kBatch; ++b) {
        dropped += rng_uniform(rng_key(5, Stream::drop_path, options.step), (branch << 32) + b) < rate ? 1 : 0;
      }
      want -= dropped * (branch % 2 == 0 ? attention : mlp);
      some_branch_is_empty = some_branch_is_empty || dropped == kBatch;
    }
    reset_counted_macs();
    Tape tape;
    const Tensor loss =
        cross_entropy(net.forward(random_images(config, kBatch), config.full(), options), one_hot(kBatch, 5));
    EXPECT_EQ(counted_macs(), want) << "step " << options.step;
    tape.backward(loss);
  }
  EXPECT_TRUE(some_branch_is_empty);
}

TEST(Supernet, StagesGiveTheBitsOfTheWholePass) {
  const Supernet net(small_config(), 3);
  const Architecture a = mixed_architecture();
  const Tensor images = random_images(net.config(), 3);
  ResidualStream stream = net.stem(images, a.embed_dim);
  for (size_t i = 0; i < a.num_heads.size(); ++i)
    stream = net.block(stream, static_cast<int64_t>(i), a.num_heads[i], a.mlp_ratio[i]);
  EXPECT_EQ(net.head(stream).to_vector(), net.forward(images, a).to_vector());
  EXPECT_THROW(net.block(stream, 3, 1, 1), Error);
  EXPECT_THROW(net.stem(Tensor::zeros({1, 1, 12, 12}), 16), Error);
}

TEST(Supernet, RefusesWhatDoesNotFit) {
  const Supernet net(small_config(), 1);
  const Tensor images = random_images(net.config(), 1);
  EXPECT_THROW(net.forward(images, Architecture::uniform(4, 24, 3, 2)), Error);
  EXPECT_THROW(net.forward(images, Architecture::uniform(3, 25, 3, 2)), Error);
  EXPECT_THROW(net.forward(images, Architecture::uniform(3, 24, 4, 2)), Error);
  EXPECT_THROW(net.forward(images, Architecture::uniform(3, 24, 3, 2.1)), Error);
  EXPECT_THROW(net.forward(Tensor::zeros({1, 1, 12, 12}), net.config().full()), Error);
  EXPECT_THROW(net.forward(Tensor::zeros({1, 2, 16, 16}), net.config().full()), Error);
}

}  // namespace
}  // namespace entangle
