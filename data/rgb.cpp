#include "data/rgb.h"

#include "engine/check.h"

namespace entangle {

void check_rgb(const Image& image) {
  CHECK(image.channels == kChannels && image.width >= 1 && image.height >= 1 &&
            static_cast<int64_t>(image.pixels.size()) == image.width * image.height * kChannels,
        "an image of ", image.width, "x", image.height, " pixels and ", image.channels,
        " channels is no RGB image; convert it first");
}

const uint8_t* copy_with_room(const Image& image) {
  constexpr size_t kRoom = 64;
  static thread_local std::vector<uint8_t> copy;
  check_rgb(image);
  copy.reserve(image.pixels.size() + kRoom);
  copy.assign(image.pixels.begin(), image.pixels.end());
  copy.insert(copy.end(), kRoom, 0);
  return copy.data();
}

}  // namespace entangle
