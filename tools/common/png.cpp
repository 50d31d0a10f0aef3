#include "tools/common/png.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

#include "engine/atomic_file.h"
#include "engine/check.h"

namespace entangle {

void write_png(const std::string& path, const Image& image) {
  const int channels = static_cast<int>(image.channels);
  std::string bytes;
  const auto append = [](void* to, void* data, int size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<size_t>(size));
  };
  const int written =
      stbi_write_png_to_func(append, &bytes, static_cast<int>(image.width), static_cast<int>(image.height), channels,
                             image.pixels.data(), static_cast<int>(image.width) * channels);
  CHECK(written != 0, path, ": the picture of ", image.width, "x", image.height, " pixels cannot be encoded");
  write_file_atomically(path, bytes);
}

}  // namespace entangle
