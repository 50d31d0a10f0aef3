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
  std::string subject;                     // what is scored, and on what: recorded, so that a log of another is refused
  // Throws Error naming the option, its value and what is allowed.
  void validate(const SearchSpace& space) const;
};

struct Candidate {
  Architecture architecture;
  int64_t params = 0;
  double accuracy = 0;  // on the held-out split
  int64_t generation = 0;
};

struct SearchResult {
  std::vector<Candidate> candidates;  // in order of evaluation; none twice
  Candidate best;                     // the most accurate; the earliest of equals
};

using Fitness = std::function<double(const Architecture&)>;
// Must not fall when a gene grows (a deeper or wider network has no fewer parameters).
using ParameterCount = std::function<int64_t(const Architecture&)>;
// Called after each evaluation; returning false stops the search after this one. Candidates taken from a log are not
// reported, but count in `done`. planned = population * generations.
using SearchProgress = std::function<bool(const Candidate& candidate, int64_t done, int64_t planned)>;

// Smallest and largest parameter count of a space: exact, since the count does not fall when a gene grows.
struct Range {
  int64_t min, max;
};
Range parameter_range(const SearchSpace& space, const ParameterCount& params);

// Runs the search: `generations` times `population` candidates. The first generation is drawn at random; a later one
// consists of mutations and crossovers of the best so far (evolution), refilled with random ones. A space with fewer
// legal architectures than that ends the search early, with all that could be found.
//
// `log` names a file of JSON lines, a header and then one a candidate, appended and flushed as they are evaluated;
// empty: none is kept. When it exists already the search continues from it: candidates are taken from it in order
// instead of being evaluated again, so a killed search ends as if it had not been killed, with the same log to the
// byte. A torn last line is cut off.
//
// Throws Error for: options out of range; limits that no architecture of the space meets, with the true range or what
// was found nearest, before anything is evaluated; a log of other options or another space, naming the first
// difference; a log that cannot be read or written; a fitness that is not finite, naming the architecture.
SearchResult search(const SearchSpace& space, const SearchOptions& options, const Fitness& fitness,
                    const ParameterCount& params, const std::string& log, const SearchProgress& progress = nullptr);

}  // namespace entangle
