// Between the file that finds what a turned image looks up (data/transform.cpp) and the one that does the looking up on
// AVX-512.
#pragma once

#include <cstdint>
#include <vector>

#include "data/vectors.h"

namespace entangle {

inline constexpr int64_t kFour = 4;  // bytes of a pixel here, and pixels at a time

// Which of the steps there are.
enum class Steps { both, across, down };

// What is looked up for the pixels of an output row, four more than it has: the place of the first of the 4x4 pixels
// around, in bytes, and how far between the middle ones.
struct Places {
  std::vector<double> x, y, right, down;
  std::vector<int32_t> first;
  explicit Places(int64_t width) {
    const size_t count = static_cast<size_t>(width + kFour);
    for (std::vector<double>* of : {&x, &y, &right, &down}) of->resize(count);
    first.resize(count);
  }
};

#if defined(ENTANGLE_VBMI)
// `count` bicubic pixels and up to three more to `out`, and four bytes behind them.
void bicubic_pixels(Steps steps, const uint8_t* in, int64_t stride, const Places& places, int64_t count, uint8_t* out);
#endif

}  // namespace entangle
