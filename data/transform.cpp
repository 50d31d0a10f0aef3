// Images turned, sheared and shifted, as the published recipe's image library computes it: in double, cut off towards
// zero.
//
// A value is found between four of a row, then between four such results of neighbouring rows. A pixel is four bytes
// here, so 16 bytes are the four of a row, and those of four rows are turned over so that each step works on 16 values:
//
//   row 0   p00 p01 p02 p03         v[0] = p00 p10 p20 p30
//   row 1   p10 p11 p12 p13   ->    v[1] = p01 p11 p21 p31    rows[r] = between(v[0][r], v[1][r], v[2][r], v[3][r])
//   ...                             ...
//
// Along one axis (shears, shifts) one of the two steps is left out, and the 16 values are those of four pixels.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "data/image_ops.h"
#include "data/rgb.h"
#include "data/transform_rows.h"
#include "data/vectors.h"
#include "engine/check.h"

namespace entangle {

namespace {

typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint16_t Shorts16 __attribute__((vector_size(32)));
typedef uint32_t Pixels4 __attribute__((vector_size(16)));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef int32_t Ints16 __attribute__((vector_size(64)));
typedef double Doubles8 __attribute__((vector_size(64)));

constexpr int64_t kEdge = 2;  // pixels that are repeated beyond the edges

// Places in the input, for the centres of pixels of an output row at height v.
ENTANGLE_CLONES void find_places(const Affine& m, double v, int32_t width, double* __restrict__ x,
                                 double* __restrict__ y) {
  for (int32_t i = 0; i < width; ++i) {
    const double u = static_cast<double>(i) + 0.5;
    x[i] = m.a * u + m.b * v + m.c;
    y[i] = m.d * u + m.e * v + m.f;
  }
}

// Of places inside of the image.
ENTANGLE_CLONES void split_places(const double* x, const double* y, int32_t count, int32_t stride,
                                  double* __restrict__ right, double* __restrict__ down, int32_t* __restrict__ first) {
  for (int32_t i = 0; i < count; ++i) {
    const double from_x = x[i] - 0.5, from_y = y[i] - 0.5;
    const int32_t left = static_cast<int32_t>(from_x + 1), top = static_cast<int32_t>(from_y + 1);  // one more each
    right[i] = from_x - static_cast<double>(left - 1);
    down[i] = from_y - static_cast<double>(top - 1);
    first[i] = top * stride + left * static_cast<int32_t>(kFour);
  }
}

// The image with four bytes a pixel, edges repeated.
class Padded {
 public:
  explicit Padded(const Image& image)
      : width_(image.width), height_(image.height), stride_((image.width + 2 * kEdge) * kFour) {
    static thread_local std::vector<uint8_t> memory;
    const size_t bytes = static_cast<size_t>((height_ + 2 * kEdge) * stride_ + kFour);
    if (memory.size() < bytes) memory.resize(bytes);
    pixels_ = memory.data();
    for (int64_t y = 0; y < height_; ++y) fill_row(image.pixels.data() + y * width_ * kChannels, row(y));
    for (int64_t i = 1; i <= kEdge; ++i) {
      std::memcpy(row(-i), row(0), static_cast<size_t>(stride_));
      std::memcpy(row(height_ - 1 + i), row(height_ - 1), static_cast<size_t>(stride_));
    }
  }

  const uint8_t* pixels() const { return pixels_; }
  int64_t stride() const { return stride_; }

 private:
  uint8_t* row(int64_t y) const { return pixels_ + (y + kEdge) * stride_; }

  void fill_row(const uint8_t* from, uint8_t* to) const {
    uint8_t* inside = to + kEdge * kFour;
    for (int64_t x = 0; x + 1 < width_; ++x) std::memcpy(inside + x * kFour, from + x * kChannels, kFour);
    std::memcpy(inside + (width_ - 1) * kFour, from + (width_ - 1) * kChannels, kChannels);
    for (int64_t i = 0; i < kEdge; ++i) {
      std::memcpy(to + i * kFour, inside, kFour);
      std::memcpy(inside + (width_ + i) * kFour, inside + (width_ - 1) * kFour, kFour);
    }
  }

  const int64_t width_, height_, stride_;
  uint8_t* pixels_;
};

ENTANGLE_INLINE void turn_over(const Pixels4 (&rows)[4], Ints16 (&v)[4]) {
  const Pixels4 a = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
  const Pixels4 b = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  const Pixels4 c = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  const Pixels4 d = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  const Pixels4 columns[] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                             __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
  for (int k = 0; k < 4; ++k) {
    const Shorts16 wide = __builtin_convertvector(reinterpret_cast<const Bytes16&>(columns[k]), Shorts16);
    v[k] = __builtin_convertvector(wide, Ints16);
  }
}

// Halves of 16 values as double.
struct Halves {
  Doubles8 low, high;
};
ENTANGLE_INLINE void halves_of(const Ints16& v, Halves& to) {
  const Ints8 low = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  const Ints8 high = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  to.low = __builtin_convertvector(low, Doubles8);
  to.high = __builtin_convertvector(high, Doubles8);
}

// Between v[1] (d = 0) and v[2] (d = 1). Differences of bytes are exact.
template <Interpolation kind>
ENTANGLE_INLINE void between_bytes(const Ints16 (&v)[4], const Halves& d, Halves& out) {
  Halves p1, p2, p3, p4;
  halves_of(v[1], p1);
  if (kind == Interpolation::bilinear) {
    halves_of(v[2] - v[1], p2);
    out.low = p1.low + p2.low * d.low;
    out.high = p1.high + p2.high * d.high;
    return;
  }
  halves_of(v[2] - v[0], p2);
  halves_of(2 * (v[0] - v[1]) + v[2] - v[3], p3);
  halves_of(v[1] - v[0] - v[2] + v[3], p4);
  out.low = p1.low + d.low * (p2.low + d.low * (p3.low + d.low * p4.low));
  out.high = p1.high + d.high * (p2.high + d.high * (p3.high + d.high * p4.high));
}

template <Interpolation kind>
ENTANGLE_INLINE void between_rows(const Doubles8 (&v)[4], const Doubles8& d, Doubles8& out) {
  if (kind == Interpolation::bilinear) {
    out = v[1] + (v[2] - v[1]) * d;
    return;
  }
  const Doubles8 p2 = v[2] - v[0], p3 = 2 * (v[0] - v[1]) + v[2] - v[3], p4 = v[1] - v[0] - v[2] + v[3];
  out = v[1] + d * (p2 + d * (p3 + d * p4));
}

// Two pixels, cut off to bytes; a byte more than them is written.
ENTANGLE_INLINE void store_pixels(const Doubles8& value, uint8_t* out) {
  typedef uint8_t Bytes8 __attribute__((vector_size(8)));
  const Ints8 zero = {}, most = zero + 255;
  Ints8 level = __builtin_convertvector(value, Ints8);
  level = level > zero ? level : zero;
  level = level < most ? level : most;
  const Bytes8 bytes = __builtin_convertvector(level, Bytes8);
  uint8_t eight[8];
  std::memcpy(eight, &bytes, sizeof eight);
  std::memcpy(out, eight, kFour);
  std::memcpy(out + kChannels, eight + kFour, kFour);
}

// d[0] for the first pixel's values and d[1] for the second one's.
ENTANGLE_INLINE void of_pixels(const double* d, Doubles8& to) {
  to = Doubles8{d[0], d[0], d[0], d[0], d[1], d[1], d[1], d[1]};
}

// A pixel's four rows, found between columns: out.low has the first two.
template <Interpolation kind>
ENTANGLE_INLINE void between_columns(const uint8_t* first, int64_t stride, double right, Halves& out) {
  Pixels4 rows[4];
  for (int r = 0; r < 4; ++r) std::memcpy(&rows[r], first + r * stride, sizeof rows[r]);
  Ints16 v[4];
  turn_over(rows, v);
  const Doubles8 d = right - Doubles8{};
  between_bytes<kind>(v, {d, d}, out);
}

// Two pixels by both steps.
template <Interpolation kind>
ENTANGLE_INLINE void two_pixels(const uint8_t* in, int64_t stride, const Places& places, int64_t i, uint8_t* out) {
  Halves a, b;
  const size_t at = static_cast<size_t>(i);
  between_columns<kind>(in + places.first[at], stride, places.right[at], a);
  between_columns<kind>(in + places.first[at + 1], stride, places.right[at + 1], b);
  const Doubles8 v[] = {__builtin_shufflevector(a.low, b.low, 0, 1, 2, 3, 8, 9, 10, 11),
                        __builtin_shufflevector(a.low, b.low, 4, 5, 6, 7, 12, 13, 14, 15),
                        __builtin_shufflevector(a.high, b.high, 0, 1, 2, 3, 8, 9, 10, 11),
                        __builtin_shufflevector(a.high, b.high, 4, 5, 6, 7, 12, 13, 14, 15)};
  Doubles8 down = {}, value;
  of_pixels(places.down.data() + at, down);
  between_rows<kind>(v, down, value);
  store_pixels(value, out);
}

// Four pixels by one step, each from four pixels `apart` bytes from one another.
template <Interpolation kind, Steps steps>
ENTANGLE_INLINE void four_pixels(const uint8_t* in, int64_t stride, const Places& places, int64_t i, uint8_t* out) {
  Pixels4 taps[4];
  for (int64_t k = 0; k < kFour; ++k) {
    const uint8_t* first = in + places.first[static_cast<size_t>(i + k)];
    if (steps == Steps::across) {
      std::memcpy(&taps[k], first + stride, sizeof taps[k]);
    } else {
      uint32_t four[4];
      for (int64_t r = 0; r < 4; ++r) std::memcpy(four + r, first + r * stride + kFour, kFour);
      taps[k] = Pixels4{four[0], four[1], four[2], four[3]};
    }
  }
  Ints16 v[4];
  turn_over(taps, v);
  const double* d = (steps == Steps::across ? places.right : places.down).data() + i;
  Halves fraction = {}, value;
  of_pixels(d, fraction.low);
  of_pixels(d + 2, fraction.high);
  between_bytes<kind>(v, fraction, value);
  store_pixels(value.low, out);
  store_pixels(value.high, out + 2 * kChannels);
}

// `count` pixels and up to three more.
template <Interpolation kind, Steps steps>
ENTANGLE_INLINE void pixels_of(const uint8_t* in, int64_t stride, const Places& places, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; i += kFour, out += kFour * kChannels) {
    if (steps == Steps::both) {
      two_pixels<kind>(in, stride, places, i, out);
      two_pixels<kind>(in, stride, places, i + 2, out + 2 * kChannels);
    } else {
      four_pixels<kind, steps>(in, stride, places, i, out);
    }
  }
}

template <Steps steps>
ENTANGLE_INLINE void pixels_of(Interpolation kind, const uint8_t* in, int64_t stride, const Places& places,
                               int64_t count, uint8_t* out) {
  if (kind == Interpolation::bicubic) return pixels_of<Interpolation::bicubic, steps>(in, stride, places, count, out);
  pixels_of<Interpolation::bilinear, steps>(in, stride, places, count, out);
}

ENTANGLE_CLONES void pixels_of(Steps steps, Interpolation kind, const uint8_t* in, int64_t stride, const Places& places,
                               int64_t count, uint8_t* out) {
  if (steps == Steps::both) return pixels_of<Steps::both>(kind, in, stride, places, count, out);
  if (steps == Steps::across) return pixels_of<Steps::across>(kind, in, stride, places, count, out);
  pixels_of<Steps::down>(kind, in, stride, places, count, out);
}

Steps steps_of(const Affine& m) {
  if (m.d == 0 && m.e == 1 && m.f == 0) return Steps::across;
  return m.a == 1 && m.b == 0 && m.c == 0 ? Steps::down : Steps::both;
}

void sample(Steps steps, Interpolation kind, const Padded& in, const Places& places, int64_t count, uint8_t* out) {
#if defined(ENTANGLE_VBMI)
  if (kind == Interpolation::bicubic && has_vbmi()) {
    return bicubic_pixels(steps, in.pixels(), in.stride(), places, count, out);
  }
#endif
  pixels_of(steps, kind, in.pixels(), in.stride(), places, count, out);
}

}  // namespace

void apply_transform(const Affine& affine, Interpolation interpolation, const Colour& fill, Image& image) {
  check_rgb(image);
  const Padded padded(image);
  const int64_t width = image.width, height = image.height;
  const double right = static_cast<double>(width), bottom = static_cast<double>(height);
  Places places(width);
  std::vector<uint8_t> row(static_cast<size_t>((width + kFour) * kChannels + kFour));
  for (int64_t y = 0; y < height; ++y) {
    find_places(affine, static_cast<double>(y) + 0.5, static_cast<int32_t>(width), places.x.data(), places.y.data());
    // Places rise or fall from left to right, so those inside of the image follow one another.
    const auto inside = [&](int64_t i) {
      const double at_x = places.x[static_cast<size_t>(i)], at_y = places.y[static_cast<size_t>(i)];
      return at_x >= 0 && at_y >= 0 && at_x < right && at_y < bottom;
    };
    int64_t first = 0, last = width;
    while (first < last && !inside(first)) ++first;
    while (first < last && !inside(last - 1)) --last;
    const int64_t count = last - first;
    split_places(places.x.data() + first, places.y.data() + first, static_cast<int32_t>(count),
                 static_cast<int32_t>(padded.stride()), places.right.data(), places.down.data(), places.first.data());
    std::fill_n(places.first.begin() + count, kFour, 0);
    sample(steps_of(affine), interpolation, padded, places, count, row.data() + first * kChannels);
    for (int64_t x = 0; x < first; ++x) std::memcpy(row.data() + x * kChannels, fill.data(), kChannels);
    for (int64_t x = last; x < width; ++x) std::memcpy(row.data() + x * kChannels, fill.data(), kChannels);
    std::memcpy(image.pixels.data() + y * width * kChannels, row.data(), static_cast<size_t>(width * kChannels));
  }
}

Image transform(const Image& image, const Affine& affine, Interpolation interpolation, const Colour& fill) {
  Image out = image;
  apply_transform(affine, interpolation, fill, out);
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
