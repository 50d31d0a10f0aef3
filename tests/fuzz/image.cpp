// A JPEG, PNG or BMP file, whole and in part. Images of more than 65,536 pixels are passed over: they only take time.
#include <stb/stb_image.h>

#include "data/decode.h"
#include "data/image_structure.h"
#include "tests/fuzz/fuzz.h"

FUZZ_TARGET(image) {
  using namespace entangle;
  const std::vector<uint8_t> file(bytes, bytes + size);
  const std::string name = "image";
  check_image_structure(file, "image");
  int width = 0, height = 0, channels = 0;
  const bool known = stbi_info_from_memory(bytes, static_cast<int>(size), &width, &height, &channels) != 0;
  if (known && static_cast<int64_t>(width) * height > 1 << 16) return;
  const Image image = decode_image(file, "image");
  fuzz_require(image.width == width && image.height == height && image.channels == 3,
               "the image is what its header says");
  const Region region = {image.width / 3, image.height / 4, 1 + image.width / 5, 1 + image.height / 3};
  ImagePart part;
  EncodedImage(file, name).decode(DecodeMode::roi, region, 1, part);
  fuzz_require(part.left <= region.left && part.top <= region.top &&
                   part.left + part.pixels.width >= region.left + region.width &&
                   part.top + part.pixels.height >= region.top + region.height,
               "the part holds the region");
  fuzz_require(image.pixels.size() == static_cast<size_t>(image.width * image.height * 3), "it has all its pixels");
}
