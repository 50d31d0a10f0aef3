// Mixup and CutMix: what is drawn, what becomes of images and of targets.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "data/augment.h"
#include "engine/check.h"

namespace entangle {
namespace {

TEST(Mix, CutMixBoxByHand) {
  // int(10 sqrt(0.36)) = 6: three to either side of the centre.
  const Mix inner = cutmix_box(0.64, 5, 4, 10);
  EXPECT_EQ(inner.box.top, 2);
  EXPECT_EQ(inner.box.left, 1);
  EXPECT_EQ(inner.box.height, 6);
  EXPECT_EQ(inner.box.width, 6);
  EXPECT_DOUBLE_EQ(inner.lambda, 0.64);
  const Mix corner = cutmix_box(0.64, 0, 9, 10);  // clipped to rows 0..2, columns 6..9
  EXPECT_EQ(corner.box.top, 0);
  EXPECT_EQ(corner.box.left, 6);
  EXPECT_EQ(corner.box.height, 3);
  EXPECT_EQ(corner.box.width, 4);
  EXPECT_DOUBLE_EQ(corner.lambda, 0.88);
  const Mix nothing = cutmix_box(1, 5, 5, 10);
  EXPECT_TRUE(is_empty(nothing.box));
  EXPECT_EQ(nothing.lambda, 1);
  EXPECT_EQ(cutmix_box(0, 5, 5, 10).lambda, 0);
}

// Image i of the batch is i everywhere, so a mixed pixel tells where it comes from.
std::vector<float> constant_images(int64_t count, int64_t values) {
  std::vector<float> images;
  for (int64_t i = 0; i < count; ++i) images.insert(images.end(), values, static_cast<float>(i));
  return images;
}

TEST(Mix, MixupWithTheReversedGroup) {
  std::vector<float> images = constant_images(13, 2 * 9);
  mix_images(std::vector<Mix>(13, {0.75, {}}), 2, 3, images.data());
  const float want[13] = {1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4.25f, 4.75f, 5.25f, 9.0f, 9.5f, 10.0f, 10.5f, 11.0f};
  for (size_t k = 0; k < images.size(); ++k) EXPECT_EQ(images[k], want[k / 18]) << k;
}

TEST(Mix, EveryImageIsInOnePairOfItsGroup) {
  for (int64_t batch = 1; batch <= 40; ++batch) {
    std::vector<int> seen(static_cast<size_t>(batch));
    for (int64_t pair = 0; pair < mix_pairs(batch); ++pair) {
      const int64_t i = mix_first(pair), partner = mix_partner(i, batch);
      ASSERT_TRUE(0 <= i && i <= partner && partner < batch) << batch << ' ' << pair;
      EXPECT_EQ(i / 8, partner / 8);
      EXPECT_EQ(mix_partner(partner, batch), i);
      ++seen[static_cast<size_t>(i)];
      if (partner != i) ++seen[static_cast<size_t>(partner)];
    }
    EXPECT_EQ(seen, std::vector<int>(static_cast<size_t>(batch), 1));
  }
}

TEST(Mix, CutMixTargetsEqualThePixelShares) {
  const std::vector<int64_t> labels = {0, 1, 2, 3};
  for (const auto& [row, column] : {std::pair(5, 4), std::pair(0, 9), std::pair(9, 5)}) {
    const Mix mix = cutmix_box(0.5, row, column, 10);
    std::vector<float> images = constant_images(4, 3 * 100), targets(16);
    mix_images(std::vector<Mix>(4, mix), 3, 10, images.data());
    write_targets(labels, 4, 0, std::vector<Mix>(4, mix), targets.data());
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t c = 0; c < 4; ++c) {
        const auto first = images.begin() + i * 300;
        const double share = static_cast<double>(std::count(first, first + 300, static_cast<float>(c))) / 300;
        EXPECT_NEAR(targets[i * 4 + c], share, 1e-6) << i << ' ' << c;
      }
    }
    // The partner's pixels are inside the box and nowhere else.
    EXPECT_EQ(images[mix.box.top * 10 + mix.box.left], 3.0f);
    EXPECT_EQ(images[9 * 10 + 0], 0.0f);
  }
}

TEST(Mix, TargetsAreSmoothedAndSumToOne) {
  std::vector<float> targets(3 * 10);
  write_targets({2, 5, 2}, 10, 0.1, std::vector<Mix>(3), targets.data());
  for (int64_t k = 0; k < 10; ++k) EXPECT_FLOAT_EQ(targets[k], k == 2 ? 0.91f : 0.01f);
  for (const double lambda : {0.0, 0.3, 1.0}) {
    for (const double smoothing : {0.0, 0.1, 0.5}) {
      write_targets({2, 5, 7}, 10, smoothing, std::vector<Mix>(3, {lambda, {}}), targets.data());
      for (int64_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(std::accumulate(&targets[i * 10], &targets[i * 10] + 10, 0.0), 1, 1e-6);
      }
      const double off = smoothing / 10;
      EXPECT_FLOAT_EQ(targets[2], static_cast<float>(off + lambda * (1 - smoothing)));
      EXPECT_FLOAT_EQ(targets[7], static_cast<float>(off + (1 - lambda) * (1 - smoothing)));
      EXPECT_FLOAT_EQ(targets[10 + 5], static_cast<float>(off + 1 - smoothing));
    }
  }
  EXPECT_THROW(write_targets({10}, 10, 0, std::vector<Mix>(1), targets.data()), Error);
  EXPECT_THROW(write_targets({-1}, 10, 0, std::vector<Mix>(1), targets.data()), Error);
  EXPECT_THROW(write_targets({1, 2}, 10, 0, std::vector<Mix>(1), targets.data()), Error);
}

// Every image by its own mix, with its partner as it was before: each pixel from the definition.
TEST(Mix, ImagesOfAPairMayBeMixedDifferently) {
  constexpr int64_t kCount = 11, kSize = 70;  // more columns than are remembered at a time
  Rng rng(7, Stream::mixing);
  std::vector<Mix> mixes;
  std::vector<float> before;
  for (int64_t k = 0; k < kCount * 2 * kSize * kSize; ++k) before.push_back(static_cast<float>(rng.uniform(-3, 3)));
  for (int64_t i = 0; i < kCount; ++i) {
    const double lambda = rng.uniform();
    if (i % 3 == 0) mixes.push_back({lambda, {}});
    if (i % 3 == 1) mixes.push_back(cutmix_box(lambda, rng.below(kSize), rng.below(kSize), kSize));
    if (i % 3 == 2) mixes.push_back(i % 2 == 0 ? Mix{} : cutmix_box(0.1, 60, 40, kSize));
  }
  std::vector<float> images = before;
  mix_images(mixes, 2, kSize, images.data());
  const int64_t values = 2 * kSize * kSize;
  int64_t own = 0, partners = 0, blended = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const Mix& mix = mixes[static_cast<size_t>(i)];
    const int64_t partner = i < 8 ? 7 - i : 18 - i;
    for (int64_t k = 0; k < values; ++k) {
      const float x = before[static_cast<size_t>(i * values + k)];
      const float z = before[static_cast<size_t>(partner * values + k)];
      const float got = images[static_cast<size_t>(i * values + k)];
      const bool blend = is_empty(mix.box) && mix.lambda != 1 && i != partner;
      const bool cut = contains(mix.box, k / kSize % kSize, k % kSize);
      if (blend) {
        ASSERT_NEAR(got, mix.lambda * x + (1 - mix.lambda) * z, 1e-6) << i << ' ' << k;
      } else {
        ASSERT_EQ(got, cut ? z : x) << i << ' ' << k;
      }
      ++(blend ? blended : cut ? partners : own);
    }
  }
  EXPECT_GT(std::min({own, partners, blended}), 10000);
}

TEST(Mix, ABatchAPairOrAnImageDraws) {
  for (int64_t count = 1; count <= 20; ++count) {
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(mix_drawn_for(MixMode::batch, i, count), 0);
      EXPECT_EQ(mix_drawn_for(MixMode::elem, i, count), i);
      const int64_t partner = mix_partner(i, count), drawn_for = mix_drawn_for(MixMode::pair, i, count);
      EXPECT_TRUE(drawn_for == i || drawn_for == partner);
      EXPECT_LE(drawn_for, i);
      EXPECT_EQ(drawn_for, mix_drawn_for(MixMode::pair, partner, count));
    }
  }
}

TEST(Mix, TargetsTakeTheLambdaOfTheirImage) {
  std::vector<float> targets(4 * 4);
  write_targets({0, 1, 2, 3}, 4, 0.2, {{0.5, {}}, {}, {0.25, {}}, {0.75, {}}}, targets.data());
  const auto target = [](double own) { return static_cast<float>(0.05 + 0.8 * own); };
  const std::vector<float> want = {target(0.5),  target(0),    target(0),    target(0.5),  //
                                   target(0),    target(1),    target(0),    target(0),    //
                                   target(0),    target(0.75), target(0.25), target(0),    //
                                   target(0.25), target(0),    target(0),    target(0.75)};
  for (size_t k = 0; k < 16; ++k) EXPECT_FLOAT_EQ(targets[k], want[k]) << k;
}

struct MixCounts {
  int none = 0, mixup = 0, cutmix = 0;
  double lambda = 0, squares = 0;  // of mixup
};

MixCounts count_mixes(const Augmentation& augmentation) {
  MixCounts counts;
  for (int i = 0; i < 4000; ++i) {
    Rng rng(6, Stream::mixing, i);
    const Mix mix = draw_mix(augmentation, rng);
    if (mix.lambda == 1 && is_empty(mix.box)) ++counts.none;
    if (!is_empty(mix.box)) ++counts.cutmix;
    if (mix.lambda == 1 || !is_empty(mix.box)) continue;
    ++counts.mixup;
    counts.lambda += mix.lambda;
    counts.squares += mix.lambda * mix.lambda;
  }
  return counts;
}

TEST(Mix, MixingFollowsItsProbabilities) {
  Augmentation augmentation;
  EXPECT_EQ(count_mixes(augmentation).none, 4000);
  augmentation.mixup_alpha = 0.8;
  const MixCounts mixup = count_mixes(augmentation);
  EXPECT_EQ(mixup.mixup, 4000);
  EXPECT_NEAR(mixup.lambda / 4000, 0.5, 0.025);
  EXPECT_NEAR(mixup.squares / 4000 - 0.25, 1 / 10.4, 0.02);  // Beta(0.8): variance 1 / (4 * 2.6)
  augmentation.cutmix_alpha = 1;
  const MixCounts both = count_mixes(augmentation);
  EXPECT_NEAR(both.mixup, 2000, 158);
  augmentation.switch_probability = 1;
  EXPECT_EQ(count_mixes(augmentation).mixup, 0);
  augmentation.mixup_alpha = 0;
  augmentation.switch_probability = 0;
  EXPECT_GT(count_mixes(augmentation).cutmix, 3900);  // a box may round to nothing
  augmentation.mix_probability = 0.25;
  EXPECT_NEAR(count_mixes(augmentation).cutmix, 1000, 160);
}

}  // namespace
}  // namespace entangle
