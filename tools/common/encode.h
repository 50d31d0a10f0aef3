// Images as files in memory.
#pragma once

#include <string>

#include "data/image.h"

namespace entangle {

// Grey or RGB. Throws Error, beginning with `name`, for an image that the format does not hold.
std::string encode_png(const Image& image, const std::string& name);
// quality in 1 .. 100; colour is halved in both directions up to 90.
std::string encode_jpeg(const Image& image, int64_t quality, const std::string& name);

}  // namespace entangle
