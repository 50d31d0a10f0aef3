#include "tools/common/encode.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kLargestSide = 65535;  // of a JPEG

void append(void* to, void* data, int size) {
  static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<size_t>(size));
}

void check_encodable(const Image& image, const std::string& name) {
  CHECK((image.channels == 1 || image.channels == 3) && image.width >= 1 && image.height >= 1 &&
            image.width <= kLargestSide && image.height <= kLargestSide,
        name, ": an image of ", image.width, "x", image.height, " pixels with ", image.channels,
        " channels cannot be encoded");
}

}  // namespace

void check_encodable(const Image& image, int64_t quality, const std::string& name) {
  check_encodable(image, name);
  CHECK(quality >= 1 && quality <= 100, "the quality of a JPEG is 1 to 100, not ", quality);
}

std::string encode_png(const Image& image, const std::string& name) {
  check_encodable(image, name);
  const int width = static_cast<int>(image.width), channels = static_cast<int>(image.channels);
  std::string bytes;
  const int written = stbi_write_png_to_func(append, &bytes, width, static_cast<int>(image.height), channels,
                                             image.pixels.data(), width * channels);
  CHECK(written != 0, name, ": the picture of ", image.width, "x", image.height, " pixels cannot be encoded");
  return bytes;
}

std::string encode_jpeg(const Image& image, int64_t quality, const std::string& name) {
  check_encodable(image, quality, name);
  std::string bytes;
  const int written =
      stbi_write_jpg_to_func(append, &bytes, static_cast<int>(image.width), static_cast<int>(image.height),
                             static_cast<int>(image.channels), image.pixels.data(), static_cast<int>(quality));
  CHECK(written != 0, name, ": the picture of ", image.width, "x", image.height, " pixels cannot be encoded");
  return bytes;
}

}  // namespace entangle
