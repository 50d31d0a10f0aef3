#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/resize_rows.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kLargestSide = 65535;

double triangle(double x) { return std::max(0.0, 1 - std::fabs(x)); }

double keys_cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Of what lies between two places of a row of `in` pixels, [begin, begin + length).
struct Interval {
  int64_t in;
  double begin, length;
  bool whole() const { return begin == 0 && length == static_cast<double>(in); }
};

Weights weights_of(const Interval& part, int64_t out, Interpolation interpolation) {
  const bool bilinear = interpolation == Interpolation::bilinear;
  const double scale = part.length / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double radius = (bilinear ? 1 : 2) * stretch;
  Weights w;
  w.taps = static_cast<int64_t>(std::ceil(radius)) * 2 + 1;
  w.weight.resize(static_cast<size_t>(out * w.taps));
  std::vector<double> exact(static_cast<size_t>(w.taps));
  for (int64_t i = 0; i < out; ++i) {
    const double centre = part.begin + (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - radius + 0.5), 0);
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(centre + radius + 0.5), part.in) - first;
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
    w.most = std::max(w.most, w.count.back());
  }
  return w;
}

uint8_t to_pixel(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

// Rows of pixels in memory, `stride` bytes apart.
struct Rows {
  const uint8_t* first;
  int64_t count, width, stride;
};

// out[x, c] = sum of weight[x, t] in[first[x] + t, c] of one row. Four bytes are read and written at each pixel.
template <int kChannels>
ENTANGLE_INLINE void resize_row(const uint8_t* row, const Weights& w, int64_t width, uint8_t* out) {
  for (int64_t x = 0; x < width; ++x, out += kChannels) {
    const uint8_t* pixel = row + w.first[static_cast<size_t>(x)] * kChannels;
    const int32_t* weight = w.weight.data() + x * w.taps;
    Ints4 sum = {kHalf, kHalf, kHalf, kHalf}, value;
    for (int32_t t = 0; t < w.count[static_cast<size_t>(x)]; ++t, pixel += kChannels) {
      load_pixel(pixel, value);
      sum += value * weight[t];
    }
    store_pixel(sum >> kFractionBits, out);
  }
}

ENTANGLE_CLONES void resize_row(int64_t channels, const uint8_t* row, const Weights& w, int64_t width, uint8_t* out) {
  if (channels == 1) return resize_row<1>(row, w, width, out);
  if (channels == 3) return resize_row<3>(row, w, width, out);
  resize_row<4>(row, w, width, out);
}

#if defined(ENTANGLE_AVX2)
// The same for RGB, four taps at a time: bytes b0..b15 of a row hold pixels p0 p1 p2 p3, of which
//   16-bit lanes  r0 r1 g0 g1 b0 b1 0 0 | r2 r3 g2 g3 b2 b3 0 0
// are multiplied by the weights w0 w1 w0 w1 w0 w1 0 0 | w2 w3 ... and added in pairs. A weight has 24 bits, so it is
// split into 2^11 upper + lower, |upper| < 2^13 and 0 <= lower < 2^11; both sums are exact, and so is what they make
// together.
struct PairedWeights {
  int64_t groups;             // of four taps, of the widest
  std::vector<int16_t> pair;  // for each output position and group 16 upper and 16 lower ones
};

constexpr int kLowerBits = 11;

PairedWeights paired(const Weights& w) {
  const size_t positions = w.first.size();
  PairedWeights p = {(w.taps + 3) / 4, {}};
  p.pair.resize(positions * static_cast<size_t>(p.groups) * 32);
  for (size_t i = 0; i < positions; ++i) {
    for (int32_t t = 0; t < w.count[i]; ++t) {
      const int32_t weight = w.weight[i * static_cast<size_t>(w.taps) + static_cast<size_t>(t)];
      const size_t group = (i * static_cast<size_t>(p.groups) + static_cast<size_t>(t / 4)) * 32;
      for (size_t channel = 0; channel < 3; ++channel) {
        const size_t at = group + static_cast<size_t>(t % 4 / 2 * 8 + t % 2) + 2 * channel;
        p.pair[at] = static_cast<int16_t>(weight >> kLowerBits);
        p.pair[at + 16] = static_cast<int16_t>(weight & ((1 << kLowerBits) - 1));
      }
    }
  }
  return p;
}

// 16 bytes are read from every fourth tap on, four bytes written at each pixel.
ENTANGLE_AVX2 void resize_row_avx2(const uint8_t* row, const Weights& w, const PairedWeights& pairs, int64_t width,
                                   uint8_t* out) {
  const __m256i order = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m256i* pair = reinterpret_cast<const __m256i*>(pairs.pair.data());
  for (int64_t x = 0; x < width; ++x, out += 3, pair += 2 * pairs.groups) {
    const uint8_t* pixel = row + w.first[static_cast<size_t>(x)] * 3;
    const int32_t groups = (w.count[static_cast<size_t>(x)] + 3) / 4;
    __m256i upper = _mm256_setzero_si256(), lower = upper;
    for (int32_t g = 0; g < groups; ++g, pixel += 12) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixel));
      const __m256i values = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), order);
      upper = _mm256_add_epi32(upper, _mm256_madd_epi16(values, _mm256_loadu_si256(pair + 2 * g)));
      lower = _mm256_add_epi32(lower, _mm256_madd_epi16(values, _mm256_loadu_si256(pair + 2 * g + 1)));
    }
    const __m256i both = _mm256_add_epi32(_mm256_slli_epi32(upper, kLowerBits), lower);
    const __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    const __m128i level = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(kHalf)), kFractionBits);
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(level, level), level);
    const int32_t four = _mm_cvtsi128_si32(bytes);
    std::memcpy(out, &four, sizeof four);
  }
}
#endif

// Every row through `one(row, out)`, which reads up to kBeyond bytes behind the row: at the end of the memory a copy.
constexpr int64_t kBeyond = 128;
template <class F>
void each_row(const Rows& in, int64_t channels, int64_t out_stride, uint8_t* out, const F& one) {
  const int64_t bytes = in.width * channels;
  std::vector<uint8_t> copy;
  for (int64_t y = 0; y < in.count; ++y) {
    const uint8_t* row = in.first + y * in.stride;
    if ((in.count - 1 - y) * in.stride < kBeyond) {
      copy.assign(row, row + bytes);
      copy.resize(static_cast<size_t>(bytes + kBeyond));
      row = copy.data();
    }
    one(row, out + y * out_stride);
  }
}

// `out` has room for a few bytes behind its last pixel.
void resize_columns(const Rows& in, int64_t channels, const Weights& w, int64_t width, uint8_t* out) {
#if defined(ENTANGLE_AVX2)
  static_assert(kBeyond >= WideRow::kBeyond);
  if (channels == 3 && has_vbmi() && WideRow::serves(w)) {
    const WideRow wide(w);
    return each_row(in, channels, width * channels, out, [&](const uint8_t* row, uint8_t* to) { wide.run(row, to); });
  }
  if (channels == 3 && has_avx2()) {
    const PairedWeights pairs = paired(w);
    return each_row(in, channels, width * channels, out,
                    [&](const uint8_t* row, uint8_t* to) { resize_row_avx2(row, w, pairs, width, to); });
  }
#endif
  each_row(in, channels, width * channels, out,
           [&](const uint8_t* row, uint8_t* to) { resize_row(channels, row, w, width, to); });
}

// out[i] = sum of weight[t] rows[t * stride + i], for values [first, length), in pieces whose sums stay in registers.
ENTANGLE_CLONES void resize_columns_of(const uint8_t* rows, int64_t stride, const int32_t* weight, int32_t count,
                                       int64_t first, int64_t length, uint8_t* out) {
  constexpr int64_t kPiece = 32;
  int64_t i = first;
  for (; i + kPiece <= length; i += kPiece) {
    int32_t sum[kPiece];
    for (int64_t k = 0; k < kPiece; ++k) sum[k] = kHalf;
    for (int32_t t = 0; t < count; ++t) {
      const uint8_t* row = rows + t * stride + i;
      for (int64_t k = 0; k < kPiece; ++k) sum[k] += weight[t] * row[k];
    }
    for (int64_t k = 0; k < kPiece; ++k) out[i + k] = to_pixel(sum[k]);
  }
  for (; i < length; ++i) {
    int32_t sum = kHalf;
    for (int32_t t = 0; t < count; ++t) sum += weight[t] * rows[t * stride + i];
    out[i] = to_pixel(sum);
  }
}

// Row y from the rows under its filter, for rows of `length` values.
void resize_rows(const uint8_t* in, int64_t stride, const Weights& w, int64_t height, int64_t length, uint8_t* out) {
#if defined(ENTANGLE_VBMI)
  const bool wide = has_vbmi() && serves_wide_columns(w);
#endif
  for (int64_t y = 0; y < height; ++y, out += length) {
    const size_t at = static_cast<size_t>(y);
    const uint8_t* rows = in + w.first[at] * stride;
    const int32_t* weight = w.weight.data() + y * w.taps;
    int64_t done = 0;
#if defined(ENTANGLE_VBMI)
    if (wide) {
      resize_columns_wide(rows, stride, weight, w.count[at], length, out);
      done = length / 64 * 64;
    }
#endif
    resize_columns_of(rows, stride, weight, w.count[at], done, length, out);
  }
}

void check_whole(const Image& image) {
  const bool sides =
      image.width >= 1 && image.height >= 1 && image.width <= kLargestSide && image.height <= kLargestSide;
  const bool channels = image.channels == 1 || image.channels == 3 || image.channels == 4;
  CHECK(sides && channels && static_cast<int64_t>(image.pixels.size()) == image.width * image.height * image.channels,
        "an image of ", image.width, "x", image.height, " pixels, ", image.channels, " channels and ",
        image.pixels.size(), " values cannot be resized");
}

void check_inside(const Image& image, const Region& r) {
  CHECK(r.left >= 0 && r.top >= 0 && r.width >= 1 && r.height >= 1 && r.left + r.width <= image.width &&
            r.top + r.height <= image.height,
        "the region of ", r.width, "x", r.height, " pixels at (", r.left, ", ", r.top, ") leaves the image of ",
        image.width, "x", image.height);
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
  check_inside(image, r);
  Image out = {r.height, r.width, image.channels, {}};
  out.pixels.reserve(static_cast<size_t>(r.height * r.width * image.channels));
  for (int64_t y = r.top; y < r.top + r.height; ++y) {
    const uint8_t* row = image.pixels.data() + (y * image.width + r.left) * image.channels;
    out.pixels.insert(out.pixels.end(), row, row + r.width * image.channels);
  }
  return out;
}

Image resize(const Image& image, int64_t width, int64_t height, Interpolation interpolation) {
  return resized_crop(image, {0, 0, image.width, image.height}, width, height, interpolation);
}

namespace {

// Rows under `across` and `down` to width x height.
Image resized(Rows rows, int64_t channels, const Interval& across, const Interval& down, int64_t width, int64_t height,
              Interpolation interpolation) {
  CHECK(width >= 1 && height >= 1 && width <= kLargestSide && height <= kLargestSide, "an image cannot be resized to ",
        width, "x", height, " pixels");
  static thread_local std::vector<uint8_t> narrow;
  if (width != rows.width || !across.whole()) {
    narrow.resize(static_cast<size_t>(rows.count * width * channels + kBeyond));
    resize_columns(rows, channels, weights_of(across, width, interpolation), width, narrow.data());
    rows = {narrow.data(), rows.count, width, width * channels};
  }
  Image out = {height, width, channels, {}};
  out.pixels.resize(static_cast<size_t>(height * width * channels));
  if (height != rows.count || !down.whole()) {
    resize_rows(rows.first, rows.stride, weights_of(down, height, interpolation), height, width * channels,
                out.pixels.data());
  } else {
    for (int64_t y = 0; y < height; ++y) {
      std::copy_n(rows.first + y * rows.stride, width * channels, out.pixels.data() + y * width * channels);
    }
  }
  return out;
}

// The pixels that the places [begin, begin + length) of the whole image lie in, once it is reduced, and where in them.
Interval reduced(int64_t begin, int64_t length, int64_t reduction, int64_t& first) {
  first = begin / reduction;
  const int64_t end = (begin + length + reduction - 1) / reduction;
  const double by = static_cast<double>(reduction);
  return {end - first, static_cast<double>(begin) / by - static_cast<double>(first), static_cast<double>(length) / by};
}

}  // namespace

Image resized_crop(const Image& image, const Region& region, int64_t width, int64_t height,
                   Interpolation interpolation) {
  check_whole(image);
  check_inside(image, region);
  const int64_t stride = image.width * image.channels;
  const uint8_t* first = image.pixels.data() + region.top * stride + region.left * image.channels;
  const auto all = [](int64_t pixels) { return Interval{pixels, 0, static_cast<double>(pixels)}; };
  return resized({first, region.height, region.width, stride}, image.channels, all(region.width), all(region.height),
                 width, height, interpolation);
}

Image resized_crop(const ImagePart& part, const Region& region, int64_t width, int64_t height,
                   Interpolation interpolation) {
  check_whole(part.pixels);
  CHECK(part.reduction >= 1 && region.width >= 1 && region.height >= 1, "a region of ", region.width, "x",
        region.height, " pixels of an image reduced by ", part.reduction, " cannot be resized");
  int64_t left = 0, top = 0;
  const Interval across = reduced(region.left, region.width, part.reduction, left);
  const Interval down = reduced(region.top, region.height, part.reduction, top);
  check_inside(part.pixels, {left - part.left, top - part.top, across.in, down.in});
  const int64_t channels = part.pixels.channels, stride = part.pixels.width * channels;
  const uint8_t* first = part.pixels.pixels.data() + (top - part.top) * stride + (left - part.left) * channels;
  return resized({first, down.in, across.in, stride}, channels, across, down, width, height, interpolation);
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
