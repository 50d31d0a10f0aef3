// One architecture's weights taken out of a supernet: for a network of its own, for another task, for the published code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/supernet.h"

namespace entangle {

// What could not be taken over as it is, since the two networks differ there.
struct Inherited {
  bool new_head = false;             // another number of classes: the head keeps its initial values
  bool resampled_positions = false;  // another number of patches: position embeddings by bicubic interpolation
  bool extended_tables = false;      // another max_relative_position
};

// Gives `to` the values that `architecture` views in `from`; `to.config().full()` must be that architecture. With equal
// classes, image size and max_relative_position both then compute the same logits. Tables of relative position hold a row
// for each distance -m .. m and one for the class token; a distance beyond the old m takes the row that it was clamped to
// there, so that a larger m changes nothing before it is trained. Throws Error when the architecture does not fit, or
// in_channels, patch_size, head_dim or the kinds of position embedding differ.
Inherited inherit_weights(const Supernet& from, const Architecture& architecture, Supernet& to);

// Copies `from`, whose QKV bias may be shared either way, into `to` of the same shapes with a contiguous one, so that
// `architecture` has the same bias in both. Other architectures have it only where the bias was contiguous before.
void lay_out_for_published_code(const Supernet& from, const Architecture& architecture, Supernet& to);

// A grid [side, side, width] to [new_side, new_side, width]: Keys' cubic with a = -3/4 between pixel centres, without
// antialiasing, borders repeated (as PyTorch's bicubic interpolate).
std::vector<float> resample_grid(const std::vector<float>& grid, int64_t side, int64_t width, int64_t new_side);

}  // namespace entangle
