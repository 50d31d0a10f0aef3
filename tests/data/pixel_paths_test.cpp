// Tables, transforms, filters and placing on every instruction set against plain loops.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/augment.h"
#include "data/image_ops.h"
#include "data/lookup.h"
#include "data/resize.h"
#include "engine/rng.h"
#include "tests/every_path.h"

namespace entangle {
namespace {

constexpr uint8_t kGuard = 201;

// Extremes overshoot in a filter, so there are many.
std::vector<uint8_t> bytes_of(int64_t count, Rng& rng) {
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < count; ++i) {
    bytes.push_back(static_cast<uint8_t>(rng.below(3) == 0 ? 255 * rng.below(2) : rng.below(256)));
  }
  return bytes;
}

Image image_of(int64_t width, int64_t height, Rng& rng) {
  return {height, width, 3, bytes_of(width * height * 3, rng)};
}

TEST(Lookups, TakeEachValueFromItsTable) {
  Rng rng(1, Stream::synthetic);
  std::array<Lookup, 3> tables;
  std::vector<float> floats;
  for (size_t v = 0; v < 256; ++v) {
    for (Lookup& table : tables) table[v] = static_cast<uint8_t>(rng.below(256));
    floats.push_back(static_cast<float>(rng.uniform(-3, 3)));
  }
  const FloatLookup of_floats(floats.data());
  on_every_path([&] {
    for (int64_t pixels = 0; pixels < 150; ++pixels) {
      std::vector<uint8_t> values = bytes_of(3 * pixels + 1, rng), one = values, three = values;
      std::vector<float> out(values.size(), 99.0f);
      look_up(tables[0], 3 * pixels, one.data());
      look_up_channels(tables, pixels, three.data());
      of_floats.apply(3 * pixels, values.data(), out.data());
      for (size_t i = 0; i + 1 < values.size(); ++i) {
        ASSERT_EQ(one[i], tables[0][values[i]]) << i << " of " << pixels;
        ASSERT_EQ(three[i], tables[i % 3][values[i]]) << i << " of " << pixels;
        ASSERT_EQ(out[i], floats[values[i]]) << i << " of " << pixels;
      }
      ASSERT_TRUE(one.back() == values.back() && three.back() == values.back() && out.back() == 99.0f);
    }
  });
}

TEST(Lookups, ChannelsAreSplitAndMirrored) {
  Rng rng(2, Stream::synthetic);
  on_every_path([&] {
    for (int64_t pixels = 1; pixels < 150; ++pixels) {
      const std::vector<uint8_t> row = bytes_of(3 * pixels, rng);
      for (const bool mirrored : {false, true}) {
        std::vector<uint8_t> planes(row.size() + 1, kGuard);
        split_channels(row.data(), pixels, mirrored, planes.data());
        for (int64_t i = 0; i < 3 * pixels; ++i) {
          const int64_t x = mirrored ? pixels - 1 - i % pixels : i % pixels;
          ASSERT_EQ(planes[static_cast<size_t>(i)], row[static_cast<size_t>(3 * x + i / pixels)]) << pixels;
        }
        ASSERT_EQ(planes.back(), kGuard);
      }
    }
  });
}

double between(const double* v, double d, Interpolation kind) {
  if (kind == Interpolation::bilinear) return v[1] + (v[2] - v[1]) * d;
  const double p2 = v[2] - v[0], p3 = 2 * (v[0] - v[1]) + v[2] - v[3], p4 = v[1] - v[0] - v[2] + v[3];
  return v[1] + d * (p2 + d * (p3 + d * p4));
}

// As Pillow's Geometry.c has it: rows first, then between their results, cut off towards zero.
Image transformed(const Image& in, const Affine& m, Interpolation kind, const Colour& fill) {
  Image out = in;
  for (int64_t i = 0; i < in.width * in.height * 3; ++i) {
    const double u = static_cast<double>(i / 3 % in.width) + 0.5, v = static_cast<double>(i / 3 / in.width) + 0.5;
    const double x = m.a * u + m.b * v + m.c, y = m.d * u + m.e * v + m.f;
    const size_t c = static_cast<size_t>(i % 3);
    uint8_t& to = out.pixels[static_cast<size_t>(i)];
    to = fill[c];
    if (x < 0 || y < 0 || x >= static_cast<double>(in.width) || y >= static_cast<double>(in.height)) continue;
    const int64_t left = static_cast<int64_t>(std::floor(x - 0.5)), top = static_cast<int64_t>(std::floor(y - 0.5));
    double rows[4];
    for (int64_t r = 0; r < 4; ++r) {
      double taps[4];
      for (int64_t k = 0; k < 4; ++k) {
        const int64_t row = std::clamp<int64_t>(top - 1 + r, 0, in.height - 1);
        const int64_t column = std::clamp<int64_t>(left - 1 + k, 0, in.width - 1);
        taps[k] = in.pixels[static_cast<size_t>((row * in.width + column) * 3) + c];
      }
      rows[r] = between(taps, x - 0.5 - static_cast<double>(left), kind);
    }
    const double value = between(rows, y - 0.5 - static_cast<double>(top), kind);
    to = static_cast<uint8_t>(value <= 0 ? 0 : value >= 255 ? 255 : static_cast<int>(value));
  }
  return out;
}

TEST(Transforms, EqualTheDefinitionOnEveryPath) {
  on_every_path([] {
    Rng rng(3, Stream::synthetic);
    for (int i = 0; i < 120; ++i) {
      const Image image = image_of(1 + rng.below(70), 1 + rng.below(40), rng);
      const double width = static_cast<double>(image.width), height = static_cast<double>(image.height);
      const Affine all[] = {rotation(rng.uniform(-40, 40), image.width, image.height),
                            shear_x(rng.uniform(-0.4, 0.4)),
                            shear_y(rng.uniform(-0.4, 0.4)),
                            translation(rng.uniform(-width, width), 0),
                            translation(0, rng.uniform(-height, height)),
                            translation(static_cast<double>(rng.below(5)), static_cast<double>(rng.below(5))),
                            {rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(0, width), rng.uniform(-2, 2),
                             rng.uniform(-2, 2), rng.uniform(0, height)}};
      const Interpolation kind = i % 3 == 0 ? Interpolation::bilinear : Interpolation::bicubic;
      for (size_t k = 0; k < sizeof all / sizeof *all; ++k) {
        ASSERT_EQ(transform(image, all[k], kind, {7, 8, 9}).pixels, transformed(image, all[k], kind, {7, 8, 9}).pixels)
            << image.width << "x" << image.height << ", transform " << k;
      }
    }
  });
}

double filter(double x, Interpolation kind) {
  x = std::fabs(x);
  if (kind == Interpolation::bilinear) return x < 1 ? 1 - x : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// One line of `in` values, `step` apart, to `out` of them: as Pillow's Resample.c has it.
void filtered(const uint8_t* from, int64_t in, int64_t step, int64_t out, Interpolation kind, uint8_t* to,
              int64_t to_step) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double radius = (kind == Interpolation::bilinear ? 1 : 2) * stretch;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - radius + 0.5), 0);
    const int64_t last = std::min<int64_t>(static_cast<int64_t>(centre + radius + 0.5), in);
    std::vector<double> weights;
    double sum = 0;
    for (int64_t t = first; t < last; ++t) {
      weights.push_back(filter((static_cast<double>(t) - centre + 0.5) / stretch, kind));
      sum += weights.back();
    }
    int64_t value = 1 << 21;
    for (int64_t t = first; t < last; ++t) {
      value += std::llround(weights[static_cast<size_t>(t - first)] / sum * (1 << 22)) * from[t * step];
    }
    to[i * to_step] = static_cast<uint8_t>(std::clamp<int64_t>(value >> 22, 0, 255));
  }
}

Image filtered(const Image& in, int64_t width, int64_t height, Interpolation kind) {
  Image narrow = {in.height, width, 3, std::vector<uint8_t>(static_cast<size_t>(in.height * width * 3))};
  Image out = {height, width, 3, std::vector<uint8_t>(static_cast<size_t>(height * width * 3))};
  for (int64_t y = 0; y < in.height; ++y) {
    for (int64_t c = 0; c < 3; ++c) {
      filtered(&in.pixels[static_cast<size_t>(y * in.width * 3 + c)], in.width, 3, width, kind,
               &narrow.pixels[static_cast<size_t>(y * width * 3 + c)], 3);
    }
  }
  for (int64_t x = 0; x < width * 3; ++x) {
    filtered(&narrow.pixels[static_cast<size_t>(x)], in.height, width * 3, height, kind,
             &out.pixels[static_cast<size_t>(x)], width * 3);
  }
  return out;
}

TEST(Resizing, EqualsTheDefinitionOnEveryPath) {
  on_every_path([] {
    Rng rng(4, Stream::synthetic);
    for (int i = 0; i < 150; ++i) {
      const int64_t most = i % 10 == 0 ? 600 : 90;  // far apart are the taps of large reductions
      const Image image = image_of(1 + rng.below(most), 1 + rng.below(60), rng);
      const int64_t width = 1 + rng.below(70), height = 1 + rng.below(70);
      const Interpolation kind = i % 2 == 0 ? Interpolation::bicubic : Interpolation::bilinear;
      ASSERT_EQ(resize(image, width, height, kind).pixels, filtered(image, width, height, kind).pixels)
          << image.width << "x" << image.height << " to " << width << "x" << height;
    }
  });
}

TEST(Augment, APairIsTwoImagesThatAreMixed) {
  const Normalizer normalizer({0.4f, 0.5f, 0.6f}, {0.2f, 0.3f, 0.4f});
  Augmentation augmentation;
  augmentation.erase = 0.7;
  augmentation.flip = 0.5;
  on_every_path([&] {
    for (int64_t i = 0; i < 60; ++i) {
      const int64_t size = augmentation.image_size = 2 + i, values = 3 * size * size;
      augmentation.crop_padding = i % 3 == 0 ? 1 : 0;
      Rng rng(5, Stream::augmentation, static_cast<uint64_t>(i));
      const Image images[] = {image_of(size, size, rng), image_of(size, size, rng)};
      ImagePlan plans[] = {draw_plan(augmentation, 3, rng), draw_plan(augmentation, 3, rng)};
      if (i % 4 != 0) plans[0].mix = cutmix_box(rng.uniform(), rng.below(size), rng.below(size), size);
      if (i % 2 == 0) plans[1].mix = {rng.uniform(), {}};
      std::vector<float> want(static_cast<size_t>(2 * values)), got(want.size() + 1, 99.0f);
      for (int64_t k = 0; k < 2; ++k) {
        augment_image(images[k], plans[k], EraseMode::pixel, rng.key, normalizer, size, want.data() + k * values);
      }
      mix_images({plans[0].mix, plans[1].mix}, 3, size, want.data());
      augment_pair({&images[0], &plans[0], got.data()}, {&images[1], &plans[1], got.data() + values}, EraseMode::pixel,
                   rng.key, normalizer, size);
      ASSERT_EQ(got.back(), 99.0f);
      got.pop_back();
      ASSERT_EQ(got, want) << size;
    }
  });
}

}  // namespace
}  // namespace entangle
