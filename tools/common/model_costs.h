// The costs of a supernet's subnets, layer by layer, as a search takes them.
#pragma once

#include "nn/supernet.h"
#include "search/costs.h"

namespace entangle {

// Parameters, multiply-accumulates of one image, and activation bytes of a training step at `batch` images, all as
// count_cost gives them; without latency.
CostTable model_costs(const SupernetConfig& model, const SearchSpace& space, int64_t batch);

}  // namespace entangle
