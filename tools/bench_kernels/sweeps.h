// All kernels but the matrix products: attention, and the sweeps that memory bounds.
#pragma once

#include <cstdint>
#include <string>

namespace entangle {

struct Ceilings {
  double gflops, copy;  // GFLOP/s and GB/s
};

// Registers attention, layer_norm, gelu, cross_entropy and adamw at the sizes of a space's largest subnet.
void register_sweeps(const std::string& space, int64_t batch, const Ceilings& ceilings);

}  // namespace entangle
