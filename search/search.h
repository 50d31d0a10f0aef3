// Searching a space with inherited weights. A network is seen only as fitness(architecture) and cost(architecture).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nn/architecture.h"

namespace entangle {

struct SearchOptions {
  std::string algorithm = "evolution";  // evolution | random
  int64_t population = 50, generations = 20;
  int64_t top = 10;  // parents kept, of all time
  int64_t mutations = 25, crossovers = 25;
  double mutate_block = 0.2;  // m_prob: each mlp_ratio and num_heads
  double mutate_shape = 0.4;  // s_prob: depth, embed_dim
  uint64_t seed = 0;
  int64_t min_params = 0, max_params = 0;  // inclusive; 0: no limit
  void validate(const SearchSpace& space) const;
};

struct Candidate {
  Architecture architecture;
  int64_t params = 0;
  double accuracy = 0;  // on the held-out split
  int64_t generation = 0;
};

struct SearchResult {
  std::vector<Candidate> candidates;  // in order of evaluation
  Candidate best;
};

// Smallest and largest parameter count of a space, exactly.
struct Range {
  int64_t min, max;
};

using Fitness = std::function<double(const Architecture&)>;
using ParameterCount = std::function<int64_t(const Architecture&)>;
// Called after each evaluation, with what the search knows so far; returning false stops the search after this one.
using SearchProgress = std::function<bool(const Candidate& candidate, int64_t done, int64_t planned)>;

// Runs the search. `log` names a file of JSON lines, one a candidate, appended and flushed as they are evaluated; when
// it exists already the search continues from it: candidates are taken from it in order instead of being evaluated
// again, so a killed search ends as if it had not been killed. A log of other options or another space is an Error.
// Limits that no architecture of the space meets are an Error naming the true range.
SearchResult search(const SearchSpace& space, const SearchOptions& options, const Fitness& fitness,
                    const ParameterCount& params, const std::string& log, const SearchProgress& progress = nullptr);

}  // namespace entangle
