#include "data/image_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/vectors.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr int kChannels = 3;

using Histogram = std::array<int64_t, 256>;
using Lookup = std::array<uint8_t, 256>;

void check_rgb(const Image& image) {
  CHECK(image.channels == kChannels && image.width >= 1 && image.height >= 1 &&
            static_cast<int64_t>(image.pixels.size()) == image.width * image.height * kChannels,
        "an image of ", image.width, "x", image.height, " pixels and ", image.channels,
        " channels is no RGB image; convert it first");
}

// A byte more than the image: four are read at each pixel.
std::vector<uint8_t> with_room(const Image& image) {
  std::vector<uint8_t> pixels;
  pixels.reserve(image.pixels.size() + 1);
  pixels = image.pixels;
  pixels.push_back(0);
  return pixels;
}

uint8_t clip(int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

template <class F>
Lookup lookup(F f) {
  Lookup table;
  for (int v = 0; v < 256; ++v) table[static_cast<size_t>(v)] = clip(f(v));
  return table;
}

void map_values(Image& image, const Lookup& table) {
  check_rgb(image);
  for (uint8_t& v : image.pixels) v = table[v];
}

// A table for each channel, from its histogram.
template <class F>
void apply_by_histogram(Image& image, F table_of) {
  check_rgb(image);
  std::array<Histogram, kChannels> histograms = {};
  for (size_t i = 0; i < image.pixels.size(); i += kChannels) {
    for (size_t c = 0; c < kChannels; ++c) ++histograms[c][image.pixels[i + c]];
  }
  std::array<Lookup, kChannels> tables;
  for (size_t c = 0; c < kChannels; ++c) tables[c] = table_of(histograms[c]);
  for (size_t i = 0; i < image.pixels.size(); i += kChannels) {
    for (size_t c = 0; c < kChannels; ++c) image.pixels[i + c] = tables[c][image.pixels[i + c]];
  }
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

// Between v2 (d = 0) and v3 (d = 1).
template <class T>
ENTANGLE_INLINE void cubic(const T& v1, const T& v2, const T& v3, const T& v4, double d, T& out) {
  const T p2 = v3 - v1, p3 = 2 * (v1 - v2) + v3 - v4, p4 = v2 - v1 - v3 + v4;
  out = v2 + d * (p2 + d * (p3 + d * p4));
}

ENTANGLE_INLINE void load_doubles(const uint8_t* pixel, Doubles4& to) {
  Ints4 ints;
  load_pixel(pixel, ints);
  to = __builtin_convertvector(ints, Doubles4);
}

// The pixels around a place, column by column and row by row, beyond the edges those of the edge. Places on a row of
// pixels (dy = 0) or on a column (dx = 0) need no other: all those of a translation along an axis and of a shear.
struct Taps {
  const uint8_t* row[4];
  int64_t column[4];  // in bytes
  double dx, dy;
};

ENTANGLE_INLINE void bicubic_row(const Taps& taps, const uint8_t* row, Doubles4& out) {
  if (taps.dx == 0) return load_doubles(row + taps.column[1], out);
  Doubles4 v[4];
  for (int c = 0; c < 4; ++c) load_doubles(row + taps.column[c], v[c]);
  cubic(v[0], v[1], v[2], v[3], taps.dx, out);
}

ENTANGLE_INLINE void bicubic_at(const Taps& taps, Doubles4& out) {
  if (taps.dy == 0) return bicubic_row(taps, taps.row[1], out);
  Doubles4 rows[4];
  for (int r = 0; r < 4; ++r) bicubic_row(taps, taps.row[r], rows[r]);
  cubic(rows[0], rows[1], rows[2], rows[3], taps.dy, out);
}

ENTANGLE_INLINE void bilinear_at(const Taps& taps, Doubles4& out) {
  Doubles4 rows[2];
  for (int r = 0; r < 2; ++r) {
    Doubles4 left, right;
    load_doubles(taps.row[r + 1] + taps.column[1], left);
    load_doubles(taps.row[r + 1] + taps.column[2], right);
    rows[r] = left + (right - left) * taps.dx;
  }
  out = rows[0] + (rows[1] - rows[0]) * taps.dy;
}

ENTANGLE_INLINE int64_t within(int64_t i, int64_t count) { return i < 0 ? 0 : i < count ? i : count - 1; }

ENTANGLE_INLINE void find_taps(const uint8_t* pixels, int64_t width, int64_t height, double x, double y, Taps& taps) {
  const int64_t left = static_cast<int64_t>(x + 1) - 1, top = static_cast<int64_t>(y + 1) - 1;  // floors: x, y > -1
  taps.dx = x - static_cast<double>(left);
  taps.dy = y - static_cast<double>(top);
  if (left >= 1 && top >= 1 && left + 2 < width && top + 2 < height) {
    const uint8_t* first = pixels + (top - 1) * width * kChannels;
    for (int64_t i = 0; i < 4; ++i) taps.row[i] = first + i * width * kChannels;
    for (int64_t i = 0; i < 4; ++i) taps.column[i] = (left + i - 1) * kChannels;
    return;
  }
  for (int64_t i = 0; i < 4; ++i) {
    taps.row[i] = pixels + within(top + i - 1, height) * width * kChannels;
    taps.column[i] = within(left + i - 1, width) * kChannels;
  }
}

// One output pixel from the input around (x, y), which counts from the centre of the first pixel. Both `pixels` and `out`
// have a byte more than the image: four are read and written at each pixel.
template <Interpolation kind>
ENTANGLE_INLINE void sample(const uint8_t* pixels, int64_t width, int64_t height, double x, double y, uint8_t* out) {
  Taps taps;
  find_taps(pixels, width, height, x, y, taps);
  Doubles4 value;
  if (kind == Interpolation::bicubic) {
    bicubic_at(taps, value);
  } else {
    bilinear_at(taps, value);
  }
  store_pixel(__builtin_convertvector(value, Ints4), out);
}

template <Interpolation kind>
ENTANGLE_INLINE void transform_pixels(const uint8_t* pixels, int64_t width, int64_t height, const Affine& m,
                                      const Colour& fill, uint8_t* to) {
  const double right = static_cast<double>(width), bottom = static_cast<double>(height);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x, to += kChannels) {
      const double u = static_cast<double>(x) + 0.5, v = static_cast<double>(y) + 0.5;
      const double from_x = m.a * u + m.b * v + m.c, from_y = m.d * u + m.e * v + m.f;
      if (from_x >= 0 && from_y >= 0 && from_x < right && from_y < bottom) {
        sample<kind>(pixels, width, height, from_x - 0.5, from_y - 0.5, to);
      } else {
        for (int c = 0; c < kChannels; ++c) to[c] = fill[static_cast<size_t>(c)];
      }
    }
  }
}

ENTANGLE_CLONES void transform_pixels(const uint8_t* pixels, int64_t width, int64_t height, const Affine& m,
                                      Interpolation interpolation, const Colour& fill, uint8_t* to) {
  if (interpolation == Interpolation::bicubic) {
    transform_pixels<Interpolation::bicubic>(pixels, width, height, m, fill, to);
  } else {
    transform_pixels<Interpolation::bilinear>(pixels, width, height, m, fill, to);
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
  check_rgb(image);
  const std::vector<uint8_t> in = with_room(image);
  image.pixels.push_back(0);
  blend_from_luma(in.data(), image.width * image.height, static_cast<float>(factor), image.pixels.data());
  image.pixels.pop_back();
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
  check_rgb(image);
  const std::vector<uint8_t> in = image.pixels;
  const int64_t row = image.width * kChannels;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    blend_from_smoothed(in.data() + y * row, row, kChannels, row - kChannels, static_cast<float>(factor),
                        image.pixels.data() + y * row);
  }
}

Image transform(const Image& image, const Affine& affine, Interpolation interpolation, const Colour& fill) {
  check_rgb(image);
  const std::vector<uint8_t> pixels = with_room(image);
  Image out = {image.height, image.width, kChannels, {}};
  out.pixels.resize(image.pixels.size() + 1);
  transform_pixels(pixels.data(), image.width, image.height, affine, interpolation, fill, out.pixels.data());
  out.pixels.pop_back();
  return out;
}

Affine rotation(double degrees, int64_t width, int64_t height) {
  const double angle = -degrees * 3.14159265358979323846 / 180, cosine = std::cos(angle), sine = std::sin(angle);
  const double x = static_cast<double>(width) / 2, y = static_cast<double>(height) / 2;
  return {cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y};
}

Affine shear_x(double factor) { return {1, factor, 0, 0, 1, 0}; }
Affine shear_y(double factor) { return {1, 0, 0, factor, 1, 0}; }
Affine translation(double right, double down) { return {1, 0, right, 0, 1, down}; }

}  // namespace entangle
