// Latency of subnets on this device: blocks are measured once, each kind on its own; a subnet's is then the sum of its
// parts. Everything is measured on dense cut-out weights.
//
// A measurement is the fastest of many: other work on the machine only ever adds time. The kinds take turns in several
// passes, so that one disturbance does not slow all measurements of one kind.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nn/supernet.h"
#include "search/costs.h"

namespace entangle {

// What a table is of: processor, threads, batch, precision, the model's sizes and the choices of the space. One line.
std::string latency_key(const Supernet& supernet, const SearchSpace& space, int64_t batch);

// Nanoseconds of one forward pass's parts. Lists follow the choices of the space, as in CostTable.
struct LatencyTable {
  std::string key;                           // latency_key
  std::vector<int64_t> stems;                // by embed_dim: patches, tokens, final norm, head
  std::vector<std::vector<int64_t>> blocks;  // by embed_dim: heads * mlp_ratio.size() + ratio
};

// Called after each part of the work.
using LatencyProgress = std::function<void(int64_t done, int64_t total)>;

LatencyTable measure_latency(const Supernet& supernet, const SearchSpace& space, int64_t batch,
                             const LatencyProgress& progress = nullptr);

// The table of this key in the file `path`, which holds one for each key; when it is not there yet it is measured and
// added. Throws Error when the file exists and does not hold latencies.
LatencyTable latency_table(const std::string& path, const Supernet& supernet, const SearchSpace& space, int64_t batch,
                           const LatencyProgress& progress = nullptr);

// The other costs with latency added. It is rounded to a five-hundredth of the slowest block, far below what it is
// known to, so that sums of blocks repeat and limits stay countable.
CostTable with_latency(const CostTable& costs, const LatencyTable& latency);

// Nanoseconds of whole forward passes of cut-out subnets, in their order.
std::vector<int64_t> measure_subnets(const Supernet& supernet, const std::vector<Architecture>& architectures,
                                     int64_t batch, const LatencyProgress& progress = nullptr);

}  // namespace entangle
