// JPEG, PNG and BMP files as RGB images, whole or in part.
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
// What JPEGs are decoded with: libjpeg-turbo where it was found when this was compiled (equal to libjpeg), else
// stb_image (within two levels on 99.9 % of values, four at most).
const char* jpeg_decoder();

// How much of a JPEG is decoded where a part of it is wanted; other files are always decoded whole.
//   full    all of it
//   roi     what the part needs: the same pixels. Of a file in pieces (data/jpeg_crop.h) only those pieces; of others,
//           with libjpeg-turbo, the blocks of the part and one around them. What is not needed is not looked at, so a
//           file that is broken there passes.
//   scaled  as roi, at 1/2, 1/4 or 1/8 of the size where the part still has the pixels wanted: the upper frequencies of
//           each block are left out, which is another filter than resizing. Chroma with fewer samples along one axis
//           than along the other becomes coarser. Needs libjpeg-turbo.
enum class DecodeMode { full, roi, scaled };
const char* name_of(DecodeMode mode);
DecodeMode parse_decode_mode(const std::string& name);  // throws Error naming the known ones
void check_available(DecodeMode mode);                  // throws Error where libjpeg-turbo was not found

// A file whose header has been read. `file` and `name`, which stands in messages, must outlive it.
class EncodedImage {
 public:
  // Throws Error that begins with `name` for a file that is empty, no image, a truncated JPEG, or too large: more than
  // kMostPixels.
  EncodedImage(const std::vector<uint8_t>& file, const std::string& name);
  int64_t width() const { return width_; }
  int64_t height() const { return height_; }

  // 8-bit RGB [height, width, 3], whatever the file holds: grey is repeated, a palette is looked up, transparency is
  // dropped, CMYK is converted. Orientation tags are ignored. The image's memory is used again where it has enough.
  // Throws Error that begins with `name` for a broken file.
  void decode(Image& image) const;
  // The same of a region at least, and reduced by 1, 2, 4 or 8 where it is a JPEG and the mode is scaled.
  void decode(DecodeMode mode, const Region& region, int64_t reduction, ImagePart& part) const;

 private:
  const std::vector<uint8_t>& file_;
  const std::string& name_;
  int64_t width_ = 0, height_ = 0;
};

// By how much, 1, 2, 4 or 8, a region may be reduced and still have size x size pixels.
int64_t largest_reduction(const Region& region, int64_t size);
// The smallest region that holds both.
Region around(const Region& a, const Region& b);

Image decode_image(const std::vector<uint8_t>& file, const std::string& name);
Image read_image(const std::string& path);  // throws also when the file cannot be read
// The bytes of an image file, into memory that is used again. Throws Error naming it when it cannot be read.
void read_image_file(const std::string& path, std::vector<uint8_t>& bytes);

}  // namespace entangle
