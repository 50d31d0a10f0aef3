// The task of lesson 6: pictures of 8 x 8, noise and one of four kinds of faint stripes, which is the class.
#pragma once

#include "engine/rng.h"
#include "engine/tensor.h"

namespace entangle {

struct Pictures {
  Tensor images, targets;  // [count, 1, 8, 8], [count, 4]
};

// Batch `number`: the same pictures on every call.
inline Pictures make_batch(uint64_t number, int64_t count) {
  Rng rng(1, Stream::synthetic, number);
  Pictures batch = {Tensor::zeros({count, 1, 8, 8}), Tensor::zeros({count, 4})};
  for (int64_t i = 0; i < count; ++i) {
    const int64_t label = rng.below(4);
    batch.targets.data()[i * 4 + label] = 1;
    for (int64_t p = 0; p < 64; ++p) {
      const int64_t row = p / 8, column = p % 8;
      const int64_t stripe[] = {column % 2, row % 2, (row + column) % 2, column / 2 % 2};
      batch.images.data()[i * 64 + p] = static_cast<float>(normal(rng)) + (stripe[label] == 0 ? 0.5f : -0.5f);
    }
  }
  return batch;
}

}  // namespace entangle
