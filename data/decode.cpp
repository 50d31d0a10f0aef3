#include "data/decode.h"

#include <stb/stb_image.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "data/image_structure.h"
#include "data/jpeg_crop.h"
#include "data/libjpeg.h"
#include "data/stages.h"
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

bool is_jpeg(const std::vector<uint8_t>& file) { return file.size() >= 4 && file[0] == 0xFF && file[1] == 0xD8; }

// Decoders fill what is missing with grey, and say nothing or a warning. Within the compressed pixels FF is always
// followed by 0 or a restart marker.
void check_whole(const std::vector<uint8_t>& file, const std::string& name) {
  constexpr uint8_t kStartOfScan = 0xDA, kEndOfImage = 0xD9;
  const uint8_t *at = file.data(), *const last = at + file.size() - 1, *scan = at, *end = at;
  while ((at = static_cast<const uint8_t*>(std::memchr(at, 0xFF, static_cast<size_t>(last - at)))) != nullptr) {
    ++at;
    if (*at == kStartOfScan) scan = at;
    if (*at == kEndOfImage) end = at;
  }
  CHECK(end > scan, name, ": the JPEG is truncated: it ends before its end marker");
}

// Four bytes are written at each pixel, and the next one replaces the last of them.
void drop_fourth(const uint8_t* from, size_t pixels, uint8_t* to) {
  for (size_t i = 0; i + 1 < pixels; ++i) std::memcpy(to + 3 * i, from + 4 * i, 4);
  std::memcpy(to + 3 * (pixels - 1), from + 4 * (pixels - 1), 3);
}

void decode_by_stb(const std::vector<uint8_t>& file, const std::string& name, int64_t wide, int64_t high,
                   Image& image) {
  image.height = high;
  image.width = wide;
  image.channels = 3;
  image.pixels.resize(static_cast<size_t>(wide * high * 3));
  int width = 0, height = 0, channels = 0;
  // stb converts a JPEG's colours on vectors only to four channels.
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels, 4),
      stbi_image_free);
  CHECK(pixels != nullptr, name, ": the image is broken (", failure_reason(), ")");
  CHECK(width == wide && height == high, name, ": the image is broken (its headers tell of different sizes)");
  drop_fourth(pixels.get(), image.pixels.size() / 3, image.pixels.data());
}

// The region `r` of a whole image, of which the JPEG shows `held`.
void decode_part(const std::vector<uint8_t>& file, const std::string& name, const Region& held, const Region& r,
                 ImagePart& part) {
#if defined(ENTANGLE_TURBOJPEG)
  part.left = r.left / part.reduction;
  part.top = r.top / part.reduction;
  const auto end = [&](int64_t place) { return (place + part.reduction - 1) / part.reduction; };
  const Region reduced = {part.left - held.left / part.reduction, part.top - held.top / part.reduction,
                          end(r.left + r.width) - part.left, end(r.top + r.height) - part.top};
  decode_by_libjpeg(file, name, held.width, held.height, part.reduction, reduced, part.pixels);
#else
  static_cast<void>(r);
  part.left = held.left;
  part.top = held.top;
  decode_by_stb(file, name, held.width, held.height, part.pixels);
#endif
}

// Closes a file at the end of its scope.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

const char* jpeg_decoder() {
#if defined(ENTANGLE_TURBOJPEG)
  return "libjpeg-turbo";
#else
  return "stb_image";
#endif
}

const char* name_of(DecodeMode mode) {
  constexpr const char* kNames[] = {"full", "roi", "scaled"};
  return kNames[static_cast<size_t>(mode)];
}

DecodeMode parse_decode_mode(const std::string& name) {
  for (const DecodeMode known : {DecodeMode::full, DecodeMode::roi, DecodeMode::scaled}) {
    if (name == name_of(known)) return known;
  }
  RAISE("JPEGs cannot be decoded as '", name, "'; use full, roi or scaled");
}

void check_available(DecodeMode mode) {
#if !defined(ENTANGLE_TURBOJPEG)
  CHECK(mode != DecodeMode::scaled,
        "JPEGs are decoded by stb_image here, which cannot decode them smaller: set DATA.decode=roi instead of ",
        name_of(mode), ", or compile where libjpeg-turbo is found");
#else
  static_cast<void>(mode);
#endif
}

EncodedImage::EncodedImage(const std::vector<uint8_t>& file, const std::string& name) : file_(file), name_(name) {
  const StageScope scope(Stage::decode);
  CHECK(!file.empty(), name, ": the file is empty");
  CHECK(file.size() <= kLargestImageFile, name, ": ", file.size(), " bytes are more than an image file may have");
  check_image_structure(file, name);
  int width = 0, height = 0, channels = 0;
  CHECK(stbi_info_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels) != 0, name,
        ": no JPEG, PNG or BMP image (", failure_reason(), ")");
  CHECK(width >= 1 && height >= 1 && static_cast<int64_t>(width) * height <= kMostPixels, name, ": ", width, "x",
        height, " pixels are more than the ", kMostPixels, " allowed");
  if (is_jpeg(file)) check_whole(file, name);
  width_ = width;
  height_ = height;
}

void EncodedImage::decode(Image& image) const {
  const StageScope scope(Stage::decode);
#if defined(ENTANGLE_TURBOJPEG)
  if (is_jpeg(file_)) {
    return decode_by_libjpeg(file_, name_, width_, height_, 1, {0, 0, width_, height_}, image);
  }
#endif
  decode_by_stb(file_, name_, width_, height_, image);
}

void EncodedImage::decode(DecodeMode mode, const Region& r, int64_t reduction, ImagePart& part) const {
  check_available(mode);
  part.width = width_;
  part.height = height_;
  part.left = part.top = 0;
  part.reduction = 1;
  if (mode == DecodeMode::full || !is_jpeg(file_)) return decode(part.pixels);
  const StageScope scope(Stage::decode);
  CHECK(r.left >= 0 && r.top >= 0 && r.width >= 1 && r.height >= 1 && r.left + r.width <= width_ &&
            r.top + r.height <= height_,
        name_, ": the region of ", r.width, "x", r.height, " pixels at (", r.left, ", ", r.top,
        ") leaves the image of ", width_, "x", height_);
  if (mode == DecodeMode::scaled) part.reduction = reduction;
  static thread_local std::vector<uint8_t> smaller;
  Region held = {0, 0, width_, height_};
  const bool cut = crop_jpeg(file_, r, part.reduction, smaller, held);
  decode_part(cut ? smaller : file_, name_, held, r, part);
}

int64_t largest_reduction(const Region& region, int64_t size) {
  int64_t reduction = 8;
  while (reduction > 1 && std::min(region.width, region.height) < size * reduction) reduction /= 2;
  return reduction;
}

Region around(const Region& a, const Region& b) {
  const int64_t left = std::min(a.left, b.left), top = std::min(a.top, b.top);
  return {left, top, std::max(a.left + a.width, b.left + b.width) - left,
          std::max(a.top + a.height, b.top + b.height) - top};
}

Image decode_image(const std::vector<uint8_t>& file, const std::string& name) {
  Image image;
  EncodedImage(file, name).decode(image);
  return image;
}

void read_image_file(const std::string& path, std::vector<uint8_t>& bytes) {
  const StageScope scope(Stage::read);
  const Descriptor file = {::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat facts = {};
  CHECK(file.number >= 0 && ::fstat(file.number, &facts) == 0, path, ": cannot be read (", std::strerror(errno), ")");
  CHECK(S_ISREG(facts.st_mode) && facts.st_size <= static_cast<off_t>(kLargestImageFile), path,
        ": cannot be read (no file, or more bytes than an image file may have)");
  bytes.resize(static_cast<size_t>(facts.st_size));
  for (size_t got = 0; got < bytes.size();) {
    const ssize_t now = ::read(file.number, bytes.data() + got, bytes.size() - got);
    if (now < 0 && errno == EINTR) continue;
    CHECK(now > 0, path, ": cannot be read (", now < 0 ? std::strerror(errno) : "it became shorter", ")");
    got += static_cast<size_t>(now);
  }
}

Image read_image(const std::string& path) {
  std::vector<uint8_t> file;
  read_image_file(path, file);
  return decode_image(file, path);
}

}  // namespace entangle
