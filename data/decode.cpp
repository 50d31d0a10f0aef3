#include "data/decode.h"

#include <stb/stb_image.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "engine/check.h"

namespace entangle {

namespace {

constexpr size_t kLargestFile = size_t{1} << 30;

}  // namespace

Image decode_image(const std::vector<uint8_t>& file, const std::string& name) {
  CHECK(!file.empty(), name, ": the file is empty");
  CHECK(file.size() <= kLargestFile, name, ": ", file.size(), " bytes are more than an image file may have");
  const int bytes = static_cast<int>(file.size());
  int width = 0, height = 0, channels = 0;
  CHECK(stbi_info_from_memory(file.data(), bytes, &width, &height, &channels) != 0, name,
        ": no JPEG, PNG or BMP image (", stbi_failure_reason(), ")");
  CHECK(width >= 1 && height >= 1 && static_cast<int64_t>(width) * height <= kMostPixels, name, ": ", width, "x",
        height, " pixels are more than the ", kMostPixels, " allowed");
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(file.data(), bytes, &width, &height, &channels, 3), stbi_image_free);
  CHECK(pixels != nullptr, name, ": the image is broken (", stbi_failure_reason(), ")");
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
