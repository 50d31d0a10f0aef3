// IDX images and labels, gzipped or plain: a 16-bit little-endian length, that many bytes of labels, the images.
#include <algorithm>

#include "data/gzip.h"
#include "data/idx.h"
#include "tests/fuzz/fuzz.h"

namespace {

entangle::IdxFile file_of(const uint8_t* begin, const uint8_t* end, const char* name) {
  std::vector<uint8_t> bytes(begin, end);
  if (bytes.size() > 1 && bytes[0] == 0x1F && bytes[1] == 0x8B) bytes = entangle::gunzip(bytes, name, 1 << 20);
  return {name, std::move(bytes)};
}

}  // namespace

FUZZ_TARGET(idx) {
  using namespace entangle;
  if (size < 2) return;
  const uint8_t* const labels = bytes + 2;
  const size_t length = std::min<size_t>(bytes[0] + 256 * bytes[1], size - 2);
  const auto dataset =
      open_idx(file_of(labels + length, bytes + size, "images"), file_of(labels, labels + length, "labels"));
  Image image;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    fuzz_require(dataset->label(i) >= 0 && dataset->label(i) < dataset->classes(), "labels are classes");
    dataset->get(i, image);
    fuzz_require(image.pixels.size() == static_cast<size_t>(image.height * image.width), "images are whole");
  }
}
