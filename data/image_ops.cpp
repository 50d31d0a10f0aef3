#include "data/image_ops.h"

#include <algorithm>
#include <cmath>

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
int luma(const uint8_t* pixel) { return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16; }

// In fp32, cut off towards zero: the library's arithmetic.
uint8_t blend(int other, int value, float factor) {
  const float mixed = static_cast<float>(other) + factor * static_cast<float>(value - other);
  return mixed <= 0 ? 0 : mixed >= 255 ? 255 : static_cast<uint8_t>(mixed);
}

template <class F>
void blend_from(Image& image, double factor, F other) {
  check_rgb(image);
  const float f = static_cast<float>(factor);
  for (size_t i = 0; i < image.pixels.size(); i += kChannels) {
    uint8_t* pixel = image.pixels.data() + i;
    const int from = other(pixel);
    for (int c = 0; c < kChannels; ++c) pixel[c] = blend(from, pixel[c], f);
  }
}

// (the eight neighbours + 5 x the pixel) / 13, rounded; the outermost pixels stay.
Image smoothed(const Image& image) {
  Image out = image;
  const int64_t row = image.width * kChannels;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    for (int64_t i = kChannels; i + kChannels < row; ++i) {
      const uint8_t* at = image.pixels.data() + y * row + i;
      int sum = 4 * at[0];
      for (const int64_t dy : {-row, int64_t{0}, row}) sum += at[dy - kChannels] + at[dy] + at[dy + kChannels];
      out.pixels[static_cast<size_t>(y * row + i)] = static_cast<uint8_t>((2 * sum + 13) / 26);
    }
  }
  return out;
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

// The pixels around a place, column by column and row by row: inside of the image as they lie there.
struct Taps {
  const uint8_t* row[4];
  int64_t column[4];  // in bytes
};

ENTANGLE_INLINE void bicubic_at(const Taps& taps, double dx, double dy, Doubles4& out) {
  Doubles4 rows[4];
  for (int r = 0; r < 4; ++r) {
    Doubles4 v[4];
    for (int c = 0; c < 4; ++c) load_doubles(taps.row[r] + taps.column[c], v[c]);
    cubic(v[0], v[1], v[2], v[3], dx, rows[r]);
  }
  cubic(rows[0], rows[1], rows[2], rows[3], dy, out);
}

ENTANGLE_INLINE void bilinear_at(const Taps& taps, double dx, double dy, Doubles4& out) {
  Doubles4 rows[2];
  for (int r = 0; r < 2; ++r) {
    Doubles4 left, right;
    load_doubles(taps.row[r + 1] + taps.column[1], left);
    load_doubles(taps.row[r + 1] + taps.column[2], right);
    rows[r] = left + (right - left) * dx;
  }
  out = rows[0] + (rows[1] - rows[0]) * dy;
}

// One output pixel from the input around (x, y), which counts from the centre of the first pixel. `pixels` has a byte more
// than the image: four are read at each pixel.
template <Interpolation kind>
ENTANGLE_INLINE void sample(const uint8_t* pixels, int64_t width, int64_t height, double x, double y, uint8_t* out) {
  const int64_t left = static_cast<int64_t>(x + 1) - 1, top = static_cast<int64_t>(y + 1) - 1;  // floors: x, y > -1
  Taps taps;
  for (int64_t i = 0; i < 4; ++i) {
    taps.row[i] = pixels + std::clamp<int64_t>(top + i - 1, 0, height - 1) * width * kChannels;
    taps.column[i] = std::clamp<int64_t>(left + i - 1, 0, width - 1) * kChannels;
  }
  const double dx = x - static_cast<double>(left), dy = y - static_cast<double>(top);
  Doubles4 value;
  if (kind == Interpolation::bicubic) {
    bicubic_at(taps, dx, dy, value);
  } else {
    bilinear_at(taps, dx, dy, value);
  }
  for (int c = 0; c < kChannels; ++c) {
    out[c] = value[c] <= 0 ? 0 : value[c] >= 255 ? 255 : static_cast<uint8_t>(static_cast<int>(value[c]));
  }
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

void mirror(Image& image) {
  check_rgb(image);
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* row = image.pixels.data() + y * image.width * kChannels;
    for (int64_t left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(row + left * kChannels, row + (left + 1) * kChannels, row + right * kChannels);
    }
  }
}

void adjust_colour(Image& image, double factor) { blend_from(image, factor, luma); }

void adjust_contrast(Image& image, double factor) {
  check_rgb(image);
  int64_t sum = 0;
  for (size_t i = 0; i < image.pixels.size(); i += kChannels) sum += luma(image.pixels.data() + i);
  const double mean = static_cast<double>(sum) / static_cast<double>(image.pixels.size() / kChannels);
  const int grey = static_cast<int>(mean + 0.5);
  blend_from(image, factor, [=](const uint8_t*) { return grey; });
}

void adjust_brightness(Image& image, double factor) {
  blend_from(image, factor, [](const uint8_t*) { return 0; });
}

void adjust_sharpness(Image& image, double factor) {
  check_rgb(image);
  const Image smooth = smoothed(image);
  const float f = static_cast<float>(factor);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = blend(smooth.pixels[i], image.pixels[i], f);
}

Image transform(const Image& image, const Affine& affine, Interpolation interpolation, const Colour& fill) {
  check_rgb(image);
  std::vector<uint8_t> pixels = image.pixels;
  pixels.push_back(0);
  Image out = {image.height, image.width, kChannels, {}};
  out.pixels.resize(image.pixels.size());
  transform_pixels(pixels.data(), image.width, image.height, affine, interpolation, fill, out.pixels.data());
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
