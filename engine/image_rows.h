// One row of an image on its way into a batch (augment_images in engine/ops.h): what the loader's threads and the
// processor's kernel share. `static`, and no header of C++, as files compiled per instruction set include it.
#pragma once

#include <stdint.h>

#include "engine/ops.h"

namespace entangle {

// Row y of channel c of the placed image; pixels [size, size, channels], table [256], out [size].
static inline void place_row(const Placement& placement, int64_t channels, int64_t size, int64_t c, int64_t y,
                             const float* table, const uint8_t* pixels, float* out) {
  // Columns [first, last) of the unmirrored row lie inside of the source, none when last <= first.
  const int64_t row = y + placement.top, left = placement.left;
  const int64_t first = left < 0 ? -left : 0, last = left > 0 ? size - left : size;
  const bool inside = row >= 0 && row < size && first < last;
  if (!inside || last - first < size) {
    for (int64_t x = 0; x < size; ++x) out[x] = table[0];
  }
  if (!inside) return;
  const uint8_t* source = pixels + (row * size + left + first) * channels + c;
  const int64_t step = placement.flip ? -1 : 1;
  float* target = placement.flip ? out + (size - 1 - first) : out + first;
  for (int64_t x = 0; x < last - first; ++x) target[x * step] = table[source[x * channels]];
}

// Row y of channel c of the erased box, y one of its rows; `row` is the image's row [size].
static inline void fill_row_with_noise(const Box& box, int64_t c, int64_t y, RngKey noise, uint64_t first_noise,
                                       float* row) {
  const uint64_t first = first_noise + static_cast<uint64_t>(2 * (c * box.height + y - box.top) * box.width);
  RngBlock block = rng_block(noise, first >> 2);
  for (int64_t x = 0; x < box.width; ++x) {
    const uint64_t at = first + static_cast<uint64_t>(2 * x);
    if ((at & 3) < 2 && x > 0) block = rng_block(noise, at >> 2);
    const uint32_t u = block.word[at & 3];
    if ((at & 3) == 3) block = rng_block(noise, (at + 1) >> 2);
    row[box.left + x] = static_cast<float>(rng_normal_of(u, block.word[(at + 1) & 3]));
  }
}

}  // namespace entangle
