// What kernels say they cost, against numbers counted by hand, against the cost model, and as a table.
#include <gtest/gtest.h>

#include "engine/ops.h"
#include "nn/cost.h"
#include "nn/supernet.h"
#include "tools/common/breakdown.h"

namespace entangle {
namespace {

constexpr int64_t kFloat = sizeof(float);
float some[1];
const float* const given = some;
float* const into = some;
float* const none = nullptr;

void expect_cost(const KernelCost& cost, int64_t flops, int64_t bytes) {
  EXPECT_EQ(cost.flops, flops);
  EXPECT_EQ(cost.bytes, bytes);
}

TEST(KernelCost, LinearReadsTheWeightOnceAndAddsToItsGradient) {
  const LinearShape s = {2, 3, 5, 3, 100, 1000, 100, Precision::fp32};  // x 6, w 45, b 15, y 30 elements
  constexpr int64_t kFlops = 2 * 2 * 3 * 15;
  expect_cost(costs::linear_forward(s, given, given, given, into), kFlops, (6 + 45 + 15 + 30) * kFloat);
  expect_cost(costs::linear_forward(s, given, given, none, into), kFlops, (6 + 45 + 30) * kFloat);
  const auto backward = [&](float* dx, bool add, float* dw, float* db) {
    return costs::linear_backward(s, given, given, given, dx, add, dw, db);
  };
  expect_cost(backward(into, false, none, none), kFlops, (30 + 45 + 6) * kFloat);
  expect_cost(backward(into, true, none, none), kFlops, (30 + 45 + 2 * 6) * kFloat);
  expect_cost(backward(none, false, into, into), kFlops, (6 + 30 + 2 * 45 + 2 * 15) * kFloat);
  expect_cost(backward(none, false, into, none), kFlops, (6 + 30 + 2 * 45) * kFloat);
  expect_cost(backward(into, false, into, into), 2 * kFlops, (6 + 30 + 3 * 45 + 6 + 2 * 15) * kFloat);
}

TEST(KernelCost, AttentionCountsTheFactorisedProducts) {
  // 6 pairs of image and head, 4 rows a table. A pair: q, k, v, y 20 elements each, p 5 rows of 16.
  AttentionShape s = {2, 5, 3, 4, 2, 1, 0.5f, 0, {}};
  const auto forward = [&](float* p) {
    return costs::attention_forward(s, given, given, given, given, given, into, p);
  };
  const auto backward = [&](bool add, const float* p) {
    return costs::attention_backward(s, given, given, given, given, given, p, given, into, add, into, into, into, into);
  };
  constexpr int64_t kFlops = 6 * 2 * (2 * 5 * 5 * 4 + 4 * 5 * 4 * 4);
  expect_cost(forward(into), kFlops, (6 * (4 * 20 + 80) + 4 * 16) * kFloat);
  expect_cost(forward(none), kFlops, (6 * 4 * 20 + 4 * 16) * kFloat);
  expect_cost(backward(false, given), 2 * kFlops, (6 * (4 * 20 + 80 + 3 * 20) + 4 * 16 + 2 * 4 * 16) * kFloat);
  expect_cost(backward(true, given), 2 * kFlops, (6 * (4 * 20 + 80 + 6 * 20) + 4 * 16 + 2 * 4 * 16) * kFloat);
  // Without p, scores and key terms once more: half of a forward pass.
  expect_cost(backward(false, none), 2 * kFlops + kFlops / 2, (6 * (4 * 20 + 3 * 20) + 4 * 16 + 2 * 4 * 16) * kFloat);
  s.max_relative_position = 0;
  expect_cost(forward(none), 6 * 2 * 2 * 5 * 5 * 4, 6 * 4 * 20 * kFloat);
  // One head at 224 x 224: 9.94 MFLOP of scores and values, 3.03 of relative position.
  s = {1, 197, 1, 64, 14, 14, 0.125f, 0, {}};
  EXPECT_EQ(forward(none).flops, 9935104 + 3025920);
}

TEST(KernelCost, MlpIsItsProducts) {
  LinearShape first = {}, second = {};
  first.rows = second.rows = 2;
  first.in = 3, first.out = second.in = 5, second.out = 4;
  expect_cost(costs::mlp_forward(first, second, given, given, given, given, given, into, into), 60 + 80,
              (6 + 15 + 5 + 20 + 4 + 10 + 8) * kFloat);
  const auto backward = [&](bool recompute, float* dx, bool add) {
    return costs::mlp_backward(first, second, recompute, given, given, given, given, into, into, given, dx, add, into,
                               into, into, into);
  };
  const int64_t weights = 3 * (15 + 20) + 2 * (5 + 4);  // read, and their gradients added to
  expect_cost(backward(false, into, false), 2 * (60 + 80), (weights + 6 + 3 * 10 + 8 + 6) * kFloat);
  expect_cost(backward(false, into, true), 2 * (60 + 80), (weights + 6 + 3 * 10 + 8 + 2 * 6) * kFloat);
  expect_cost(backward(false, nullptr, false), 60 + 2 * 80, (weights + 6 + 3 * 10 + 8) * kFloat);
  expect_cost(backward(true, into, false), 3 * 60 + 2 * 80, (weights + 6 + 5 + 2 * 10 + 8 + 6) * kFloat);
}

TEST(KernelCost, ElementwiseKernelsCountBytesOnly) {
  const ResidualNormShape one_of_two = {2, 3, 5, 1, 2, 1e-5f, 1};
  const int64_t slots[] = {-1, 0};
  expect_cost(costs::layer_norm_forward(2, 5, 0, given, given, given, into, into, into), 0,
              (10 + 5 + 5 + 10 + 2 + 2) * kFloat);
  for (const bool add : {false, true}) {
    const int64_t twice = add ? 2 : 1;  // what is added to is read and written
    expect_cost(costs::layer_norm_backward(2, 5, given, given, given, given, given, into, add, into, into), 0,
                (10 + 5 + 2 + 2 + 10 + twice * 10 + 2 * 5 + 2 * 5) * kFloat);
    expect_cost(costs::gelu_backward(7, given, given, into, add), 0, (7 + 7 + twice * 7) * kFloat);
    expect_cost(costs::softmax_backward(2, 5, 1, given, given, into, add), 0, (10 + 10 + twice * 10) * kFloat);
    expect_cost(costs::patchify_backward({1, 3, 8, 4}, given, into, add), 0, (192 + twice * 192) * kFloat);
    expect_cost(costs::residual_norm_backward(one_of_two, slots, nullptr, given, given, given, given, given, into, add,
                                              into, add, into, into),
                0, (30 + 5 + 6 + 6 + 30 + twice * 30 + twice * 15 + 2 * 5 + 2 * 5) * kFloat);
    expect_cost(costs::dropout_backward(5, 0.5f, {}, 0, given, into, add), 0, (5 + twice * 5) * kFloat);
    expect_cost(costs::cross_entropy_backward(2, 5, given, given, given, into, add), 0,
                (10 + 10 + 1 + twice * 10) * kFloat);
  }
  expect_cost(costs::gelu_forward(7, given, into), 0, 14 * kFloat);
  expect_cost(costs::softmax_forward(2, 5, 1, given, into), 0, 20 * kFloat);
  expect_cost(costs::patchify_forward({1, 3, 8, 4}, given, into), 0, 2 * 192 * kFloat);
  expect_cost(
      costs::residual_norm_forward(one_of_two, slots, nullptr, given, given, given, given, into, into, into, into), 0,
      (30 + 15 + 5 + 5 + 30 + 30 + 6 + 6) * kFloat);
  expect_cost(costs::dropout_forward(5, 0.5f, {}, 0, given, into), 0, 10 * kFloat);
  expect_cost(costs::cross_entropy_forward(2, 5, given, given, into, into), 0, (10 + 10 + 1 + 10) * kFloat);
  const AugmentShape augmentation = {2, 3, 5, {}, EraseMode::pixel};  // 150 values of one byte, and of four
  const uint8_t pixels[1] = {};
  expect_cost(costs::augment_images(augmentation, nullptr, given, pixels, into), 0,
              2 * static_cast<int64_t>(sizeof(ImagePlan)) + 150 + (768 + 150) * kFloat);
  double sum = 0;
  expect_cost(costs::sum_squares(5, given, &sum), 0, 5 * kFloat + 8);
  expect_cost(costs::adamw(3, {}, &sum, into, into, into, into), 0, (4 * 3 + 4 * 3) * kFloat + 8);
  expect_cost(costs::multiply_add(10, 7, 1, 1, into), 140, 20 * kFloat);
  expect_cost(costs::multiply_add_bf16(10, 7, 1, 1, into), 280, 20 * kFloat);
  expect_cost(costs::copy(5, given, into), 0, 10 * kFloat);
}

TEST(KernelCost, TokensAndPoolTouchWhatTheyNeed) {
  const TokensShape s = {2, 5, 3, 100};  // patches 24, y 30, class 3, position 15 elements
  expect_cost(costs::tokens_forward(s, given, given, given, into), 0, (24 + 3 + 15 + 30) * kFloat);
  expect_cost(costs::tokens_forward(s, given, given, none, into), 0, (24 + 3 + 30) * kFloat);
  expect_cost(costs::tokens_backward(s, given, into, false, into, into), 0, (30 + 24 + 2 * 3 + 2 * 15) * kFloat);
  expect_cost(costs::tokens_backward(s, given, into, true, into, none), 0, (30 + 2 * 24 + 2 * 3) * kFloat);
  const PoolShape p = {2, 5, 3, 1, 4};
  expect_cost(costs::pool_forward(p, given, into), 0, (24 + 6) * kFloat);
  expect_cost(costs::pool_backward(p, given, into, false), 0, (6 + 30) * kFloat);  // zeros are written too
  expect_cost(costs::pool_backward(p, given, into, true), 0, (6 + 2 * 24) * kFloat);
}

SupernetConfig small_model() {
  SupernetConfig config;
  config.image_size = 28;
  config.patch_size = 14;
  config.in_channels = 1;
  config.num_classes = 10;
  config.embed_dim = 16;
  config.depth = 2;
  config.num_heads = 2;
  config.head_dim = 8;
  config.mlp_ratio = 2;
  config.max_relative_position = 1;
  return config;
}

TEST(Breakdown, FlopsOfAStepAreTheCostModels) {
  const SupernetConfig config = small_model();
  Supernet net(config, 0);
  const Architecture architecture = config.full();
  const Tensor images = Tensor::zeros({3, 1, 28, 28}), targets = Tensor::zeros({3, 10});
  const int64_t macs = cost_of(config, architecture).macs, patches = 4 * 14 * 14 * 16;
  const Breakdown forward = break_down([&] { net.forward(images, architecture); });
  EXPECT_EQ(forward.flops(), 2 * 3 * macs);
  const Breakdown step = break_down([&] {
    Tape tape;
    tape.backward(cross_entropy(net.forward(images, architecture), targets));
  });
  EXPECT_EQ(step.flops(), 2 * 3 * (3 * macs - patches)) << "images need no gradient";
  double in_kernels = 0;
  for (size_t i = 0; i < step.kernels.size(); ++i) {
    EXPECT_GT(step.kernels[i].calls, 0);
    EXPECT_GT(step.kernels[i].bytes, 0) << step.kernels[i].name;
    in_kernels += step.kernels[i].seconds;
  }
  for (size_t i = 1; i < step.kernels.size(); ++i) {
    EXPECT_LE(step.kernels[i].seconds, step.kernels[i - 1].seconds);
  }
  EXPECT_GT(in_kernels, 0);
  EXPECT_LE(in_kernels, step.seconds);
  EXPECT_FALSE(kernel_timing());
}

KernelEntry counted(const char* name, int64_t calls, int64_t flops, int64_t bytes, double seconds) {
  KernelEntry entry{name, nullptr};
  entry.calls = calls;
  entry.flops = flops;
  entry.bytes = bytes;
  entry.seconds = seconds;
  return entry;
}

TEST(Breakdown, TableHasRatesSharesAndSums) {
  Breakdown breakdown;
  breakdown.seconds = 0.5;
  breakdown.kernels = {counted("product", 2, 20'000'000'000, 400'000'000, 0.25),
                       counted("sweep", 3, 0, 2'000'000'000, 0.125)};
  const std::string table = format_breakdown(breakdown, 160, 32);
  EXPECT_EQ(table,
            "kernel                    calls         ms   share   GFLOP/s     GB/s   %FMA  %copy\n"
            "product                       2    250.000   50.0%      80.0      1.6   50.0    5.0\n"
            "sweep                         3    125.000   25.0%         -     16.0      -   50.0\n"
            "between kernels                    125.000   25.0%         -        -      -      -\n"
            "sum                           5    500.000  100.0%      40.0      4.8   25.0   15.0\n");
}

}  // namespace
}  // namespace entangle
