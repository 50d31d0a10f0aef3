// What the operations on RGB images share.
#pragma once

#include <cstdint>

#include "data/image.h"

namespace entangle {

inline constexpr int kChannels = 3;

// Throws Error, with the sizes, unless the image is [height, width, 3] of at least a pixel.
void check_rgb(const Image& image);

// Its pixels once more, with room to read a few bytes behind them; the thread's next call writes over them. Throws as
// check_rgb.
const uint8_t* copy_with_room(const Image& image);

}  // namespace entangle
