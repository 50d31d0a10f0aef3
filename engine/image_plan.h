// What was drawn for the images of a batch, for those who draw it (data/augment.h) and for the kernel that does it,
// augment_images in engine/ops.h, where the meaning of every part is said.
//
// Read by files compiled per instruction set: no inline code but static functions, C headers only.
#pragma once

#include <stdint.h>

#include "engine/rng.h"

namespace entangle {

// The pixel (top, left) of the source becomes the upper left one; then it is mirrored if `flip`.
struct Placement {
  int64_t top = 0, left = 0;
  bool flip = false;
};

// Rows top .. top + height - 1, columns left .. left + width - 1.
struct Box {
  int64_t top = 0, left = 0, height = 0, width = 0;
};
static inline ENTANGLE_HOST_DEVICE bool contains(const Box& box, int64_t y, int64_t x) {
  return y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
}
static inline ENTANGLE_HOST_DEVICE bool is_empty(const Box& box) { return box.height == 0 || box.width == 0; }

// lambda is an image's own share of its target, with a box and without.
struct Mix {
  double lambda = 1;
  Box box;
};

// Images are mixed within groups of neighbours of the global batch, image i of a group of n with image n - 1 - i: so
// processes that share a batch out need no pixels of one another. (The published recipe reverses the whole batch of each
// process: i with n - 1 - i of its n. Either way the order of images is random, and partners are any two of them.) A
// last group may be smaller; the image in the middle of an odd one stays as it is.
inline constexpr int64_t kMixGroup = 8;
static inline ENTANGLE_HOST_DEVICE int64_t mix_partner(int64_t i, int64_t batch) {
  const int64_t first = i / kMixGroup * kMixGroup;
  const int64_t end = first + kMixGroup < batch ? first + kMixGroup : batch;
  return first + end - 1 - i;
}
// The images i with i <= mix_partner(i), numbered 0 .. mix_pairs(batch) - 1.
static inline ENTANGLE_HOST_DEVICE int64_t mix_pairs(int64_t batch) {
  return batch / kMixGroup * (kMixGroup / 2) + (batch % kMixGroup + 1) / 2;
}
static inline ENTANGLE_HOST_DEVICE int64_t mix_first(int64_t pair) {
  constexpr int64_t kPairs = kMixGroup / 2;
  return pair / kPairs * kMixGroup + pair % kPairs;
}

// A box that is erased, and the first of its random numbers.
struct Erasure {
  Box box;
  uint64_t first_noise = 0;
};
enum class EraseMode : int32_t { constant, random, pixel };
inline constexpr int64_t kMostErased = 8;

// What was drawn for one image.
struct ImagePlan {
  Placement placement;
  Mix mix;
  int64_t boxes = 0;  // that are erased, the later ones over the earlier ones
  Erasure erased[kMostErased];
};

}  // namespace entangle
