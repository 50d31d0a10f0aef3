#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
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
    expect_refused("color_jitter", [=](Augmentation& a) { a.color_jitter = bad; });
    expect_refused("mixup_alpha", [=](Augmentation& a) { a.mixup_alpha = bad; });
    expect_refused("cutmix_alpha", [=](Augmentation& a) { a.cutmix_alpha = bad; });
  }
  expect_refused("const, rand, pixel", [](Augmentation& a) { a.erase_mode = "noise"; });
  expect_refused("batch, pair, elem", [](Augmentation& a) { a.mix_mode = "element"; });
  for (const auto& [least, most] : {std::pair(0, 1), std::pair(3, 2), std::pair(1, 9)}) {
    expect_refused("erase_min_count", [least = least, most = most](Augmentation& a) {
      a.erase_min_count = least;
      a.erase_max_count = most;
    });
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
