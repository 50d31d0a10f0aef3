// Which image of an epoch's order stands at which position, when images are repeated and shared out among ranks.
#pragma once

#include <cstdint>

namespace entangle {

// Repeated augmentation (Hoffer et al., CVPR 2020; arXiv 1901.09335), counted as the published RASampler does: an epoch
// has floor(images / 256) 256 / ranks positions a rank (fewer than 256 images: images / ranks), whatever the repeats, so
// it sees a third of the images when each comes three times. Without repeats it has images / ranks.
struct Sampler {
  int64_t repeats = 1;
  int64_t ranks = 1, rank = 0;
  // The published order deals the repeated list out place by place, so that the copies of an image go to different ranks.
  // Otherwise the copies follow one another on one rank, which then decodes the image once. One rank: the same order.
  bool deal_copies = false;

  void validate() const;  // throws Error naming the value out of range
  int64_t positions(int64_t images) const;
  // The place in the epoch's order of `images` images of what stands at `position`, in 0 .. positions() - 1.
  int64_t place(int64_t position, int64_t images) const;
};

}  // namespace entangle
