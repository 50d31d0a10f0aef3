#include "data/sampler.h"

#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kCountedBy = 256;

}  // namespace

void Sampler::validate() const {
  CHECK(repeats >= 1 && repeats <= 64, "repeated_augmentation must be in 1 .. 64, not ", repeats);
  CHECK(ranks >= 1 && rank >= 0 && rank < ranks, "there is no rank ", rank, " among ", ranks);
}

int64_t Sampler::positions(int64_t images) const {
  const bool rounded = repeats > 1 && images >= kCountedBy;
  return (rounded ? images / kCountedBy * kCountedBy : images) / ranks;
}

int64_t Sampler::place(int64_t position, int64_t images) const {
  if (deal_copies) return (position * ranks + rank) / repeats % images;
  return position / repeats * ranks + rank;
}

}  // namespace entangle
