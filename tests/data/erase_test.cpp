// Random erasing: which boxes, and what they are filled with.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/augment.h"
#include "tests/statistics.h"

namespace entangle {
namespace {

TEST(Erase, ErasedBoxesFollowTheRecipe) {
  constexpr int64_t kSize = 224;
  constexpr int kBoxes = 20000;
  Rng rng(2, Stream::augmentation);
  double area = 0, log_aspect = 0;
  int64_t least = kSize * kSize, most = 0;
  for (int i = 0; i < kBoxes; ++i) {
    const Box box = draw_erased_box(kSize, 1, rng);
    ASSERT_FALSE(is_empty(box));
    ASSERT_GE(box.top, 0);
    ASSERT_GE(box.left, 0);
    ASSERT_LE(box.top + box.height, kSize);
    ASSERT_LE(box.left + box.width, kSize);
    const double aspect = static_cast<double>(box.height) / static_cast<double>(box.width);
    // Rounded sides: half a pixel of the shortest, 17, on either.
    ASSERT_GT(aspect, 0.3 * 0.94);
    ASSERT_LT(aspect, 1 / 0.3 / 0.94);
    area += static_cast<double>(box.height * box.width) / (kSize * kSize);
    log_aspect += std::log(aspect);
    least = std::min(least, box.height * box.width);
    most = std::max(most, box.height * box.width);
  }
  // The area is uniform in [0.02, 1/3], but for the rare draw that is too long (0.3 area > 1 needs area > 0.3).
  EXPECT_NEAR(area / kBoxes, (0.02 + 1.0 / 3) / 2, 0.004);
  EXPECT_NEAR(log_aspect / kBoxes, 0, 5 * std::log(1 / 0.3) / std::sqrt(3.0 * kBoxes));
  EXPECT_NEAR(static_cast<double>(least) / (kSize * kSize), 0.02, 0.001);
  EXPECT_NEAR(static_cast<double>(most) / (kSize * kSize), 1.0 / 3, 0.005);
}

TEST(Erase, NothingIsErasedWhereNoBoxFits) {
  Rng rng(3, Stream::augmentation);
  EXPECT_TRUE(is_empty(draw_erased_box(1, 1, rng)));
}

// What is erased in an image [2, 64, 64] of hundreds, by box and mode.
std::vector<float> erased(const std::vector<Box>& boxes, EraseMode mode) {
  ImagePlan plan;
  for (const Box& box : boxes) {
    Erasure& erasure = plan.erased[plan.boxes++];
    erasure.box = box;
    erasure.first_noise = static_cast<uint64_t>(plan.boxes) << 20 | 1;
  }
  std::vector<float> image(2 * 64 * 64, 100.0f);
  erase_boxes(plan, mode, rng_key(4, Stream::augmentation), 2, 64, image.data());
  return image;
}

TEST(Erase, NoiseFillsTheBoxOnly) {
  const std::vector<float> image = erased({{3, 5, 40, 50}}, EraseMode::pixel);
  double sum = 0, squares = 0;
  for (size_t i = 0; i < image.size(); ++i) {
    const size_t y = i / 64 % 64, x = i % 64;
    const bool inside = y >= 3 && y < 43 && x >= 5 && x < 55;
    ASSERT_EQ(image[i] == 100.0f, !inside) << i;
    if (!inside) continue;
    sum += image[i];
    squares += image[i] * image[i];
  }
  EXPECT_NEAR(sum / 4000, 0, 5 / std::sqrt(4000.0));
  EXPECT_NEAR(squares / 4000, 1, 5 * std::sqrt(2 / 4000.0));
}

// By the definition in engine/ops.h, value by value: two boxes, the second over a part of the first.
TEST(Erase, ModesFillBoxesAsDefined) {
  const std::vector<Box> boxes = {{3, 5, 40, 50}, {30, 0, 20, 9}};
  const RngKey key = rng_key(4, Stream::augmentation);
  for (const EraseMode mode : {EraseMode::constant, EraseMode::random, EraseMode::pixel}) {
    const std::vector<float> image = erased(boxes, mode);
    for (size_t i = 0; i < image.size(); ++i) {
      const int64_t c = static_cast<int64_t>(i) / 4096, y = static_cast<int64_t>(i) / 64 % 64, x = i % 64;
      float want = 100;
      for (uint64_t b = 0; b < 2; ++b) {
        const Box& box = boxes[b];
        if (!contains(box, y, x)) continue;
        const int64_t number =
            mode == EraseMode::random ? c : (c * box.height + y - box.top) * box.width + x - box.left;
        const uint64_t at = ((b + 1) << 20 | 1) + static_cast<uint64_t>(2 * number);
        want = mode == EraseMode::constant ? 0 : static_cast<float>(rng_normal(key, at));
      }
      ASSERT_NEAR(image[i], want, 1.2e-7f * std::fabs(want)) << i;  // the roundings of data/noise.h
    }
  }
}

// As many boxes as drawn, each of a share of the area, with numbers that follow one another.
TEST(Erase, BoxesShareTheArea) {
  Augmentation augmentation;
  augmentation.image_size = 500;
  augmentation.erase = 1;
  augmentation.erase_min_count = 2;
  augmentation.erase_max_count = 4;
  std::vector<int> counts(3, 0);
  double area = 0;
  for (uint64_t i = 0; i < 6000; ++i) {
    Rng rng(6, Stream::augmentation, i);
    const ImagePlan plan = draw_plan(augmentation, 3, rng);
    ASSERT_TRUE(plan.boxes >= 2 && plan.boxes <= 4);
    ++counts[static_cast<size_t>(plan.boxes - 2)];
    uint64_t next = plan.erased[0].first_noise;
    for (int64_t b = 0; b < plan.boxes; ++b) {
      const Box& box = plan.erased[b].box;
      ASSERT_EQ(plan.erased[b].first_noise, next);
      next += static_cast<uint64_t>(2 * 3 * box.height * box.width);
      const double share = static_cast<double>(box.height * box.width) / (500 * 500);
      ASSERT_GT(share, 0.019 / static_cast<double>(plan.boxes));
      ASSERT_LT(share, 0.336 / static_cast<double>(plan.boxes));
      area += share;
    }
    ASSERT_EQ(rng.next, next);
  }
  EXPECT_LT(chi_square(counts), 13.8);  // two degrees of freedom: once in a thousand
  EXPECT_NEAR(area / 6000, (0.02 + 1.0 / 3) / 2, 5 * 0.0905 / std::sqrt(2.0 * 6000));
}

TEST(Erase, ErasesWithItsProbability) {
  Augmentation augmentation;
  augmentation.image_size = 12;
  augmentation.erase = 0.25;
  const Image image = {12, 12, 1, std::vector<uint8_t>(144, 7)};
  const Normalizer normalizer({0.0f}, {1 / 255.0f});
  std::vector<float> plain(144), out(144);
  place_image(image, {}, normalizer, 12, plain.data());
  int erased = 0;
  for (int i = 0; i < 4000; ++i) {
    Rng rng(5, Stream::augmentation, i);
    augment_image(image, draw_plan(augmentation, 1, rng), EraseMode::pixel, rng.key, normalizer, 12, out.data());
    erased += out != plain;
  }
  EXPECT_NEAR(erased, 1000, 137);  // five standard deviations
}

}  // namespace
}  // namespace entangle
