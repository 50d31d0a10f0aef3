#include "data/decode.h"

#include <stb/stb_image.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "data/jpeg_tables.h"
#include "engine/check.h"

namespace entangle {

namespace {

// Of a PNG it may quote bytes of the file.
std::string failure_reason() {
  std::string reason = stbi_failure_reason();
  std::replace_if(
      reason.begin(), reason.end(), [](char c) { return c < 0x20 || c > 0x7E; }, '?');
  return reason;
}

}  // namespace

Image decode_image(const std::vector<uint8_t>& file, const std::string& name) {
  CHECK(!file.empty(), name, ": the file is empty");
  CHECK(file.size() <= kLargestImageFile, name, ": ", file.size(), " bytes are more than an image file may have");
  check_huffman_tables(file, name);
  const int bytes = static_cast<int>(file.size());
  int width = 0, height = 0, channels = 0;
  CHECK(stbi_info_from_memory(file.data(), bytes, &width, &height, &channels) != 0, name,
        ": no JPEG, PNG or BMP image (", failure_reason(), ")");
  CHECK(width >= 1 && height >= 1 && static_cast<int64_t>(width) * height <= kMostPixels, name, ": ", width, "x",
        height, " pixels are more than the ", kMostPixels, " allowed");
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(file.data(), bytes, &width, &height, &channels, 3), stbi_image_free);
  CHECK(pixels != nullptr, name, ": the image is broken (", failure_reason(), ")");
  Image image = {height, width, 3, {}};
  image.pixels.assign(pixels.get(), pixels.get() + static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  return image;
}

Image read_image(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  CHECK(in.good(), path, ": cannot be read (", std::strerror(errno), ")");
  const std::vector<uint8_t> file((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  CHECK(!in.bad(), path, ": cannot be read (", std::strerror(errno), ")");
  return decode_image(file, path);
}

}  // namespace entangle
