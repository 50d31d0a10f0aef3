// Where the heads of a subnet look in an image.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/supernet.h"

namespace entangle {

// The probabilities [B, H, N, N] of an attention layer, row-major: softmax of the scores in engine/ops.h, in double. The
// operation itself keeps none.
std::vector<double> attention_probabilities(const AttentionInput& input);

// For one image, of each block and head the share of attention that each patch [side * side] gets: that of the class token
// where the network pools it, else the mean over the patches. What the class token gets is left out, so that a map adds up
// to less than 1.
struct AttentionMaps {
  int64_t side = 0;
  std::vector<std::vector<std::vector<double>>> maps;  // by block, by head
  std::vector<float> logits;
};

// image [1, C, size, size], normalised. Throws Error when the architecture does not fit.
AttentionMaps attention_maps(const Supernet& supernet, const Architecture& architecture, const Tensor& image);

}  // namespace entangle
