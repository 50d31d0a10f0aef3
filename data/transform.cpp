// Images turned, sheared and shifted, as the published recipe's image library computes it: in double, cut off towards
// zero.
//
// Along one axis (shears, shifts) a row is made from runs of pixels: those whose neighbours lie equally far in memory.
// The four values between which one is found are then four rows of bytes, and the compiler makes vectors of it. Each
// value is computed as by `sample`, so that both give the same bits.
#include <cmath>
#include <cstring>
#include <vector>

#include "data/image_ops.h"
#include "data/rgb.h"
#include "data/vectors.h"
#include "engine/check.h"

namespace entangle {

namespace {

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

// One output pixel from the input around (x, y), which counts from the centre of the first pixel. Both `pixels` and
// `out` have a byte more than the image: four are read and written at each pixel.
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

// For the pixels of a row of the output where they lie along the axis: the pixel before the place, `start`, and the
// `fraction` of the way to the next one, for each channel.
struct Places {
  std::vector<double> place, one, fraction;
  std::vector<int32_t> start;
};

// place(x) = slope (x + 1/2) + at + offset, in this order.
ENTANGLE_CLONES void find_places(double slope, double at, double offset, int32_t width, double* place) {
  for (int32_t x = 0; x < width; ++x) place[x] = slope * (static_cast<double>(x) + 0.5) + at + offset;
}

// Of places that are not negative. `step` times its own number is taken off each start.
ENTANGLE_CLONES void split_places(const double* place, int32_t first, int32_t last, int32_t step, int32_t* start,
                                  double* one) {
  for (int32_t x = first; x < last; ++x) {
    const double from = place[x] - 0.5;
    const int32_t before = static_cast<int32_t>(from + 1) - 1;  // floors: from > -1
    one[x] = from - static_cast<double>(before);
    start[x] = before - step * x;
  }
}

// Between v[1] (d = 0) and v[2] (d = 1), `count` values; differences of bytes are exact.
template <Interpolation kind>
ENTANGLE_INLINE void blend_run(const uint8_t* const v[4], const double* d, int64_t count, uint8_t* out) {
  const uint8_t *v1 = v[0], *v2 = v[1], *v3 = v[2], *v4 = v[3];
  for (int64_t i = 0; i < count; ++i) {
    double value;
    if (kind == Interpolation::bicubic) {
      const int p2 = v3[i] - v1[i], p3 = 2 * (v1[i] - v2[i]) + v3[i] - v4[i], p4 = v2[i] - v1[i] - v3[i] + v4[i];
      value = v2[i] + d[i] * (p2 + d[i] * (p3 + d[i] * p4));
    } else {
      value = v2[i] + static_cast<double>(v3[i] - v2[i]) * d[i];
    }
    const int level = static_cast<int>(value);
    out[i] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
  }
}

ENTANGLE_CLONES void blend_run(const uint8_t* const v[4], Interpolation kind, const double* d, int64_t count,
                               uint8_t* __restrict__ out) {
  if (kind == Interpolation::bicubic) return blend_run<Interpolation::bicubic>(v, d, count, out);
  blend_run<Interpolation::bilinear>(v, d, count, out);
}

// The row's pixels with the outermost ones repeated twice on both sides.
void pad_row(const uint8_t* row, int64_t width, uint8_t* to) {
  std::memcpy(to + 2 * kChannels, row, static_cast<size_t>(width * kChannels));
  for (int side = 0; side < 2; ++side) {
    std::memcpy(to + side * kChannels, row, kChannels);
    std::memcpy(to + (width + 2 + side) * kChannels, row + (width - 1) * kChannels, kChannels);
  }
}

// Along one axis: a = e = 1, and of the others only those of x or only those of y.
class AxisTransform {
 public:
  AxisTransform(const uint8_t* pixels, int64_t width, int64_t height, const Affine& m, Interpolation kind,
                const Colour& fill)
      : pixels_(pixels), width_(width), height_(height), m_(m), kind_(kind), fill_(fill) {
    places_.start.resize(static_cast<size_t>(width));
    places_.place.resize(static_cast<size_t>(width));
    places_.one.resize(static_cast<size_t>(width));
    places_.fraction.resize(static_cast<size_t>(width * kChannels));
    padded_.resize(static_cast<size_t>((width + 4) * kChannels));
  }

  static bool serves(const Affine& m) {
    const bool across = m.d == 0 && m.f == 0, down = m.b == 0 && m.c == 0;
    return m.a == 1 && m.e == 1 && (across || down);
  }

  void run(uint8_t* out) {
    const bool across = m_.d == 0 && m_.f == 0;
    const int32_t width = static_cast<int32_t>(width_);
    for (int64_t y = 0; y < height_; ++y, out += width_ * kChannels) {
      const double v = static_cast<double>(y) + 0.5, limit = static_cast<double>(across ? width_ : height_);
      const double slope = across ? m_.a : m_.d, at = across ? m_.b * v : m_.e * v, offset = across ? m_.c : m_.f;
      find_places(slope, at, offset, width, places_.place.data());
      // Places rise or fall from left to right.
      const auto inside = [&](int64_t x) {
        const double place = places_.place[static_cast<size_t>(x)];
        return place >= 0 && place < limit;
      };
      int64_t first = 0, last = width_;
      while (first < last && !inside(first)) ++first;
      while (first < last && !inside(last - 1)) --last;
      fill(0, first, out);
      fill(last, width_, out);
      if (first == last) continue;
      if (across) pad_row(pixels_ + y * width_ * kChannels, width_, padded_.data());
      split_places(places_.place.data(), static_cast<int32_t>(first), static_cast<int32_t>(last), across ? 1 : 0,
                   places_.start.data(), places_.one.data());
      runs_of(across, first, last, out);
    }
  }

 private:
  void fill(int64_t x, int64_t end, uint8_t* row) const {
    for (; x < end; ++x) std::memcpy(row + x * kChannels, fill_.data(), kChannels);
  }

  void runs_of(bool across, int64_t first, int64_t last, uint8_t* row) {
    double* fraction = places_.fraction.data() + first * kChannels;
    for (int64_t x = first; x < last; ++x) {
      for (int c = 0; c < kChannels; ++c) *fraction++ = places_.one[static_cast<size_t>(x)];
    }
    const int32_t* start = places_.start.data();
    for (int64_t x = first, end; x < last; x = end) {
      for (end = x + 1; end < last && start[end] == start[x];) ++end;
      run_of(across, x, end, start[x], row);
    }
  }

  void run_of(bool across, int64_t x, int64_t end, int64_t start, uint8_t* row) const {
    const uint8_t* v[4];
    for (int64_t k = 0; k < 4; ++k) {
      v[k] = across ? padded_.data() + (x + start + k + 1) * kChannels
                    : pixels_ + (within(start + k - 1, height_) * width_ + x) * kChannels;
    }
    blend_run(v, kind_, places_.fraction.data() + x * kChannels, (end - x) * kChannels, row + x * kChannels);
  }

  const uint8_t* pixels_;
  const int64_t width_, height_;
  const Affine m_;
  const Interpolation kind_;
  const Colour fill_;
  Places places_;
  std::vector<uint8_t> padded_;
};

// Pixels [first, last) of the output, of which each is written with a byte behind it.
template <Interpolation kind>
ENTANGLE_INLINE void transform_pixels(const uint8_t* pixels, int64_t width, int64_t height, const Affine& m,
                                      const Colour& fill, int64_t first, int64_t last, uint8_t* to) {
  const double right = static_cast<double>(width), bottom = static_cast<double>(height);
  int64_t x = first % width, y = first / width;
  for (int64_t i = first; i < last; ++i, to += kChannels) {
    const double u = static_cast<double>(x) + 0.5, v = static_cast<double>(y) + 0.5;
    const double from_x = m.a * u + m.b * v + m.c, from_y = m.d * u + m.e * v + m.f;
    if (from_x >= 0 && from_y >= 0 && from_x < right && from_y < bottom) {
      sample<kind>(pixels, width, height, from_x - 0.5, from_y - 0.5, to);
    } else {
      for (int c = 0; c < kChannels; ++c) to[c] = fill[static_cast<size_t>(c)];
    }
    if (++x == width) x = 0, ++y;
  }
}

ENTANGLE_CLONES void transform_pixels(const uint8_t* pixels, int64_t width, int64_t height, const Affine& m,
                                      Interpolation interpolation, const Colour& fill, int64_t first, int64_t last,
                                      uint8_t* to) {
  if (interpolation == Interpolation::bicubic) {
    transform_pixels<Interpolation::bicubic>(pixels, width, height, m, fill, first, last, to);
  } else {
    transform_pixels<Interpolation::bilinear>(pixels, width, height, m, fill, first, last, to);
  }
}

}  // namespace

void apply_transform(const Affine& affine, Interpolation interpolation, const Colour& fill, Image& image) {
  const uint8_t* in = copy_with_room(image);
  const int64_t width = image.width, height = image.height, last = width * height - 1;
  uint8_t* out = image.pixels.data();
  if (AxisTransform::serves(affine)) return AxisTransform(in, width, height, affine, interpolation, fill).run(out);
  uint8_t pixel[4];
  transform_pixels(in, width, height, affine, interpolation, fill, 0, last, out);
  transform_pixels(in, width, height, affine, interpolation, fill, last, last + 1, pixel);
  std::memcpy(out + last * kChannels, pixel, kChannels);
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
