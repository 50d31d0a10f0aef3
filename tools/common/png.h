// Pictures for people.
#pragma once

#include <string>

#include "data/image.h"

namespace entangle {

// Grey or RGB. Written atomically; throws Error naming the path when it cannot be.
void write_png(const std::string& path, const Image& image);

}  // namespace entangle
