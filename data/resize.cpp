#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/vectors.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kLargestSide = 65535;
constexpr int kFractionBits = 22;  // 8 bits of a pixel, and two for what a bicubic filter exceeds it by: 32 in all

double triangle(double x) { return std::max(0.0, 1 - std::fabs(x)); }

double keys_cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// For each output position the first input position under the filter, how many there are, and their weights.
struct Weights {
  int64_t taps;  // of the widest
  std::vector<int32_t> first, count, weight;
};

Weights weights_of(int64_t in, int64_t out, Interpolation interpolation) {
  const bool bilinear = interpolation == Interpolation::bilinear;
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double radius = (bilinear ? 1 : 2) * stretch;
  Weights w;
  w.taps = static_cast<int64_t>(std::ceil(radius)) * 2 + 1;
  w.weight.resize(static_cast<size_t>(out * w.taps));
  std::vector<double> exact(static_cast<size_t>(w.taps));
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - radius + 0.5), 0);
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(centre + radius + 0.5), in) - first;
    double sum = 0;
    for (int64_t t = 0; t < count; ++t) {
      const double x = (static_cast<double>(t + first) - centre + 0.5) / stretch;
      exact[static_cast<size_t>(t)] = bilinear ? triangle(x) : keys_cubic(x);
      sum += exact[static_cast<size_t>(t)];
    }
    for (int64_t t = 0; t < count; ++t) {
      const double fixed = exact[static_cast<size_t>(t)] / sum * (1 << kFractionBits);
      w.weight[static_cast<size_t>(i * w.taps + t)] = static_cast<int32_t>(std::round(fixed));
    }
    w.first.push_back(static_cast<int32_t>(first));
    w.count.push_back(static_cast<int32_t>(count));
  }
  return w;
}

uint8_t to_pixel(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

constexpr int32_t kHalf = 1 << (kFractionBits - 1);

// out[x, c] = sum of weight[x, t] in[first[x] + t, c], for `rows` rows of pixels. Four bytes are read at each pixel, so the
// last pixels of the last row, which end where the memory does, are copied first.
template <int kChannels>
ENTANGLE_INLINE void resize_columns(const uint8_t* in, int64_t rows, int64_t in_width, const Weights& w, int64_t width,
                                    uint8_t* out) {
  const int64_t in_row = in_width * kChannels;
  std::vector<uint8_t> last(in + (rows - 1) * in_row, in + rows * in_row);
  last.resize(last.size() + 4);
  for (int64_t y = 0; y < rows; ++y) {
    const uint8_t* row = y + 1 < rows ? in + y * in_row : last.data();
    for (int64_t x = 0; x < width; ++x) {
      const uint8_t* pixel = row + w.first[static_cast<size_t>(x)] * kChannels;
      const int32_t* weight = w.weight.data() + x * w.taps;
      Ints4 sum = {kHalf, kHalf, kHalf, kHalf}, value;
      for (int32_t t = 0; t < w.count[static_cast<size_t>(x)]; ++t, pixel += kChannels) {
        load_pixel(pixel, value);
        sum += value * weight[t];
      }
      for (int c = 0; c < kChannels; ++c) *out++ = to_pixel(sum[c]);
    }
  }
}

ENTANGLE_CLONES void resize_columns(const Image& image, const Weights& w, int64_t width, uint8_t* out) {
  const uint8_t* in = image.pixels.data();
  if (image.channels == 1) return resize_columns<1>(in, image.height, image.width, w, width, out);
  if (image.channels == 3) return resize_columns<3>(in, image.height, image.width, w, width, out);
  resize_columns<4>(in, image.height, image.width, w, width, out);
}

// out[y, i] = sum of weight[y, t] in[first[y] + t, i], for rows of `length` values.
ENTANGLE_CLONES void resize_rows(const uint8_t* in, const Weights& w, int64_t height, int64_t length, int32_t* sum,
                                 uint8_t* out) {
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t i = 0; i < length; ++i) sum[i] = kHalf;
    const uint8_t* row = in + w.first[static_cast<size_t>(y)] * length;
    for (int32_t t = 0; t < w.count[static_cast<size_t>(y)]; ++t, row += length) {
      const int32_t weight = w.weight[static_cast<size_t>(y * w.taps + t)];
      for (int64_t i = 0; i < length; ++i) sum[i] += weight * row[i];
    }
    for (int64_t i = 0; i < length; ++i) out[y * length + i] = to_pixel(sum[i]);
  }
}

Image resize_columns(const Image& image, int64_t width, Interpolation interpolation) {
  Image out = {image.height, width, image.channels, {}};
  out.pixels.resize(static_cast<size_t>(image.height * width * image.channels));
  resize_columns(image, weights_of(image.width, width, interpolation), width, out.pixels.data());
  return out;
}

Image resize_rows(const Image& image, int64_t height, Interpolation interpolation) {
  const int64_t length = image.width * image.channels;
  Image out = {height, image.width, image.channels, {}};
  out.pixels.resize(static_cast<size_t>(height * length));
  std::vector<int32_t> sum(static_cast<size_t>(length));
  resize_rows(image.pixels.data(), weights_of(image.height, height, interpolation), height, length, sum.data(),
              out.pixels.data());
  return out;
}

void check_whole(const Image& image) {
  const bool sides =
      image.width >= 1 && image.height >= 1 && image.width <= kLargestSide && image.height <= kLargestSide;
  const bool channels = image.channels == 1 || image.channels == 3 || image.channels == 4;
  CHECK(sides && channels && static_cast<int64_t>(image.pixels.size()) == image.width * image.height * image.channels,
        "an image of ", image.width, "x", image.height, " pixels, ", image.channels, " channels and ",
        image.pixels.size(), " values cannot be resized");
}

// Half, to the nearest even number when there are two.
int64_t half_to_even(int64_t n) { return n / 2 + (n % 2 == 1 && n / 2 % 2 == 1 ? 1 : 0); }

}  // namespace

const char* name_of(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? "bilinear" : "bicubic";
}

Interpolation parse_interpolation(const std::string& name) {
  for (const Interpolation known : {Interpolation::bilinear, Interpolation::bicubic}) {
    if (name == name_of(known)) return known;
  }
  RAISE("the interpolation '", name, "' is unknown; use bilinear or bicubic");
}

Image crop(const Image& image, const Region& r) {
  CHECK(r.left >= 0 && r.top >= 0 && r.width >= 1 && r.height >= 1 && r.left + r.width <= image.width &&
            r.top + r.height <= image.height,
        "the region of ", r.width, "x", r.height, " pixels at (", r.left, ", ", r.top, ") leaves the image of ",
        image.width, "x", image.height);
  Image out = {r.height, r.width, image.channels, {}};
  out.pixels.reserve(static_cast<size_t>(r.height * r.width * image.channels));
  for (int64_t y = r.top; y < r.top + r.height; ++y) {
    const uint8_t* row = image.pixels.data() + (y * image.width + r.left) * image.channels;
    out.pixels.insert(out.pixels.end(), row, row + r.width * image.channels);
  }
  return out;
}

Image resize(const Image& image, int64_t width, int64_t height, Interpolation interpolation) {
  check_whole(image);
  CHECK(width >= 1 && height >= 1 && width <= kLargestSide && height <= kLargestSide, "an image cannot be resized to ",
        width, "x", height, " pixels");
  Image out = width == image.width ? image : resize_columns(image, width, interpolation);
  return height == out.height ? out : resize_rows(out, height, interpolation);
}

Image resize_for_evaluation(const Image& image, int64_t size, Interpolation interpolation) {
  check_whole(image);
  CHECK(size >= 1 && size <= kLargestSide / 2, "images cannot be evaluated at ", size, " pixels");
  const int64_t shorter = size * 256 / 224;
  const bool wide = image.width >= image.height;
  const int64_t longer = shorter * std::max(image.width, image.height) / std::min(image.width, image.height);
  const Image resized = resize(image, wide ? longer : shorter, wide ? shorter : longer, interpolation);
  return crop(resized, {half_to_even(resized.width - size), half_to_even(resized.height - size), size, size});
}

}  // namespace entangle
