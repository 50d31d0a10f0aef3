// Between the file that finds the filters' weights (data/resize.cpp) and the one that applies them on AVX-512.
#pragma once

#include <cstdint>
#include <vector>

#include "data/vectors.h"

namespace entangle {

// 8 bits of a pixel, and two for what a bicubic filter exceeds it by: 32 in all.
inline constexpr int kFractionBits = 22;
inline constexpr int32_t kHalf = 1 << (kFractionBits - 1);

// For each output position the first input position under the filter, how many there are, and their weights; and how
// many the most have.
struct Weights {
  int64_t taps = 0;  // that there is room for at each
  std::vector<int32_t> first, count, weight;
  int32_t most = 0;
};

#if defined(ENTANGLE_VBMI)
// Rows of RGB pixels, as resize_row of data/resize.cpp does it, five output pixels at a time.
class WideRow {
 public:
  // What is read behind the last pixel of a row, and written behind the output's.
  static constexpr int64_t kBeyond = 128;
  // Whether five pixels' taps lie close enough together.
  static bool serves(const Weights& weights);
  explicit WideRow(const Weights& weights);
  void run(const uint8_t* row, uint8_t* out) const;

 private:
  int64_t groups_;              // of four taps
  std::vector<int32_t> first_;  // byte of the row, of each five pixels
  std::vector<uint8_t> order_;  // [five pixels, 64]: the four taps of each value side by side
  std::vector<int8_t> digits_;  // [five pixels, groups, 3, 64]: of those taps' weights, the upper ones first
};

// Whether there are few enough taps for this one.
bool serves_wide_columns(const Weights& weights);
// out[i] = sum of weight[t] rows[t * stride + i] of `count` taps, for values [0, length) but for the last length % 64.
void resize_columns_wide(const uint8_t* rows, int64_t stride, const int32_t* weight, int32_t count, int64_t length,
                         uint8_t* out);
#endif

}  // namespace entangle
