// Images of an evaluation: decoded, resized and cropped, kept as bytes, a quarter of what they take normalised.
#pragma once

#include <cstdint>
#include <vector>

#include "data/loader.h"

namespace entangle {

// pixels [count, size, size, channels] as the data set has them, labels [count].
struct EvaluationImages {
  int64_t count = 0, size = 0, channels = 0;
  std::vector<uint8_t> pixels;
  std::vector<int64_t> labels;
};

// Images `indices[begin ..]` of a data set, at most `count` of them, in that order; fewer at their end. Images of any
// size are resized and cropped. Those that are broken are counted in `broken` and left out; null: they throw. Throws
// Error when begin is not in [0, indices.size()), count < 1, or an image is not image_size x image_size.
EvaluationImages load_evaluation_images(const Dataset& dataset, const DataSource& source,
                                        const std::vector<int64_t>& indices, int64_t begin, int64_t count,
                                        int64_t image_size, BrokenImages* broken = nullptr);

// Those at `positions`, normalised; without targets. Throws Error for a position that is not in 0 .. count - 1.
Batch normalised(const EvaluationImages& images, const std::vector<int64_t>& positions, const Normalizer& normalizer);

// Both at once.
Batch load_for_evaluation(const Dataset& dataset, const DataSource& source, const std::vector<int64_t>& indices,
                          int64_t begin, int64_t count, int64_t image_size, BrokenImages* broken = nullptr);

}  // namespace entangle
