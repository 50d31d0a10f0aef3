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

// How values between pixels are found when an image is resized or turned (data/resize.h, data/image_ops.h).
enum class Interpolation { bilinear, bicubic };

}  // namespace entangle
