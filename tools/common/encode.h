// Images as files in memory.
#pragma once

#include <string>

#include "data/image.h"

namespace entangle {

// Grey or RGB. Throws Error, beginning with `name`, for an image that the format does not hold.
std::string encode_png(const Image& image, const std::string& name);
// quality in 1 .. 100; colour is halved in both directions up to 90.
std::string encode_jpeg(const Image& image, int64_t quality, const std::string& name);
// The same in pieces of which a part of the image can be made without the others (data/jpeg_crop.h): a restart marker
// behind every 16x16 pixels (8x8 where colour is not halved) takes as many bytes as Huffman tables of its own save.
// Where libjpeg-turbo was not found, as encode_jpeg.
std::string encode_jpeg_in_pieces(const Image& image, int64_t quality, const std::string& name);

// Throws Error, beginning with `name`, for an image or a quality that no JPEG has.
void check_encodable(const Image& image, int64_t quality, const std::string& name);

}  // namespace entangle
