// Which image of an epoch's order stands at which position, when images are repeated and shared out among ranks.
#pragma once

#include <cstdint>
#include <vector>

namespace entangle {

// Which images of each batch a process of several loads: those from rank batch_size / ranks on. Their augmentation,
// their partners in mixing and their targets do not depend on how many share the batch.
struct BatchShare {
  int64_t ranks = 1, rank = 0;
};

// Repeated augmentation (Hoffer et al., CVPR 2020; arXiv 1901.09335), counted as the published RASampler does: an epoch
// has floor(images / 256) 256 positions (fewer than 256 images: as many as there are), whatever the repeats, so it sees
// a third of the images when each comes three times. Without repeats it has a position an image.
//
// Our order: copies of an image follow one another in the whole batch, so that the rank that has them decodes it once,
// and a batch holds the same images however many ranks share it.
// The published order: the permutation is that of PyTorch's generator seeded with the epoch, and the repeated list is
// dealt out among the ranks place by place; of what it was dealt a rank goes through the first so many. Copies lie on
// different ranks, and which images a batch holds depends on their number. Tar shards are then read wherever it leads.
struct Sampler {
  int64_t repeats = 1;
  bool published = false;

  void validate() const;  // throws Error naming the value out of range
  int64_t positions(int64_t images) const;
  // The place in the epoch's order of image i of the part of batch `step` that a rank loads, `count` images.
  int64_t place(int64_t step, int64_t i, int64_t count, const BatchShare& share) const;
  // The other way: where copy 0 .. repeats - 1 of the image at a place stands among the images of all batches and ranks,
  // step ranks count + rank count + i.
  int64_t position(int64_t place, int64_t copy, int64_t count, int64_t ranks) const;
};

// The published order of an epoch: `indices` permuted as torch.randperm does with a generator whose manual_seed was
// `epoch`, a Fisher-Yates shuffle from the front with words of the Mersenne Twister (MT19937), modulo what is left.
// Fewer than 2^32 / 20 indices; with more PyTorch draws 64 bits.
std::vector<int64_t> published_order(const std::vector<int64_t>& indices, int64_t epoch);

}  // namespace entangle
