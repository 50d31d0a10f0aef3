#include "data/image_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/lookup.h"
#include "data/rgb.h"
#include "data/vectors.h"
#include "engine/check.h"

namespace entangle {

namespace {

using Histogram = std::array<int64_t, 256>;

uint8_t clip(int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

template <class F>
Lookup lookup(F f) {
  Lookup table;
  for (int v = 0; v < 256; ++v) table[static_cast<size_t>(v)] = clip(f(v));
  return table;
}

void map_values(Image& image, const Lookup& table) {
  check_rgb(image);
  look_up(table, static_cast<int64_t>(image.pixels.size()), image.pixels.data());
}

// A table for each channel, from its histogram.
template <class F>
void apply_by_histogram(Image& image, F table_of) {
  check_rgb(image);
  // Neighbours are often equal, and a count waits for the one before: so they count apart.
  constexpr size_t kApart = 4, kTogether = kApart * kChannels;
  std::array<std::array<uint32_t, 256>, kTogether> counts = {};
  const size_t values = image.pixels.size(), even = values / kTogether * kTogether;
  for (size_t i = 0; i < even; i += kTogether) {
    for (size_t k = 0; k < kTogether; ++k) ++counts[k][image.pixels[i + k]];
  }
  for (size_t i = even; i < values; ++i) ++counts[i - even][image.pixels[i]];
  std::array<Histogram, kChannels> histograms = {};
  for (size_t k = 0; k < kTogether; ++k) {
    for (size_t v = 0; v < 256; ++v) histograms[k % kChannels][v] += counts[k][v];
  }
  std::array<Lookup, kChannels> tables;
  for (size_t c = 0; c < kChannels; ++c) tables[c] = table_of(histograms[c]);
  look_up_channels(tables, image.width * image.height, image.pixels.data());
}

Lookup contrast_table(const Histogram& histogram) {
  int low = 0, high = 255;
  while (low < 255 && histogram[static_cast<size_t>(low)] == 0) ++low;
  while (high > 0 && histogram[static_cast<size_t>(high)] == 0) --high;
  if (high <= low) return lookup([](int v) { return v; });
  const double scale = 255.0 / (high - low), offset = -low * scale;
  return lookup([=](int v) { return static_cast<int>(v * scale + offset); });
}

Lookup equalizing_table(const Histogram& histogram) {
  int64_t pixels = 0, last = 0;
  int values = 0;
  for (const int64_t count : histogram) {
    pixels += count;
    if (count > 0) {
      last = count;
      ++values;
    }
  }
  const int64_t step = (pixels - last) / 255;
  if (values <= 1 || step == 0) return lookup([](int v) { return v; });
  int64_t below = step / 2;
  return lookup([&](int v) {
    const int64_t level = below / step;
    below += histogram[static_cast<size_t>(v)];
    return static_cast<int>(level);
  });
}

// ITU-R 601 luma in 16-bit fixed point.
ENTANGLE_INLINE int luma(const uint8_t* pixel) {
  return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}

// In fp32, cut off towards zero: the library's arithmetic.
ENTANGLE_INLINE uint8_t blend(int other, int value, float factor) {
  const float mixed = static_cast<float>(other) + factor * static_cast<float>(value - other);
  const float low = mixed > 0 ? mixed : 0, clipped = low < 255 ? low : 255;
  return static_cast<uint8_t>(static_cast<int>(clipped));
}

// From one value for all: value by value.
void blend_from_value(Image& image, double factor, int from) {
  const float f = static_cast<float>(factor);
  map_values(image, lookup([=](int v) { return blend(from, v, f); }));
}

// Four bytes are read and written at each pixel.
ENTANGLE_INLINE void blend_from_luma(const uint8_t* pixel, float factor, uint8_t* out) {
  Ints4 ints;
  load_pixel(pixel, ints);
  const float grey = static_cast<float>(luma(pixel));
  const Floats4 mixed = grey + factor * (__builtin_convertvector(ints, Floats4) - grey);
  store_pixel(__builtin_convertvector(mixed, Ints4), out);
}

ENTANGLE_CLONES void blend_from_luma(const uint8_t* in, int64_t pixels, float factor, uint8_t* out) {
  for (int64_t i = 0; i < pixels; ++i) blend_from_luma(in + i * kChannels, factor, out + i * kChannels);
}

ENTANGLE_CLONES int64_t sum_of_luma(const uint8_t* pixel, int64_t pixels) {
  int64_t sum = 0;
  for (int64_t i = 0; i < pixels; ++i) sum += luma(pixel + i * kChannels);
  return sum;
}

// Values [first, last) of a row blended from (the eight neighbours + 5 x the pixel) / 13, rounded; rows are `row` values
// apart.
ENTANGLE_CLONES void blend_from_smoothed(const uint8_t* in, int64_t row, int64_t first, int64_t last, float factor,
                                         uint8_t* out) {
  for (int64_t i = first; i < last; ++i) {
    const uint8_t *at = in + i, *above = at - row, *below = at + row;
    const int sum = above[-kChannels] + above[0] + above[kChannels] + at[-kChannels] + 5 * at[0] + at[kChannels] +
                    below[-kChannels] + below[0] + below[kChannels];
    out[i] = blend((2 * sum + 13) / 26, at[0], factor);
  }
}

}  // namespace

void auto_contrast(Image& image) { apply_by_histogram(image, contrast_table); }
void equalize(Image& image) { apply_by_histogram(image, equalizing_table); }
void invert(Image& image) {
  map_values(image, lookup([](int v) { return 255 - v; }));
}

void posterize(Image& image, int bits) {
  CHECK(bits >= 0 && bits <= 8, "an image cannot be posterized to ", bits, " bits");
  map_values(image, lookup([=](int v) { return v & ~((1 << (8 - bits)) - 1); }));
}

void solarize(Image& image, int threshold) {
  map_values(image, lookup([=](int v) { return v < threshold ? v : 255 - v; }));
}

void solarize_add(Image& image, int addend, int threshold) {
  map_values(image, lookup([=](int v) { return v < threshold ? v + addend : v; }));
}

// Four bytes are written at each pixel, from left to right, so that the next one replaces the last of them.
void mirror(Image& image) {
  check_rgb(image);
  const int64_t length = image.width * kChannels;
  std::vector<uint8_t> row(static_cast<size_t>(length + 1));
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* to = image.pixels.data() + y * length;
    std::copy_n(to, length, row.data());
    const uint8_t* from = row.data() + length - kChannels;
    for (int64_t x = 0; x + 1 < image.width; ++x, to += kChannels, from -= kChannels) std::memcpy(to, from, 4);
    std::memcpy(to, from, kChannels);
  }
}

void adjust_colour(Image& image, double factor) {
  const uint8_t* in = copy_with_room(image);
  const int64_t last = image.width * image.height - 1;
  uint8_t pixel[4];
  blend_from_luma(in, last, static_cast<float>(factor), image.pixels.data());
  blend_from_luma(in + last * kChannels, 1, static_cast<float>(factor), pixel);
  std::memcpy(image.pixels.data() + last * kChannels, pixel, kChannels);
}

void adjust_contrast(Image& image, double factor) {
  check_rgb(image);
  const int64_t pixels = image.width * image.height;
  const double mean = static_cast<double>(sum_of_luma(image.pixels.data(), pixels)) / static_cast<double>(pixels);
  blend_from_value(image, factor, static_cast<int>(mean + 0.5));
}

void adjust_brightness(Image& image, double factor) { blend_from_value(image, factor, 0); }

// The outermost pixels are not smoothed, so they stay.
void adjust_sharpness(Image& image, double factor) {
  const uint8_t* in = copy_with_room(image);
  const int64_t row = image.width * kChannels;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    blend_from_smoothed(in + y * row, row, kChannels, row - kChannels, static_cast<float>(factor),
                        image.pixels.data() + y * row);
  }
}

}  // namespace entangle
