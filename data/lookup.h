// Tables of 256 entries, looked up for many bytes at once, and the channels of a row of pixels apart.
#pragma once

#include <array>
#include <cstdint>

#include "data/rgb.h"

namespace entangle {

using Lookup = std::array<uint8_t, 256>;

// values[i] = table[values[i]] of [count].
void look_up(const Lookup& table, int64_t count, uint8_t* values);
// The same for [pixels, 3], each channel in a table of its own.
void look_up_channels(const std::array<Lookup, kChannels>& tables, int64_t pixels, uint8_t* values);

// Whether the following are faster here than taking values one by one.
bool has_wide_lookups();

// A table of floats.
class FloatLookup {
 public:
  explicit FloatLookup(const float* table);  // [256], copied
  // out[i] = table[values[i]] of [count].
  void apply(int64_t count, const uint8_t* values, float* out) const;

 private:
  std::array<float, 256> table_;
  std::array<std::array<uint8_t, 256>, 4> bytes_;  // of each float, in memory's order
};

// planes[c, x] = row[x, c] of [pixels, 3]; mirrored: row[pixels - 1 - x, c].
void split_channels(const uint8_t* row, int64_t pixels, bool mirrored, uint8_t* planes);

}  // namespace entangle
