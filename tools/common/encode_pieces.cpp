#include "tools/common/encode.h"

#if defined(ENTANGLE_TURBOJPEG)
#include <csetjmp>
#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>

#include "engine/check.h"
#endif

namespace entangle {

#if defined(ENTANGLE_TURBOJPEG)
namespace {

constexpr int64_t kBestSubsampled = 90;  // quality from which on colour keeps its resolution, as in encode_jpeg

// The library reports errors by a jump out of its functions: between setjmp and there no object with a destructor
// lives.
struct Encoder {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  unsigned char* memory;
  unsigned long bytes;
};

void jump_out(j_common_ptr info) {
  Encoder* encoder = static_cast<Encoder*>(info->client_data);
  info->err->format_message(info, encoder->message);
  std::longjmp(encoder->jump, 1);
}

bool run(Encoder& e, const Image& image, int64_t quality) {
  jpeg_compress_struct& info = e.info;
  info.err = jpeg_std_error(&e.errors);
  info.client_data = &e;
  e.errors.error_exit = jump_out;
  if (setjmp(e.jump) != 0) {
    jpeg_destroy_compress(&info);
    return false;
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, &e.memory, &e.bytes);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = static_cast<int>(image.channels);
  info.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, static_cast<int>(quality), TRUE);
  const int factor = image.channels == 3 && quality <= kBestSubsampled ? 2 : 1;
  info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = factor;
  info.optimize_coding = TRUE;
  info.restart_interval = 1;
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    const int64_t row = static_cast<int64_t>(info.next_scanline) * image.width * image.channels;
    JSAMPROW pixels = const_cast<JSAMPROW>(image.pixels.data() + row);
    jpeg_write_scanlines(&info, &pixels, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  return true;
}

}  // namespace
#endif

std::string encode_jpeg_in_pieces(const Image& image, int64_t quality, const std::string& name) {
#if defined(ENTANGLE_TURBOJPEG)
  check_encodable(image, quality, name);
  Encoder encoder = {};
  const bool whole = run(encoder, image, quality);
  std::string bytes;
  if (whole) bytes.assign(reinterpret_cast<const char*>(encoder.memory), encoder.bytes);
  std::free(encoder.memory);
  CHECK(whole, name, ": the picture of ", image.width, "x", image.height, " pixels cannot be encoded (",
        encoder.message, ")");
  return bytes;
#else
  return encode_jpeg(image, quality, name);
#endif
}

}  // namespace entangle
