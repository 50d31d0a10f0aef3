#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/check.h"
#include "tests/expect_error.h"

namespace entangle {
namespace {

// Values that tell every pixel and channel apart, none of them zero.
Image numbered(int64_t size, int64_t channels) {
  Image image;
  image.height = image.width = size;
  image.channels = channels;
  for (int64_t i = 0; i < size * size * channels; ++i) image.pixels.push_back(static_cast<uint8_t>(i + 1));
  return image;
}

// Makes the output the pixel values themselves.
Normalizer unchanged(int64_t channels) {
  return Normalizer(std::vector<float>(channels, 0.0f), std::vector<float>(channels, 1 / 255.0f));
}

std::vector<float> placed(const Image& image, const Placement& placement) {
  std::vector<float> out(image.pixels.size(), -1.0f);
  place_image(image, placement, unchanged(image.channels), image.height, out.data());
  for (float& value : out) value = std::round(value);
  return out;
}

TEST(Augment, CropWithAGivenOffset) {
  const Image image = numbered(3, 1);  // 1 2 3 / 4 5 6 / 7 8 9
  EXPECT_EQ(placed(image, {}), (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(placed(image, {-1, 1, false}), (std::vector<float>{0, 0, 0, 2, 3, 0, 5, 6, 0}));
  EXPECT_EQ(placed(image, {1, -1, false}), (std::vector<float>{0, 4, 5, 0, 7, 8, 0, 0, 0}));
  EXPECT_EQ(placed(image, {0, -2, false}), (std::vector<float>{0, 0, 1, 0, 0, 4, 0, 0, 7}));
  for (const int64_t far : {-3, 3, -100, 100}) {
    EXPECT_EQ(placed(image, {far, 0, false}), std::vector<float>(9, 0.0f));
    EXPECT_EQ(placed(image, {0, far, true}), std::vector<float>(9, 0.0f));
  }
}

TEST(Augment, FlipMirrorsAfterTheCrop) {
  const Image image = numbered(3, 1);
  EXPECT_EQ(placed(image, {0, 0, true}), (std::vector<float>{3, 2, 1, 6, 5, 4, 9, 8, 7}));
  EXPECT_EQ(placed(image, {-1, 1, true}), (std::vector<float>{0, 0, 0, 0, 3, 2, 0, 6, 5}));
  EXPECT_EQ(placed(image, {0, -1, true}), (std::vector<float>{2, 1, 0, 5, 4, 0, 8, 7, 0}));
}

TEST(Augment, FlipTwiceIsIdentity) {
  Image image = numbered(7, 1);
  const std::vector<float> once = placed(image, {0, 0, true});
  EXPECT_NE(once, placed(image, {}));
  std::copy(once.begin(), once.end(), image.pixels.begin());
  EXPECT_EQ(placed(image, {0, 0, true}), placed(numbered(7, 1), {}));
}

TEST(Augment, InterleavedChannelsBecomePlanes) {
  const Image image = numbered(2, 3);  // (1 2 3) (4 5 6) / (7 8 9) (10 11 12)
  EXPECT_EQ(placed(image, {}), (std::vector<float>{1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12}));
  EXPECT_EQ(placed(image, {0, 1, true}), (std::vector<float>{0, 4, 0, 10, 0, 5, 0, 11, 0, 6, 0, 12}));
}

TEST(Augment, NormalizesEachChannelAndPadsWithBlack) {
  const Normalizer normalizer({0.2f, 0.5f}, {0.5f, 0.25f});
  Image image = numbered(1, 2);
  image.pixels = {255, 51};
  std::vector<float> out(2);
  place_image(image, {}, normalizer, 1, out.data());
  EXPECT_FLOAT_EQ(out[0], 1.6f);
  EXPECT_FLOAT_EQ(out[1], -1.2f);
  place_image(image, {1, 0, false}, normalizer, 1, out.data());
  EXPECT_FLOAT_EQ(out[0], -0.4f);
  EXPECT_FLOAT_EQ(out[1], -2.0f);
}

TEST(Augment, DrawsEveryOffsetAndHalfTheFlips) {
  Augmentation augmentation;
  augmentation.crop_padding = 2;
  augmentation.flip = 0.5;
  Rng rng(1, Stream::augmentation);
  std::vector<int> seen(25, 0);
  int flips = 0;
  for (int i = 0; i < 10000; ++i) {
    const Placement placement = draw_placement(augmentation, rng);
    ASSERT_LE(std::abs(placement.top), 2);
    ASSERT_LE(std::abs(placement.left), 2);
    ++seen[(placement.top + 2) * 5 + placement.left + 2];
    flips += placement.flip;
  }
  // Five standard deviations of a count with probability 1/25 and 1/2.
  for (const int count : seen) EXPECT_NEAR(count, 400, 98);
  EXPECT_NEAR(flips, 5000, 250);
}

TEST(Augment, ErasedBoxesFollowTheRecipe) {
  constexpr int64_t kSize = 224;
  constexpr int kBoxes = 20000;
  Rng rng(2, Stream::augmentation);
  double area = 0, log_aspect = 0;
  int64_t least = kSize * kSize, most = 0;
  for (int i = 0; i < kBoxes; ++i) {
    const Box box = draw_erased_box(kSize, rng);
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

TEST(Augment, NothingIsErasedWhereNoBoxFits) {
  Rng rng(3, Stream::augmentation);
  EXPECT_TRUE(is_empty(draw_erased_box(1, rng)));
}

TEST(Augment, NoiseFillsTheBoxOnly) {
  constexpr int64_t kSize = 64;
  const Box box = {3, 5, 40, 50};
  std::vector<float> image(2 * kSize * kSize, 100.0f);
  Rng rng(4, Stream::augmentation);
  fill_with_noise(box, 2, kSize, rng, image.data());
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(image.size()); ++i) {
    const int64_t y = i / kSize % kSize, x = i % kSize;
    const bool inside = y >= 3 && y < 43 && x >= 5 && x < 55;
    ASSERT_EQ(image[i] == 100.0f, !inside) << i;
    if (!inside) continue;
    sum += image[i];
    squares += image[i] * image[i];
  }
  EXPECT_NEAR(sum / 4000, 0, 5 / std::sqrt(4000.0));
  EXPECT_NEAR(squares / 4000, 1, 5 * std::sqrt(2 / 4000.0));
}

TEST(Augment, ErasesWithItsProbability) {
  Augmentation augmentation;
  augmentation.image_size = 12;
  augmentation.erase = 0.25;
  const Image image = numbered(12, 1);
  const Normalizer normalizer = unchanged(1);
  std::vector<float> plain(144), out(144);
  place_image(image, {}, normalizer, 12, plain.data());
  int erased = 0;
  for (int i = 0; i < 4000; ++i) {
    Rng rng(5, Stream::augmentation, i);
    augment_image(image, draw_plan(augmentation, rng), rng.key, normalizer, 12, out.data());
    erased += out != plain;
  }
  EXPECT_NEAR(erased, 1000, 137);  // five standard deviations
}

TEST(Augment, CutMixBoxByHand) {
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

TEST(Augment, MixupWithTheReversedGroup) {
  std::vector<float> images = constant_images(13, 2 * 9);
  Mix mix;
  mix.lambda = 0.75;
  mix_images(mix, 13, 2, 3, images.data());
  const float want[13] = {1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4.25f, 4.75f, 5.25f, 9.0f, 9.5f, 10.0f, 10.5f, 11.0f};
  for (size_t k = 0; k < images.size(); ++k) EXPECT_EQ(images[k], want[k / 18]) << k;
}

TEST(Augment, EveryImageIsInOnePairOfItsGroup) {
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

TEST(Augment, CutMixTargetsEqualThePixelShares) {
  const std::vector<int64_t> labels = {0, 1, 2, 3};
  for (const auto& [row, column] : {std::pair(5, 4), std::pair(0, 9), std::pair(9, 5)}) {
    const Mix mix = cutmix_box(0.5, row, column, 10);
    std::vector<float> images = constant_images(4, 3 * 100), targets(16);
    mix_images(mix, 4, 3, 10, images.data());
    write_targets(labels, 4, 0, mix.lambda, targets.data());
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

TEST(Augment, TargetsAreSmoothedAndSumToOne) {
  std::vector<float> targets(3 * 10);
  write_targets({2, 5, 2}, 10, 0.1, 1.0, targets.data());
  for (int64_t k = 0; k < 10; ++k) EXPECT_FLOAT_EQ(targets[k], k == 2 ? 0.91f : 0.01f);
  for (const double lambda : {0.0, 0.3, 1.0}) {
    for (const double smoothing : {0.0, 0.1, 0.5}) {
      write_targets({2, 5, 7}, 10, smoothing, lambda, targets.data());
      for (int64_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(std::accumulate(&targets[i * 10], &targets[i * 10] + 10, 0.0), 1, 1e-6);
      }
      const double off = smoothing / 10;
      EXPECT_FLOAT_EQ(targets[2], static_cast<float>(off + lambda * (1 - smoothing)));
      EXPECT_FLOAT_EQ(targets[7], static_cast<float>(off + (1 - lambda) * (1 - smoothing)));
      EXPECT_FLOAT_EQ(targets[10 + 5], static_cast<float>(off + 1 - smoothing));
    }
  }
  EXPECT_THROW(write_targets({10}, 10, 0, 1, targets.data()), Error);
  EXPECT_THROW(write_targets({-1}, 10, 0, 1, targets.data()), Error);
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

TEST(Augment, MixingFollowsItsProbabilities) {
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

TEST(Augment, ValidateNamesTheValue) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const auto expect_refused = [](const char* part, const std::function<void(Augmentation&)>& spoil) {
    Augmentation augmentation;
    EXPECT_NO_THROW(augmentation.validate());
    spoil(augmentation);
    expect_error([&] { augmentation.validate(); }, {part});
  };
  for (const int64_t size : {0, -1, 20000}) expect_refused("image_size", [=](Augmentation& a) { a.image_size = size; });
  for (const int64_t pad : {-1, 28}) expect_refused("crop_padding", [=](Augmentation& a) { a.crop_padding = pad; });
  for (const double bad : {-0.1, 1.1, nan}) {
    expect_refused("flip", [=](Augmentation& a) { a.flip = bad; });
    expect_refused("erase", [=](Augmentation& a) { a.erase = bad; });
    expect_refused("mix_probability", [=](Augmentation& a) { a.mix_probability = bad; });
    expect_refused("switch_probability", [=](Augmentation& a) { a.switch_probability = bad; });
    expect_refused("label_smoothing", [=](Augmentation& a) { a.label_smoothing = bad; });
  }
  for (const double bad : {-0.1, infinity, nan}) {
    expect_refused("mixup_alpha", [=](Augmentation& a) { a.mixup_alpha = bad; });
    expect_refused("cutmix_alpha", [=](Augmentation& a) { a.cutmix_alpha = bad; });
  }
  EXPECT_THROW(Normalizer({}, {}), Error);
  EXPECT_THROW(Normalizer({0.5f}, {0.5f, 0.5f}), Error);
  EXPECT_THROW(Normalizer({0.5f}, {0.0f}), Error);
}

TEST(Augment, RefusesOtherSizes) {
  std::vector<float> out(9);
  EXPECT_THROW(place_image(numbered(2, 1), {}, unchanged(1), 3, out.data()), Error);
  EXPECT_THROW(place_image(numbered(3, 3), {}, unchanged(1), 3, out.data()), Error);
  Image cut = numbered(3, 1);
  cut.pixels.pop_back();
  EXPECT_THROW(place_image(cut, {}, unchanged(1), 3, out.data()), Error);
}

}  // namespace
}  // namespace entangle
