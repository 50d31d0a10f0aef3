#if defined(ENTANGLE_TURBOJPEG)
#include "data/libjpeg.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include "engine/check.h"

namespace entangle {

namespace {

// What of the (reduced) image is decoded for a region, and how it is written.
struct Job {
  Region region;
  uint8_t* out;         // [region.height, region.width, 3]
  uint8_t* strip;       // a few decoded rows with what lies beside the region, in as many channels as they have
  int64_t strip_bytes;  // that it has room for
};

// The library reports errors by a jump out of its functions: between setjmp and there no object with a destructor
// lives.
struct Decoder {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void jump_out(j_common_ptr info) {
  Decoder* decoder = static_cast<Decoder*>(info->client_data);
  info->err->format_message(info, decoder->message);
  std::longjmp(decoder->jump, 1);
}

void overlook(j_common_ptr, int) {}

void refuse(Decoder& d, const char* why) {
  std::snprintf(d.message, sizeof d.message, "%s", why);
  std::longjmp(d.jump, 1);
}

// c k / 255 rounded, as the published recipe's image library has it.
int times(int a, int b) {
  const int product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

// Files of CMYK hold it inverted, as Adobe's do: 255 is no ink.
void cmyk_to_rgb(const uint8_t* from, int64_t pixels, uint8_t* to) {
  for (int64_t i = 0; i < pixels; ++i, from += 4, to += 3) {
    for (int c = 0; c < 3; ++c) to[c] = static_cast<uint8_t>(from[3] - times(255 - from[c], from[3]));
  }
}

// Chroma is interpolated from the samples beside it, which a part of an image has not at its edges: so it is decoded
// with a block around it. Returns the first column that is decoded.
int64_t crop_columns(Decoder& d, const Region& region, int64_t block) {
  jpeg_decompress_struct& info = d.info;
  const int64_t all = info.output_width;
  const int64_t first = std::max<int64_t>(region.left - block, 0);
  const int64_t last = std::min(region.left + region.width + block, all);
  if (first == 0 && last == all) return 0;
  JDIMENSION left = static_cast<JDIMENSION>(first), width = static_cast<JDIMENSION>(last - first);
  jpeg_crop_scanline(&info, &left, &width);
  return left;
}

// A row behind the other until the region ends; `left` is the first column decoded.
void read_rows(Decoder& d, const Job& job, int64_t left, int64_t block) {
  jpeg_decompress_struct& info = d.info;
  const Region& r = job.region;
  const int64_t channels = info.output_components, row_bytes = info.output_width * channels;
  constexpr int64_t kRows = 4;
  if (row_bytes * kRows > job.strip_bytes) refuse(d, "its rows are longer than its header says");
  JSAMPROW rows[kRows];
  for (int64_t i = 0; i < kRows; ++i) rows[i] = job.strip + i * row_bytes;
  const int64_t above = std::max<int64_t>(r.top - block, 0);
  if (above > 0) jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(above));
  for (int64_t y = info.output_scanline; y < r.top + r.height;) {
    const int64_t got = jpeg_read_scanlines(&info, rows, kRows);
    if (got == 0) refuse(d, "it ends before its last row");
    for (int64_t i = std::max<int64_t>(r.top - y, 0); i < std::min(got, r.top + r.height - y); ++i) {
      const uint8_t* from = rows[i] + (r.left - left) * channels;
      uint8_t* to = job.out + (y + i - r.top) * r.width * 3;
      if (channels == 4) {
        cmyk_to_rgb(from, r.width, to);
      } else {
        std::memcpy(to, from, static_cast<size_t>(r.width * 3));
      }
    }
    y += got;
  }
}

bool run(Decoder& d, const std::vector<uint8_t>& file, int64_t width, int64_t height, int64_t reduction,
         const Job& job) {
  jpeg_decompress_struct& info = d.info;
  info.err = jpeg_std_error(&d.errors);
  info.client_data = &d;
  d.errors.error_exit = jump_out;
  d.errors.emit_message = overlook;
  if (setjmp(d.jump) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, file.data(), static_cast<unsigned long>(file.size()));
  jpeg_read_header(&info, TRUE);
  if (info.image_width != width || info.image_height != height) refuse(d, "its headers tell of different sizes");
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  info.scale_num = 1;
  info.scale_denom = static_cast<unsigned>(reduction);
  jpeg_start_decompress(&info);
  const int64_t block = std::max<int64_t>(8 * std::max(info.max_h_samp_factor, info.max_v_samp_factor) / reduction, 4);
  const int64_t left = crop_columns(d, job.region, block);
  read_rows(d, job, left, block);
  if (info.output_scanline == info.output_height) {
    jpeg_finish_decompress(&info);
  } else {
    jpeg_abort_decompress(&info);
  }
  jpeg_destroy_decompress(&info);
  return true;
}

}  // namespace

void decode_by_libjpeg(const std::vector<uint8_t>& file, const std::string& name, int64_t width, int64_t height,
                       int64_t reduction, const Region& region, Image& image) {
  static thread_local std::vector<uint8_t> strip;
  strip.resize(static_cast<size_t>(((width + reduction - 1) / reduction) * 4 * 4));
  image.height = region.height;
  image.width = region.width;
  image.channels = 3;
  image.pixels.resize(static_cast<size_t>(region.height * region.width * 3));
  Decoder decoder = {};
  const Job job = {region, image.pixels.data(), strip.data(), static_cast<int64_t>(strip.size())};
  CHECK(run(decoder, file, width, height, reduction, job), name, ": the image is broken (", decoder.message, ")");
}

}  // namespace entangle
#endif
