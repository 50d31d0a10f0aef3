#include "data/sampler.h"

#include <random>
#include <utility>

#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kCountedBy = 256;

}  // namespace

void Sampler::validate() const {
  CHECK(repeats >= 1 && repeats <= 64, "repeated_augmentation must be in 1 .. 64, not ", repeats);
}

int64_t Sampler::positions(int64_t images) const {
  const bool rounded = repeats > 1 && images >= kCountedBy;
  return rounded ? images / kCountedBy * kCountedBy : images;
}

int64_t Sampler::place(int64_t step, int64_t i, int64_t count, const BatchShare& share) const {
  const int64_t dealt = (step * count + i) * share.ranks + share.rank;
  const int64_t together = (step * share.ranks + share.rank) * count + i;
  return (published ? dealt : together) / repeats;
}

int64_t Sampler::position(int64_t place, int64_t copy, int64_t count, int64_t ranks) const {
  const int64_t entry = place * repeats + copy;
  if (!published) return entry;
  const int64_t rank = entry % ranks, dealt = entry / ranks;  // to the rank, before it
  return (dealt / count * ranks + rank) * count + dealt % count;
}

std::vector<int64_t> published_order(const std::vector<int64_t>& indices, int64_t epoch) {
  CHECK(indices.size() < 0xFFFFFFFFu / 20, "the published order is that of fewer than 2^32 / 20 images, not ",
        indices.size());
  std::vector<int64_t> order = indices;
  std::mt19937 words(static_cast<uint32_t>(epoch));
  for (size_t i = 0; i + 1 < order.size(); ++i) std::swap(order[i], order[i + words() % (order.size() - i)]);
  return order;
}

}  // namespace entangle
