// Matrix products against rivals, and the ratio of the whole list.
#pragma once

#include <vector>

#include "tools/bench_kernels/layers.h"
#include "tools/bench_kernels/rivals.h"

namespace entangle {

// Fastest seconds of one product: ours, then each rival's in their order.
struct ProductTimes {
  Layer layer;
  std::vector<double> seconds;
};

// Registers a benchmark for every layer and pass: in each of the rounds ours and every rival take their turn. `rivals`
// and `times`, which the benchmarks fill, must outlive them.
void register_products(const std::vector<Layer>& layers, const std::vector<Rival>& rivals, double gflops_ceiling,
                       int64_t rounds, std::vector<ProductTimes>& times);

// Of each space, the sum over its list of count times seconds: ours, each rival's, and rival / ours.
void print_totals(const std::vector<ProductTimes>& times, const std::vector<Rival>& rivals);

}  // namespace entangle
