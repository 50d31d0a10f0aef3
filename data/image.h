// Images as data sets give them.
#pragma once

#include <cstdint>
#include <vector>

namespace entangle {

// Interleaved uint8 pixels [height, width, channels].
struct Image {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;
};

// Pixels: columns [left, left + width) and rows [top, top + height).
struct Region {
  int64_t left = 0, top = 0, width = 0, height = 0;
};

// A part of an image, decoded at a fraction of its size. A pixel stands for reduction x reduction of the whole image's,
// whose size is width x height; pixels.width x pixels.height of them begin at column `left` and row `top` of the
// reduced image.
struct ImagePart {
  Image pixels;
  int64_t width = 0, height = 0;
  int64_t left = 0, top = 0;
  int64_t reduction = 1;
};

// How values between pixels are found when an image is resized or turned (data/resize.h, data/image_ops.h).
enum class Interpolation { bilinear, bicubic };

}  // namespace entangle
