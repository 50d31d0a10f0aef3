#include "data/decode.h"

#include <stb/stb_image.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "data/image_structure.h"
#include "data/stages.h"
#include "engine/check.h"

#if defined(ENTANGLE_TURBOJPEG)
#include <turbojpeg.h>
#endif

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

// Place of the last marker FF `code`, or 0. Within the compressed pixels FF is always followed by 0 or a restart marker.
size_t last_marker(const std::vector<uint8_t>& file, uint8_t code) {
  for (size_t i = file.size() - 1; i > 0; --i) {
    if (file[i] == code && file[i - 1] == 0xFF) return i - 1;
  }
  return 0;
}

// Decoders fill what is missing with grey, and say nothing or a warning.
void check_whole(const std::vector<uint8_t>& file, const std::string& name) {
  constexpr uint8_t kStartOfScan = 0xDA, kEndOfImage = 0xD9;
  CHECK(last_marker(file, kEndOfImage) > last_marker(file, kStartOfScan), name,
        ": the JPEG is truncated: it ends before its end marker");
}

// Four bytes are written at each pixel, and the next one replaces the last of them.
void drop_fourth(const uint8_t* from, size_t pixels, uint8_t* to) {
  for (size_t i = 0; i + 1 < pixels; ++i) std::memcpy(to + 3 * i, from + 4 * i, 4);
  std::memcpy(to + 3 * (pixels - 1), from + 4 * (pixels - 1), 3);
}

// `image` has its size.
void decode_by_stb(const std::vector<uint8_t>& file, const std::string& name, Image& image) {
  int width = 0, height = 0, channels = 0;
  // stb converts a JPEG's colours on vectors only to four channels.
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels, 4),
      stbi_image_free);
  CHECK(pixels != nullptr, name, ": the image is broken (", failure_reason(), ")");
  drop_fourth(pixels.get(), image.pixels.size() / 3, image.pixels.data());
}

#if defined(ENTANGLE_TURBOJPEG)
struct Destroy {
  void operator()(void* decoder) const { tjDestroy(decoder); }
};

// c k / 255 rounded, as the published recipe's image library has it.
uint8_t times(int a, int b) {
  const int product = a * b + 128;
  return static_cast<uint8_t>((product + (product >> 8)) >> 8);
}

// Files of CMYK hold it inverted, as Adobe's do: 255 is no ink.
void cmyk_to_rgb(const std::vector<uint8_t>& from, Image& image) {
  for (size_t i = 0; i < image.pixels.size() / 3; ++i) {
    const int paper = from[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      image.pixels[3 * i + c] = static_cast<uint8_t>(paper - times(255 - from[4 * i + c], paper));
    }
  }
}

// libjpeg's own arithmetic: its accurate transform, chroma interpolated. `image` has its size. Warnings are for what
// decoders agree to overlook. A decoder keeps the tables of the file before, so each file has one of its own.
void decode_by_turbojpeg(const std::vector<uint8_t>& file, const std::string& name, Image& image) {
  const std::unique_ptr<void, Destroy> decoder(tjInitDecompress());
  CHECK(decoder != nullptr, "libjpeg-turbo cannot be set up (", tjGetErrorStr2(nullptr), ")");
  const unsigned long bytes = static_cast<unsigned long>(file.size());
  int width = 0, height = 0, sampling = 0, space = 0;
  const bool read = tjDecompressHeader3(decoder.get(), file.data(), bytes, &width, &height, &sampling, &space) == 0 &&
                    width == image.width && height == image.height;
  CHECK(read, name, ": the image is broken (", tjGetErrorStr2(decoder.get()), ")");
  const bool cmyk = space == TJCS_CMYK || space == TJCS_YCCK;
  std::vector<uint8_t> inks(cmyk ? image.pixels.size() / 3 * 4 : 0);
  const int status = tjDecompress2(decoder.get(), file.data(), bytes, cmyk ? inks.data() : image.pixels.data(), width,
                                   0, height, cmyk ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT);
  CHECK(status == 0 || tjGetErrorCode(decoder.get()) == TJERR_WARNING, name, ": the image is broken (",
        tjGetErrorStr2(decoder.get()), ")");
  if (cmyk) cmyk_to_rgb(inks, image);
}
#endif

void decode_jpeg(const std::vector<uint8_t>& file, const std::string& name, Image& image) {
  check_whole(file, name);
#if defined(ENTANGLE_TURBOJPEG)
  decode_by_turbojpeg(file, name, image);
#else
  decode_by_stb(file, name, image);
#endif
}

std::vector<uint8_t> read_file(const std::string& path) {
  const StageScope scope(Stage::read);
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const std::streamoff bytes = in.good() ? static_cast<std::streamoff>(in.tellg()) : -1;
  CHECK(bytes >= 0 && bytes <= static_cast<std::streamoff>(kLargestImageFile), path, ": cannot be read (",
        bytes < 0 ? std::strerror(errno) : "more bytes than an image file may have", ")");
  std::vector<uint8_t> file(static_cast<size_t>(bytes));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(file.data()), bytes);
  CHECK(in.good(), path, ": cannot be read (", std::strerror(errno), ")");
  return file;
}

}  // namespace

const char* jpeg_decoder() {
#if defined(ENTANGLE_TURBOJPEG)
  return "libjpeg-turbo";
#else
  return "stb_image";
#endif
}

Image decode_image(const std::vector<uint8_t>& file, const std::string& name) {
  const StageScope scope(Stage::decode);
  CHECK(!file.empty(), name, ": the file is empty");
  CHECK(file.size() <= kLargestImageFile, name, ": ", file.size(), " bytes are more than an image file may have");
  check_image_structure(file, name);
  int width = 0, height = 0, channels = 0;
  CHECK(stbi_info_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels) != 0, name,
        ": no JPEG, PNG or BMP image (", failure_reason(), ")");
  CHECK(width >= 1 && height >= 1 && static_cast<int64_t>(width) * height <= kMostPixels, name, ": ", width, "x",
        height, " pixels are more than the ", kMostPixels, " allowed");
  Image image = {height, width, 3, {}};
  image.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  if (is_jpeg(file)) {
    decode_jpeg(file, name, image);
  } else {
    decode_by_stb(file, name, image);
  }
  return image;
}

Image read_image(const std::string& path) { return decode_image(read_file(path), path); }

}  // namespace entangle
