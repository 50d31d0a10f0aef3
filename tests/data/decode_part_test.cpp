// Parts of JPEGs: the same pixels as of the whole image; and what training makes of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "data/decode.h"
#include "data/jpeg_crop.h"
#include "data/loader.h"
#include "data/resize.h"
#include "engine/rng.h"
#include "tests/expect_error.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"

#if defined(ENTANGLE_TURBOJPEG)
#include <jpeglib.h>
#endif

namespace entangle {
namespace {

TEST(DecodeMode, NamesWhatIsKnownAndWhatIsMissing) {
  for (const DecodeMode mode : {DecodeMode::full, DecodeMode::roi, DecodeMode::scaled}) {
    EXPECT_EQ(parse_decode_mode(name_of(mode)), mode);
  }
  expect_error([] { parse_decode_mode("half"); }, {"'half'", "full, roi or scaled"});
  Augmentation augmentation;
  augmentation.decode = "parts";
  expect_error([&] { augmentation.validate(); }, {"'parts'"});
}

TEST(DecodeMode, ReductionsLeaveThePixelsWanted) {
  EXPECT_EQ(largest_reduction({0, 0, 447, 900}, 224), 1);
  EXPECT_EQ(largest_reduction({0, 0, 448, 900}, 224), 2);
  EXPECT_EQ(largest_reduction({3, 3, 900, 895}, 224), 2);
  EXPECT_EQ(largest_reduction({3, 3, 5000, 9000}, 224), 8);
  const Region both = around({5, 6, 10, 20}, {2, 8, 4, 30});
  EXPECT_EQ(both.left, 2);
  EXPECT_EQ(both.top, 6);
  EXPECT_EQ(both.width, 13);
  EXPECT_EQ(both.height, 32);
}

#if !defined(ENTANGLE_TURBOJPEG)
TEST(DecodeMode, ScaledNeedsLibjpegTurbo) {
  check_available(DecodeMode::full);
  check_available(DecodeMode::roi);
  expect_error([&] { check_available(DecodeMode::scaled); }, {"DATA.decode=roi", "scaled", "libjpeg-turbo"});
}
#else

struct Kind {
  const char* name;
  J_COLOR_SPACE space;
  int across, down;  // samples of luma beside one of chroma
  bool progressive;
  int restart = 0;  // units of a piece between restart markers
};
constexpr Kind kKinds[] = {
    {"4:4:4", JCS_YCbCr, 1, 1, false},
    {"4:2:2", JCS_YCbCr, 2, 1, false},
    {"4:2:0", JCS_YCbCr, 2, 2, false},
    {"4:4:0", JCS_YCbCr, 1, 2, false},
    {"4:1:1", JCS_YCbCr, 4, 1, false},
    {"4:2:0 progressive", JCS_YCbCr, 2, 2, true},
    {"4:4:4 progressive", JCS_YCbCr, 1, 1, true},
    {"grey", JCS_GRAYSCALE, 1, 1, false},
    {"CMYK", JCS_CMYK, 1, 1, false},
    {"YCCK 4:2:0", JCS_YCCK, 2, 2, false},
    {"4:2:0 in pieces of a unit", JCS_YCbCr, 2, 2, false, 1},
    {"4:2:0 in pieces of two units", JCS_YCbCr, 2, 2, false, 2},
    {"4:2:0 in pieces of five units", JCS_YCbCr, 2, 2, false, 5},
    {"4:2:0 in pieces of twenty units", JCS_YCbCr, 2, 2, false, 20},
    {"4:4:4 in pieces of two units", JCS_YCbCr, 1, 1, false, 2},
    {"4:2:2 in pieces of a unit", JCS_YCbCr, 2, 1, false, 1},
    {"4:4:0 in pieces of a unit", JCS_YCbCr, 1, 2, false, 1},
    {"4:1:1 in pieces of a unit", JCS_YCbCr, 4, 1, false, 1},
    {"grey in pieces of four units", JCS_GRAYSCALE, 1, 1, false, 4},
    {"YCCK 4:2:0 in pieces of a unit", JCS_YCCK, 2, 2, false, 1},
};

// Waves and noise: neighbours differ, in chroma too.
std::vector<uint8_t> pixels_of(int64_t width, int64_t height, int channels) {
  Rng rng(static_cast<uint64_t>(width * 1000 + height), Stream::synthetic);
  std::vector<uint8_t> pixels;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        const double wave = std::sin(0.07 * (c + 1) * static_cast<double>(x) + 0.05 * static_cast<double>(y * (4 - c)));
        pixels.push_back(static_cast<uint8_t>(127 + 90 * wave + static_cast<double>(rng.below(30))));
      }
    }
  }
  return pixels;
}

std::vector<uint8_t> encoded(const Kind& kind, int64_t width, int64_t height) {
  const int channels = kind.space == JCS_GRAYSCALE ? 1 : kind.space == JCS_YCbCr ? 3 : 4;
  std::vector<uint8_t> pixels = pixels_of(width, height, channels);
  jpeg_compress_struct info = {};
  jpeg_error_mgr errors = {};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&info, &memory, &bytes);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = channels;
  info.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, kind.space);
  jpeg_set_quality(&info, 85, TRUE);
  info.comp_info[0].h_samp_factor = kind.across;
  info.comp_info[0].v_samp_factor = kind.down;
  if (kind.space == JCS_YCCK) {
    info.comp_info[3].h_samp_factor = kind.across;
    info.comp_info[3].v_samp_factor = kind.down;
  }
  if (kind.progressive) jpeg_simple_progression(&info);
  info.restart_interval = static_cast<unsigned>(kind.restart);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = pixels.data() + static_cast<int64_t>(info.next_scanline) * width * channels;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::vector<uint8_t> file(memory, memory + bytes);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return file;
}

Region drawn(int64_t width, int64_t height, Rng& rng) {
  const int64_t w = 1 + rng.below(width), h = 1 + rng.below(height);
  return {rng.below(width - w + 1), rng.below(height - h + 1), w, h};
}

TEST(DecodePart, HasThePixelsOfTheWholeImage) {
  const std::string name = "photo.jpg";
  for (const Kind& kind : kKinds) {
    for (const auto& [width, height] : {std::pair<int64_t, int64_t>{157, 203}, {96, 64}, {17, 9}, {1, 1}}) {
      const std::vector<uint8_t> file = encoded(kind, width, height);
      const EncodedImage image(file, name);
      ASSERT_EQ(image.width(), width);
      ASSERT_EQ(image.height(), height);
      Image whole;
      image.decode(whole);
      Rng rng(7, Stream::synthetic, static_cast<uint64_t>(width));
      ImagePart part;
      for (int i = 0; i < 60; ++i) {
        const Region region = drawn(width, height, rng);
        image.decode(DecodeMode::roi, region, 4, part);
        EXPECT_EQ(part.reduction, 1);
        ASSERT_EQ(part.pixels.pixels, crop(whole, region).pixels)
            << kind.name << ", " << width << "x" << height << ": " << region.width << "x" << region.height << " at ("
            << region.left << ", " << region.top << ")";
        ASSERT_EQ(resized_crop(part, region, 20, 30, Interpolation::bicubic).pixels,
                  resized_crop(whole, region, 20, 30, Interpolation::bicubic).pixels);
      }
    }
  }
}

// What is in front of the pixels, and those of a sixteenth of them.
TEST(CropJpeg, MakesASmallerFile) {
  const std::vector<uint8_t> file = encoded({"", JCS_YCbCr, 2, 2, false, 1}, 320, 240);
  std::vector<uint8_t> smaller;
  Region held;
  ASSERT_TRUE(crop_jpeg(file, {100, 90, 60, 40}, 1, smaller, held));
  EXPECT_EQ(held.left, 96);
  EXPECT_EQ(held.top, 80);
  EXPECT_EQ(held.width, 80) << "162, the last pixel that chroma reaches, lies in the unit that ends at 176";
  EXPECT_EQ(held.height, 64);
  EXPECT_LT(smaller.size(), file.size() / 8);
  Image whole, part;
  const std::string name = "photo.jpg";
  EncodedImage(file, name).decode(whole);
  EncodedImage(smaller, name).decode(part);
  EXPECT_EQ(crop(part, {4, 10, 60, 40}).pixels, crop(whole, {100, 90, 60, 40}).pixels);
  EXPECT_FALSE(crop_jpeg(file, {0, 0, 320, 240}, 1, smaller, held)) << "all of it";
}

TEST(CropJpeg, LeavesWhatItCannotCut) {
  const Region region = {20, 20, 30, 30};
  std::vector<uint8_t> smaller;
  Region held;
  const auto cuts = [&](const std::vector<uint8_t>& file) { return crop_jpeg(file, region, 1, smaller, held); };
  std::vector<uint8_t> file = encoded({"", JCS_YCbCr, 2, 2, false, 1}, 128, 96);
  ASSERT_TRUE(cuts(file));
  EXPECT_FALSE(cuts(encoded({"", JCS_YCbCr, 2, 2, false}, 128, 96))) << "no pieces";
  EXPECT_FALSE(cuts(encoded({"", JCS_YCbCr, 2, 2, false, 3}, 128, 96))) << "pieces that end within a row go on";
  EXPECT_FALSE(cuts(encoded({"", JCS_YCbCr, 2, 2, true, 1}, 128, 96))) << "progressive";
  const uint8_t fourth[] = {0xFF, 0xD3};
  const auto marker = std::search(file.begin(), file.end(), fourth, fourth + 2);
  ASSERT_NE(marker, file.end());
  marker[1] = 0xD4;
  EXPECT_FALSE(cuts(file)) << "a marker of another number";
  marker[1] = 0xD3;
  for (size_t length = 0; length < file.size(); length += 1 + length / 40) {
    EXPECT_FALSE(cuts({file.begin(), file.begin() + static_cast<int64_t>(length)})) << length;
  }
  Rng rng(9, Stream::synthetic);
  for (int i = 0; i < 20000; ++i) {  // sanitizers look for accesses out of bounds
    std::vector<uint8_t> spoilt = file;
    for (int64_t k = 0; k <= rng.below(3); ++k) {
      const int64_t reach = rng.below(2) == 0 ? 700 : static_cast<int64_t>(file.size());
      spoilt[static_cast<size_t>(rng.below(reach))] = static_cast<uint8_t>(rng.below(256));
    }
    if (cuts(spoilt)) {
      ASSERT_LE(smaller.size(), spoilt.size());
    }
  }
}

// Mean difference of a reduced image from the means of the pixels that its own stand for, where all of these exist.
double difference_from_means(const Image& whole, const Image& reduced, int64_t reduction) {
  const int64_t width = whole.width / reduction, height = whole.height / reduction;
  double sum = 0;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        double mean = 0;
        for (int64_t k = 0; k < reduction * reduction; ++k) {
          const int64_t row = y * reduction + k / reduction, column = x * reduction + k % reduction;
          mean += whole.pixels[static_cast<size_t>((row * whole.width + column) * 3 + c)];
        }
        mean /= static_cast<double>(reduction * reduction);
        sum += std::fabs(mean - reduced.pixels[static_cast<size_t>((y * reduced.width + x) * 3 + c)]);
      }
    }
  }
  return sum / static_cast<double>(width * height * 3);
}

// A pixel of the reduced image is about the mean of those that it stands for. Chroma that has fewer samples along one
// axis than along the other is reduced along both as the library can, and is then coarser.
TEST(DecodePart, ReducedIsAboutTheMean) {
  const std::string name = "photo.jpg";
  for (const Kind& kind : kKinds) {
    const std::vector<uint8_t> file = encoded(kind, 157, 203);
    const EncodedImage image(file, name);
    Image whole;
    image.decode(whole);
    Rng rng(8, Stream::synthetic);
    for (const int64_t reduction : {2, 4, 8}) {
      ImagePart all, part;
      image.decode(DecodeMode::scaled, {0, 0, 157, 203}, reduction, all);
      ASSERT_EQ(all.pixels.width, (157 + reduction - 1) / reduction);
      ASSERT_EQ(all.pixels.height, (203 + reduction - 1) / reduction);
      EXPECT_LT(difference_from_means(whole, all.pixels, reduction), kind.across == kind.down ? 4 : 40)
          << kind.name << " reduced by " << reduction;
      for (int i = 0; i < 20; ++i) {
        const Region region = drawn(157, 203, rng);
        image.decode(DecodeMode::scaled, region, reduction, part);
        EXPECT_EQ(part.reduction, reduction);
        ASSERT_EQ(part.pixels.pixels,
                  crop(all.pixels, {part.left, part.top, part.pixels.width, part.pixels.height}).pixels)
            << kind.name << " reduced by " << reduction;
        ASSERT_EQ(resized_crop(part, region, 9, 7, Interpolation::bilinear).pixels,
                  resized_crop(all, region, 9, 7, Interpolation::bilinear).pixels);
      }
    }
  }
}

// Of a ramp the places are told by the values: 8 of the whole image's pixels a level.
TEST(DecodePart, RegionsMayEndWithinReducedPixels) {
  ImagePart ramp = {{1, 40, 1, {}}, 160, 4, 0, 0, 4};
  for (int v = 0; v < 40; ++v) ramp.pixels.pixels.push_back(static_cast<uint8_t>(4 * v + 2));
  const Image out = resized_crop(ramp, {6, 0, 60, 4}, 30, 1, Interpolation::bilinear);
  for (int64_t x = 2; x < 28; ++x) EXPECT_NEAR(out.pixels[static_cast<size_t>(x)], 7 + 2 * x, 1) << x;
  expect_error([&] { resized_crop(ramp, {120, 0, 60, 4}, 30, 1, Interpolation::bilinear); }, {"leaves the image"});
}

TEST(DecodePart, WhatIsBrokenIsNamed) {
  const std::string name = "photo.jpg";
  std::vector<uint8_t> file = encoded(kKinds[2], 100, 80);
  ImagePart part;
  expect_error(
      [&] {
        EncodedImage(file, name).decode(DecodeMode::roi, {90, 0, 20, 10}, 1, part);
      },
      {"photo.jpg", "leaves the image of 100x80"});
  const EncodedImage image(file, name);
  const uint8_t scan[] = {0xFF, 0xDA};
  const auto at = std::search(file.begin(), file.end(), scan, scan + 2);
  at[4] = 7;  // components of a scan
  expect_error([&] { image.decode(DecodeMode::roi, {10, 10, 20, 10}, 1, part); }, {"photo.jpg: the image is broken"});
}

class Photos : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string folder : {"train/a", "train/b", "val/a", "val/b"}) {
      std::filesystem::create_directories(dir.path(folder));
      for (int i = 0; i < 8; ++i) {
        const std::vector<uint8_t> file = encoded(kKinds[2], 150 + 11 * i, 190 - 7 * i);
        write_raw(dir.path(folder + "/" + std::to_string(i) + ".jpg"), std::string(file.begin(), file.end()));
      }
    }
    options.batch_size = 8;
    options.augmentation.image_size = 16;
    options.augmentation.flip = 0.5;
    options.sampler.repeats = 3;
  }

  // Two epochs, of all ranks' shares of each batch.
  std::vector<float> images(const std::string& decode, int workers, int64_t ranks) {
    std::vector<float> all;
    options.augmentation.decode = decode;
    options.workers = workers;
    std::vector<std::unique_ptr<TrainLoader>> loaders;
    const DataSource source = open_data("folder:" + dir.root());
    std::vector<int64_t> indices(16);
    std::iota(indices.begin(), indices.end(), 0);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      options.share = {ranks, rank};
      loaders.push_back(std::make_unique<TrainLoader>(source, indices, options));
      loaders.back()->start(0, 0);
    }
    for (int64_t step = 0; step < 2 * loaders[0]->steps_per_epoch(); ++step) {
      for (const auto& loader : loaders) {
        const std::vector<float>& part = loader->next().images;
        all.insert(all.end(), part.begin(), part.end());
      }
    }
    return all;
  }

  TemporaryDirectory dir;
  LoaderOptions options;
};

TEST_F(Photos, TrainingOnPartsIsTrainingOnTheWhole) {
  const std::vector<float> whole = images("full", 1, 1);
  EXPECT_EQ(images("roi", 1, 1), whole);
  EXPECT_EQ(images("roi", 3, 2), whole);
  options.sampler.published = true;  // copies lie on different ranks
  EXPECT_EQ(images("roi", 1, 4), images("full", 1, 4));
}

TEST_F(Photos, ReducedImagesAreTheSameHoweverBatchesAreShared) {
  const std::vector<float> whole = images("full", 1, 1), reduced = images("scaled", 1, 1);
  EXPECT_EQ(images("scaled", 3, 1), reduced);
  EXPECT_EQ(images("scaled", 1, 4), reduced);
  ASSERT_EQ(reduced.size(), whole.size());
  EXPECT_NE(reduced, whole) << "crops of 16 x 16 come from images that are reduced";
  double difference = 0;
  for (size_t i = 0; i < whole.size(); ++i) difference += std::fabs(whole[i] - reduced[i]);
  EXPECT_LT(difference / static_cast<double>(whole.size()), 0.15) << "in deviations of ImageNet's pixels";
}
#endif

}  // namespace
}  // namespace entangle
