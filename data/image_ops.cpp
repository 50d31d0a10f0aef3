#include "data/image_ops.h"

#include <algorithm>
#include <cmath>

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

double cubic(double v1, double v2, double v3, double v4, double d) {
  const double p2 = -v1 + v3, p3 = 2 * (v1 - v2) + v3 - v4, p4 = -v1 + v2 - v3 + v4;
  return v2 + d * (p2 + d * (p3 + d * p4));
}

// One output pixel from the input around (x, y), which counts from the centre of the first pixel.
class Sampler {
 public:
  Sampler(const Image& image, Interpolation interpolation)
      : image_(image), bicubic_(interpolation == Interpolation::bicubic) {}

  void sample(double x, double y, uint8_t* out) const {
    const double left = std::floor(x), top = std::floor(y);
    const double dx = x - left, dy = y - top;
    const int64_t column = static_cast<int64_t>(left), row = static_cast<int64_t>(top);
    for (int c = 0; c < kChannels; ++c) {
      const double value = bicubic_ ? bicubic(column, row, dx, dy, c) : bilinear(column, row, dx, dy, c);
      out[c] = value <= 0 ? 0 : value >= 255 ? 255 : static_cast<uint8_t>(value);
    }
  }

 private:
  double at(int64_t x, int64_t y, int c) const {
    const int64_t column = std::clamp<int64_t>(x, 0, image_.width - 1),
                  row = std::clamp<int64_t>(y, 0, image_.height - 1);
    return image_.pixels[static_cast<size_t>((row * image_.width + column) * kChannels + c)];
  }
  double bilinear(int64_t x, int64_t y, double dx, double dy, int c) const {
    const double above = at(x, y, c) + (at(x + 1, y, c) - at(x, y, c)) * dx;
    const double below = at(x, y + 1, c) + (at(x + 1, y + 1, c) - at(x, y + 1, c)) * dx;
    return above + (below - above) * dy;
  }
  double cubic_of_row(int64_t x, int64_t y, double dx, int c) const {
    return cubic(at(x - 1, y, c), at(x, y, c), at(x + 1, y, c), at(x + 2, y, c), dx);
  }
  double bicubic(int64_t x, int64_t y, double dx, double dy, int c) const {
    return cubic(cubic_of_row(x, y - 1, dx, c), cubic_of_row(x, y, dx, c), cubic_of_row(x, y + 1, dx, c),
                 cubic_of_row(x, y + 2, dx, c), dy);
  }

  const Image& image_;
  bool bicubic_;
};

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

Image transform(const Image& image, const Affine& m, Interpolation interpolation, const Colour& fill) {
  check_rgb(image);
  const Sampler sampler(image, interpolation);
  Image out = {image.height, image.width, kChannels, {}};
  out.pixels.resize(image.pixels.size());
  uint8_t* to = out.pixels.data();
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x, to += kChannels) {
      const double u = static_cast<double>(x) + 0.5, v = static_cast<double>(y) + 0.5;
      const double from_x = m.a * u + m.b * v + m.c, from_y = m.d * u + m.e * v + m.f;
      const bool inside = from_x >= 0 && from_y >= 0 && from_x < static_cast<double>(image.width) &&
                          from_y < static_cast<double>(image.height);
      if (inside) {
        sampler.sample(from_x - 0.5, from_y - 0.5, to);
      } else {
        std::copy(fill.begin(), fill.end(), to);
      }
    }
  }
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
