// JPEG, PNG and BMP files as RGB images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/image.h"

namespace entangle {

// Pixels of an image at most: more is a decompression bomb or a mistake. The same limit as the published recipe's image
// library.
inline constexpr int64_t kMostPixels = 178956970;

inline constexpr uint64_t kLargestImageFile = uint64_t{1} << 30;  // bytes
// What JPEGs are decoded with: libjpeg-turbo where it was found when this was compiled (equal to libjpeg), else stb_image
// (within two levels on 99.9 % of values, four at most).
const char* jpeg_decoder();

// 8-bit RGB [height, width, 3], whatever the file holds: grey is repeated, a palette is looked up, transparency is dropped,
// CMYK is converted. Orientation tags are ignored. The size is checked before anything is allocated. Throws Error that begins
// with `name` for a file that is empty, no image, broken, a truncated JPEG, or too large.
Image decode_image(const std::vector<uint8_t>& file, const std::string& name);
Image read_image(const std::string& path);  // throws also when the file cannot be read

}  // namespace entangle
