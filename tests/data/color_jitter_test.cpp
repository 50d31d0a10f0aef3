// Colour jitter against torchvision's operations on Pillow images (tests/golden/augment/jitter.*: adjust_brightness,
// adjust_contrast and adjust_saturation one after another, in every order), and what is drawn against its
// distributions.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/decode.h"
#include "data/rand_augment.h"
#include "engine/safetensors.h"
#include "tests/statistics.h"

namespace entangle {
namespace {

TEST(ColorJitter, EveryOrderEqualsThePublishedRecipes) {
  const Image input = read_image("tests/golden/augment/input.png");
  const SafetensorsFile expected("tests/golden/augment/jitter.safetensors");
  const auto cases = nlohmann::json::parse(std::ifstream("tests/golden/augment/jitter.json"));
  ASSERT_EQ(cases.size(), 6u);
  for (const auto& c : cases) {
    Image image = input;
    for (const auto& step : c["steps"]) {
      apply_image_op(parse_image_op(step[0]), step[1], Interpolation::bicubic, {}, image);
    }
    EXPECT_EQ(image.pixels, expected.read_u8(c["key"])) << c["key"];
  }
}

TEST(ColorJitter, StandsInThePlaceOfAPolicy) {
  const Image image = read_image("tests/golden/augment/input.png");
  const RandAugment policy = RandAugment::parse("rand-m9-n2-p1");
  for (uint64_t step = 0; step < 12; ++step) {
    TrainingView view;
    view.size = 24;
    Rng rng(3, Stream::augmentation, step), by_hand = rng, under_policy = rng;
    const Image plain = training_view(image, view, by_hand);
    view.jitter = 0.4;
    Image want = plain;
    for (const DrawnOp& op : draw_jitter(0.4, by_hand))
      apply_image_op(op.op, op.argument, view.interpolation, {}, want);
    EXPECT_EQ(training_view(image, view, rng).pixels, want.pixels);
    EXPECT_NE(want.pixels, plain.pixels);
    EXPECT_EQ(rng.next, by_hand.next);
    view.policy = &policy;
    Rng other = under_policy;
    const Image with_jitter = training_view(image, view, under_policy);
    view.jitter = 0;
    EXPECT_EQ(with_jitter.pixels, training_view(image, view, other).pixels);
  }
}

// Six orders, equally frequent: five degrees of freedom, beyond 20.5 once in a thousand.
TEST(ColorJitter, OrdersAndFactorsFollowTheRecipe) {
  constexpr int kDraws = 20000;
  for (const double amount : {0.4, 1.5}) {
    std::map<std::string, int> orders;
    std::map<ImageOp, std::vector<double>> factors;
    const double least = std::max(0.0, 1 - amount);
    for (uint64_t i = 0; i < kDraws; ++i) {
      Rng rng(36, Stream::augmentation, i);
      std::string order;
      for (const DrawnOp& op : draw_jitter(amount, rng)) {
        order += std::string(name_of(op.op)) + " ";
        factors[op.op].push_back((op.argument - least) / (1 + amount - least));
      }
      ++orders[order];
    }
    std::vector<int> counts;
    for (const auto& [order, count] : orders) counts.push_back(count);
    ASSERT_EQ(counts.size(), 6u);
    EXPECT_LT(chi_square(counts), 20.5);
    EXPECT_EQ(factors.size(), 3u);
    for (const auto& [op, uniform] : factors) expect_uniform(uniform);
  }
}

}  // namespace
}  // namespace entangle
