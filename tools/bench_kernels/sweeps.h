// All kernels but the matrix products: attention, and the sweeps that memory bounds.
#pragma once

#include <cstdint>
#include <string>

#include "tools/common/config.h"

namespace entangle {

struct Ceilings {
  double gflops, copy;  // GFLOP/s and GB/s
};

// Registers attention, layer_norm, gelu, cross_entropy and adamw at the sizes of the largest subnet of a
// configuration, which `space` names.
void register_sweeps(const std::string& space, const Config& config, int64_t batch, const Ceilings& ceilings);

}  // namespace entangle
