// Decoding, resizing and the operations of RandAugment against images made with the published recipe's library
// (tests/golden/augment), and what is drawn against its distributions.
#include "data/image_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/decode.h"
#include "data/rand_augment.h"
#include "engine/safetensors.h"
#include "tests/expect_error.h"
#include "tests/files.h"
#include "tests/statistics.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

const std::string kFolder = "tests/golden/augment/";

struct Golden {
  nlohmann::json cases = nlohmann::json::parse(std::ifstream(kFolder + "cases.json"));
  SafetensorsFile expected{kFolder + "expected.safetensors"};
  Image input = read_image(kFolder + "input.png");
  Colour fill = {124, 116, 104};
};

// How far two images are apart: the largest difference, and the share of values that differ by more than one level.
struct Distance {
  int largest = 0;
  double beyond_one = 0;
};
Distance distance(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  EXPECT_EQ(a.size(), b.size());
  Distance d;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const int difference = std::abs(a[i] - b[i]);
    d.largest = std::max(d.largest, difference);
    d.beyond_one += difference > 1 ? 1.0 / static_cast<double>(a.size()) : 0;
  }
  return d;
}

TEST(ImageOps, ThePngDecodesToTheGoldenInput) {
  const Golden golden;
  EXPECT_EQ(golden.input.pixels, golden.expected.read_u8("input"));
}

TEST(ImageOps, EveryOperationEqualsThePublishedRecipes) {
  const Golden golden;
  int exact = 0, count = 0;
  for (const auto& c : golden.cases["ops"]) {
    const ImageOp op = parse_image_op(c["op"]);
    const std::string interpolation = c["interpolation"];
    Image image = golden.input;
    apply_image_op(op, c["arg"].is_null() ? 0 : c["arg"].get<double>(),
                   interpolation.empty() ? Interpolation::bicubic : parse_interpolation(interpolation), golden.fill,
                   image);
    const Distance d = distance(image.pixels, golden.expected.read_u8(c["key"]));
    EXPECT_LE(d.largest, 1) << c["key"];
    EXPECT_LE(d.beyond_one, 0.001) << c["key"];
    // Tables and truncating blends are integer arithmetic, or as good as that.
    const bool geometric = op == ImageOp::rotate || op >= ImageOp::shear_x;
    if (!geometric) {
      EXPECT_EQ(d.largest, 0) << c["key"];
    }
    exact += d.largest == 0;
    ++count;
  }
  EXPECT_EQ(count, 38);
  EXPECT_GE(exact, 30);
}

TEST(ImageOps, ResizedCropsEqualThePublishedRecipes) {
  const Golden golden;
  for (const auto& c : golden.cases["resized_crops"]) {
    const Image part = crop(golden.input, {c["x"], c["y"], c["width"], c["height"]});
    const Image out = resize(part, c["out_width"], c["out_height"], parse_interpolation(c["interpolation"]));
    EXPECT_EQ(distance(out.pixels, golden.expected.read_u8(c["key"])).largest, 0) << c["key"];
  }
}

TEST(ImageOps, TheEvaluationPipelineEqualsThePublishedRecipes) {
  const Golden golden;
  const auto& c = golden.cases["eval"];
  const Image out = resize_for_evaluation(golden.input, c["size"], Interpolation::bicubic);
  EXPECT_EQ(distance(out.pixels, golden.expected.read_u8(c["key"])).largest, 0);
}

TEST(ImageOps, TheJpegIsWithinTwoLevelsOfLibjpeg) {
  const Golden golden;
  const std::vector<uint8_t> want = golden.expected.read_u8("jpeg_decoded_by_libjpeg");
  const Image image = read_image(kFolder + "input.jpg");
  ASSERT_EQ(image.pixels.size(), want.size());
  size_t beyond = 0;
  for (size_t i = 0; i < want.size(); ++i) beyond += std::abs(image.pixels[i] - want[i]) > 2;
  EXPECT_LE(static_cast<double>(beyond) / static_cast<double>(want.size()), 0.001);
  EXPECT_LE(distance(image.pixels, want).largest, jpeg_decoder() == std::string("libjpeg-turbo") ? 0 : 4);
}

// A constant stays one through any resizing, and a crop is what it says.
TEST(ImageOps, ResizingKeepsConstantsAndSizes) {
  for (const int64_t channels : {1, 3, 4}) {
    const Image image = {7, 5, channels, std::vector<uint8_t>(static_cast<size_t>(35 * channels), 77)};
    for (const auto& [width, height] : {std::pair(1, 1), std::pair(5, 7), std::pair(64, 3), std::pair(2, 50)}) {
      for (const Interpolation interpolation : {Interpolation::bilinear, Interpolation::bicubic}) {
        const Image out = resize(image, width, height, interpolation);
        EXPECT_EQ(out.width, width);
        EXPECT_EQ(out.height, height);
        EXPECT_EQ(out.pixels, std::vector<uint8_t>(static_cast<size_t>(width * height * channels), 77));
      }
    }
  }
  Image numbered = {4, 3, 1, {}};
  for (uint8_t i = 0; i < 12; ++i) numbered.pixels.push_back(i);
  EXPECT_EQ(crop(numbered, {1, 2, 2, 2}).pixels, (std::vector<uint8_t>{7, 8, 10, 11}));
  expect_error(error_of([&] { crop(numbered, {1, 2, 3, 2}); }), {"3x2", "(1, 2)", "3x4"});
  expect_error(error_of([&] { resize(numbered, 0, 3, Interpolation::bicubic); }), {"0x3"});
  expect_error(error_of([&] { parse_interpolation("nearest"); }), {"nearest", "bilinear", "bicubic"});
}

// Three channels have a path of their own on vectors; four go pixel by pixel. Every value has to be the same.
TEST(ImageOps, ResizingDoesNotDependOnTheChannels) {
  Rng rng(8, Stream::synthetic);
  for (int i = 0; i < 60; ++i) {
    const int64_t width = 1 + rng.below(90), height = 1 + rng.below(40);
    Image three = {height, width, 3, {}}, four = {height, width, 4, {}};
    for (int64_t k = 0; k < width * height * 3; ++k) {
      const int64_t value = rng.below(3) == 0 ? 255 * rng.below(2) : rng.below(256);  // extremes overshoot
      three.pixels.push_back(static_cast<uint8_t>(value));
      four.pixels.push_back(static_cast<uint8_t>(value));
      if (k % 3 == 2) four.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
    }
    const Interpolation interpolation = i % 2 == 0 ? Interpolation::bicubic : Interpolation::bilinear;
    const int64_t w = 1 + rng.below(70), h = 1 + rng.below(70), left = rng.below(width), top = rng.below(height);
    const Region region = {left, top, 1 + rng.below(width - left), 1 + rng.below(height - top)};
    const Image a = resized_crop(three, region, w, h, interpolation);
    const Image b = resized_crop(four, region, w, h, interpolation);
    for (int64_t k = 0; k < w * h * 3; ++k) {
      ASSERT_EQ(a.pixels[static_cast<size_t>(k)], b.pixels[static_cast<size_t>(k / 3 * 4 + k % 3)])
          << width << "x" << height << " to " << w << "x" << h << ", value " << k;
    }
    EXPECT_EQ(a.pixels, resize(crop(three, region), w, h, interpolation).pixels);
  }
}

// Places between rows and columns against places on them, which need fewer pixels: a turn by a quarter is exact.
TEST(ImageOps, ATurnByAQuarterMovesPixels) {
  Rng rng(9, Stream::synthetic);
  Image image = {9, 9, 3, {}};
  for (int64_t k = 0; k < 243; ++k) image.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
  for (const Interpolation interpolation : {Interpolation::bilinear, Interpolation::bicubic}) {
    const Image turned = transform(image, {0, 1, 0, -1, 0, 9}, interpolation, {1, 2, 3});
    for (int64_t y = 0; y < 9; ++y) {
      for (int64_t x = 0; x < 9; ++x) {
        for (int64_t c = 0; c < 3; ++c) {
          EXPECT_EQ(turned.pixels[static_cast<size_t>((y * 9 + x) * 3 + c)],
                    image.pixels[static_cast<size_t>(((8 - x) * 9 + y) * 3 + c)]);
        }
      }
    }
  }
}

TEST(ImageOps, EvaluationTakesTheCentre) {
  Image image = {60, 90, 3, {}};
  for (int64_t y = 0; y < 60; ++y) {
    for (int64_t x = 0; x < 90; ++x) {
      for (const int64_t value : {x, y, int64_t{9}}) image.pixels.push_back(static_cast<uint8_t>(value));
    }
  }
  const Image out = resize_for_evaluation(image, 56, Interpolation::bilinear);  // to 96x64, then the centre
  ASSERT_EQ(out.width, 56);
  ASSERT_EQ(out.height, 56);
  const auto at = [&](int64_t x, int64_t y, int64_t c) {
    return out.pixels[static_cast<size_t>((y * 56 + x) * 3 + c)];
  };
  EXPECT_NEAR(at(28, 28, 0), 45, 1);
  EXPECT_NEAR(at(28, 28, 1), 30, 1);
  EXPECT_NEAR(at(0, 0, 0), 20 * 90 / 96.0, 1);
  EXPECT_EQ(at(0, 0, 2), 9);
}

// The steps of a view by hand, from the numbers that it draws.
TEST(TrainingView, IsTheCropThenTheMirrorThenTheOperations) {
  const Image image = Golden().input;
  const RandAugment policy = RandAugment::parse("rand-m9-n2-p1");
  for (uint64_t step = 0; step < 20; ++step) {
    for (const double flip : {0.0, 1.0}) {
      Rng rng(3, Stream::augmentation, step), by_hand = rng;
      const Image view = training_view(image, {24, flip, Interpolation::bilinear, &policy, {1, 2, 3}}, rng);
      Image want =
          resize(crop(image, draw_resized_crop(image.width, image.height, by_hand)), 24, 24, Interpolation::bilinear);
      by_hand.uniform();
      if (flip == 1) mirror(want);
      for (const DrawnOp& op : draw_ops(policy, by_hand)) {
        apply_image_op(op.op, op.argument, Interpolation::bilinear, {1, 2, 3}, want);
      }
      EXPECT_EQ(view.pixels, want.pixels);
      EXPECT_EQ(rng.next, by_hand.next);
    }
  }
  Image row = {1, 3, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  mirror(row);
  EXPECT_EQ(row.pixels, (std::vector<uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3}));
}

TEST(Decode, RefusesWhatIsNoImage) {
  const TemporaryDirectory dir;
  const auto error = [&](const std::string& bytes) {
    return error_of([&] { decode_image({bytes.begin(), bytes.end()}, "photo.jpg"); });
  };
  expect_error(error(""), {"photo.jpg: the file is empty"});
  expect_error(error("no image at all"), {"photo.jpg: no JPEG, PNG or BMP image"});
  const std::string jpeg = read_raw(kFolder + "input.jpg"), png = read_raw(kFolder + "input.png");
  expect_error(error(png.substr(0, png.size() / 2)), {"photo.jpg"});
  expect_error(error(jpeg.substr(0, 20)), {"photo.jpg"});
  for (const size_t part : {jpeg.size() / 2, jpeg.size() - 2}) {
    expect_error(error(jpeg.substr(0, part)), {"photo.jpg: the JPEG is truncated"});
  }
  EXPECT_EQ(error(jpeg + "and more behind it"), "");
  std::string impossible =
      jpeg;  // a Huffman table with three codes of one bit; nothing of it is left for the next file
  const size_t counts = jpeg.find("\xFF\xC4") + 5;
  const size_t most = std::max_element(jpeg.begin() + counts, jpeg.begin() + counts + 16) - jpeg.begin();
  ASSERT_GE(jpeg[most], 3);
  impossible[counts] = static_cast<char>(impossible[counts] + 3);
  impossible[most] = static_cast<char>(impossible[most] - 3);
  expect_error(error(impossible), {"photo.jpg: the image is broken"});
  EXPECT_EQ(error(jpeg), "");
  std::string bomb = png;  // whose header says 14000 x 14000 pixels
  for (const size_t at : {18, 22}) {
    bomb[at] = static_cast<char>(14000 >> 8);
    bomb[at + 1] = static_cast<char>(14000 & 255);
  }
  expect_error(error(bomb), {"photo.jpg: 14000x14000 pixels are more than"});
  expect_error(error_of([&] { read_image(dir.path("none.jpg")); }), {"none.jpg: cannot be read"});
}

TEST(RandAugmentPolicy, IsParsedAndRefused) {
  const RandAugment policy = RandAugment::parse("rand-m9-mstd0.5-inc1");
  EXPECT_EQ(policy.magnitude, 9);
  EXPECT_EQ(policy.magnitude_std, 0.5);
  EXPECT_EQ(policy.layers, 2);
  EXPECT_EQ(policy.probability, 0.5);
  EXPECT_TRUE(policy.increasing);
  EXPECT_EQ(RandAugment::parse("rand-n3-p0.25-m4").layers, 3);
  EXPECT_EQ(RandAugment::parse("rand-n3-p0.25-m4").probability, 0.25);
  for (const auto& [text, part] : std::map<std::string, std::string>{{"augmix-m3", "must begin with rand"},
                                                                     {"rand-m11", "magnitude 11"},
                                                                     {"rand-mx", "'mx'"},
                                                                     {"rand-m9-z1", "'z1'"},
                                                                     {"rand-n0", "0 operations"},
                                                                     {"rand-p1.5", "probability 1.5"},
                                                                     {"rand-mstd-1", "'mstd'"}}) {
    expect_error(error_of([&, t = text] { RandAugment::parse(t); }), {part});
  }
}

// Pearson's statistic against equal frequencies, 14 degrees of freedom: beyond 36.1 once in a thousand.
TEST(RandAugmentPolicy, DrawsOperationsAndMagnitudesAsTheRecipe) {
  constexpr int kDraws = 30000;
  const RandAugment policy = RandAugment::parse("rand-m9-mstd0.5-inc1");
  std::array<int, kImageOps> counts = {};
  std::array<int, 3> per_image = {};
  double sum = 0, squares = 0;
  int rotations = 0, negative = 0;
  for (int i = 0; i < kDraws; ++i) {
    Rng rng(5, Stream::augmentation, static_cast<uint64_t>(i));
    const std::vector<DrawnOp> ops = draw_ops(policy, rng);
    ++per_image[ops.size()];
    for (const DrawnOp& op : ops) {
      ++counts[static_cast<size_t>(op.op)];
      if (op.op != ImageOp::rotate) continue;
      const double magnitude = std::fabs(op.argument) / 3;
      sum += magnitude;
      squares += magnitude * magnitude;
      negative += op.argument < 0;
      ++rotations;
    }
  }
  double statistic = 0;
  const double expected = kDraws / static_cast<double>(kImageOps);
  for (const int count : counts) statistic += (count - expected) * (count - expected) / expected;
  EXPECT_LT(statistic, 36.1);
  EXPECT_NEAR(per_image[0], kDraws / 4, 4 * std::sqrt(kDraws * 3.0 / 16));
  EXPECT_NEAR(per_image[2], kDraws / 4, 4 * std::sqrt(kDraws * 3.0 / 16));
  // N(9, 0.5) cut off at 10: mean 8.996, deviation 0.49.
  const double mean = sum / rotations;
  EXPECT_NEAR(mean, 8.996, 4 * 0.5 / std::sqrt(rotations));
  EXPECT_NEAR(std::sqrt(squares / rotations - mean * mean), 0.49, 0.04);
  EXPECT_NEAR(negative, rotations / 2, 4 * std::sqrt(rotations) / 2);
}

TEST(RandAugmentPolicy, ArgumentsAreTheRecipes) {
  const auto argument = [](const char* op, double level, bool negative) {
    return argument_of(parse_image_op(op), level, true, negative);
  };
  EXPECT_DOUBLE_EQ(argument("rotate", 9, true), -27);
  EXPECT_EQ(argument("posterize", 9, false), 1);
  EXPECT_EQ(argument("posterize", 10, false), 0);
  EXPECT_EQ(argument("solarize", 9, false), 26);
  EXPECT_EQ(argument("solarize_add", 9, false), 99);
  EXPECT_DOUBLE_EQ(argument("color", 9, false), 1.81);
  EXPECT_NEAR(argument("sharpness", 9, true), 0.19, 1e-12);
  EXPECT_EQ(argument("contrast", 10, true), 0.1);
  EXPECT_DOUBLE_EQ(argument("shear_x", 9, false), 0.27);
  EXPECT_DOUBLE_EQ(argument("translate_y_rel", 9, true), -0.405);
  EXPECT_EQ(argument_of(ImageOp::posterize, 9, false, false), 3);
  EXPECT_EQ(argument_of(ImageOp::solarize, 5, false, false), 128);
  EXPECT_DOUBLE_EQ(argument_of(ImageOp::brightness, 5, false, true), 1.0);
  expect_error(error_of([] { parse_image_op("blur"); }), {"blur", "auto_contrast", "translate_y_rel"});
}

TEST(ResizedCrop, AreaAndRatioFollowTheRecipe) {
  constexpr int kDraws = 20000;
  constexpr int64_t kSide = 4000;  // so large that rounding does not show
  std::vector<double> areas, ratios;
  for (int i = 0; i < kDraws; ++i) {
    Rng rng(6, Stream::augmentation, static_cast<uint64_t>(i));
    const Region r = draw_resized_crop(kSide, kSide, rng);
    EXPECT_TRUE(r.left >= 0 && r.top >= 0 && r.left + r.width <= kSide && r.top + r.height <= kSide);
    const double area = static_cast<double>(r.width * r.height) / (kSide * kSide);
    // Areas up to 3/4 fit at any ratio, so among them both distributions are those that are drawn from.
    if (area > 0.75) continue;
    areas.push_back((area - 0.08) / (0.75 - 0.08));
    ratios.push_back((std::log(static_cast<double>(r.width) / static_cast<double>(r.height)) / std::log(4.0 / 3) + 1) /
                     2);
  }
  EXPECT_GE(areas.size(), 10000u);
  expect_uniform(areas);
  expect_uniform(ratios);
  Rng rng(1, Stream::augmentation);
  const Region strip = draw_resized_crop(1000, 10, rng);  // no draw fits
  EXPECT_EQ(strip.height, 10);
  EXPECT_EQ(strip.width, 13);
  EXPECT_EQ(strip.left, 493);
}

}  // namespace
}  // namespace entangle
