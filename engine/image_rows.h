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

// Standard normal numbers in the columns of a box, the first of them from word `first` on; `row` is the image's row [size].
static inline void fill_row_with_noise(const Box& box, RngKey noise, uint64_t first, float* row) {
  RngBlock block = rng_block(noise, first >> 2);
  for (int64_t x = 0; x < box.width; ++x) {
    const uint64_t at = first + static_cast<uint64_t>(2 * x);
    if ((at & 3) < 2 && x > 0) block = rng_block(noise, at >> 2);
    const uint32_t u = block.word[at & 3];
    if ((at & 3) == 3) block = rng_block(noise, (at + 1) >> 2);
    row[box.left + x] = static_cast<float>(rng_normal_of(u, block.word[(at + 1) & 3]));
  }
}

// Row y of channel c of an image whose boxes are erased. fill(box, first, row) does what fill_row_with_noise does.
template <class Fill>
static inline void erase_row(const ImagePlan& plan, EraseMode mode, RngKey noise, int64_t c, int64_t y,
                             const Fill& fill, float* row) {
  for (int64_t b = 0; b < plan.boxes; ++b) {
    const Box& box = plan.erased[b].box;
    const uint64_t first = plan.erased[b].first_noise;
    if (y < box.top || y >= box.top + box.height) continue;
    if (mode == EraseMode::pixel) {
      fill(box, first + static_cast<uint64_t>(2 * (c * box.height + y - box.top) * box.width), row);
      continue;
    }
    const double number = mode == EraseMode::random ? rng_normal(noise, first + static_cast<uint64_t>(2 * c)) : 0;
    for (int64_t x = box.left; x < box.left + box.width; ++x) row[x] = static_cast<float>(number);
  }
}

// Columns [from, to) of row y of an image's plane, as `mix` makes them of its own and its partner's: out[x - from].
static inline void mix_columns(const Mix& mix, int64_t y, int64_t from, int64_t to, const float* own,
                               const float* partner, float* out) {
  if (mix.lambda == 1) return;
  const Box& box = mix.box;
  if (is_empty(box)) {
    const float share = static_cast<float>(mix.lambda), rest = static_cast<float>(1 - mix.lambda);
    for (int64_t i = 0; i < to - from; ++i) out[i] = share * own[i] + rest * partner[i];
    return;
  }
  if (y < box.top || y >= box.top + box.height) return;
  const int64_t first = from > box.left ? from : box.left, end = box.left + box.width;
  const int64_t last = to < end ? to : end;
  for (int64_t x = first; x < last; ++x) out[x - from] = partner[x - from];
}

// Row y of a plane of two images that are partners, in place, each by its own mix. A few columns at a time, of which
// both images are remembered as they were.
static inline void mix_rows(const Mix& mix_a, const Mix& mix_b, int64_t size, int64_t y, float* a, float* b) {
  constexpr int64_t kColumns = 64;
  float were_a[kColumns], were_b[kColumns];
  for (int64_t from = 0; from < size; from += kColumns) {
    const int64_t to = from + kColumns < size ? from + kColumns : size;
    for (int64_t x = from; x < to; ++x) {
      were_a[x - from] = a[x];
      were_b[x - from] = b[x];
    }
    mix_columns(mix_a, y, from, to, were_a, were_b, a + from);
    mix_columns(mix_b, y, from, to, were_b, were_a, b + from);
  }
}

}  // namespace entangle
