// What architectures cost, in several metrics at once, and limits on it. Every cost adds up over layers: a stem that
// depends on the width alone, and blocks that depend on width, heads and ratio. So a space is known by a small table,
// and what limits leave of it can be counted exactly (search/feasible.h).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "nn/architecture.h"

namespace entangle {

// Latency is that of one forward pass at the search's batch size, in nanoseconds; 0 everywhere when not measured.
enum class Metric { params, macs, activation_bytes, latency };
inline constexpr size_t kMetrics = 4;
inline constexpr std::array<Metric, kMetrics> kAllMetrics = {Metric::params, Metric::macs, Metric::activation_bytes,
                                                             Metric::latency};

using Costs = std::array<int64_t, kMetrics>;

inline int64_t get(const Costs& costs, Metric metric) { return costs[static_cast<size_t>(metric)]; }
Costs operator+(const Costs& a, const Costs& b);
Costs operator-(const Costs& a, const Costs& b);

// "params", "macs", "activation_bytes", "latency". Throws Error, naming the known ones, for another word.
const char* name_of(Metric metric);
Metric parse_metric(const std::string& name);
// A value as a user writes it: "600000", "3.25 ms".
std::string show(Metric metric, int64_t value);

// What one cost may be.
struct Limit {
  int64_t min = 0, max = std::numeric_limits<int64_t>::max();  // inclusive
  bool bounded() const { return min > 0 || max < std::numeric_limits<int64_t>::max(); }
  bool operator==(const Limit& other) const { return min == other.min && max == other.max; }
  bool holds(int64_t value) const { return value >= min && value <= max; }
};
using CostLimits = std::array<Limit, kMetrics>;  // one for each metric

// Smallest and largest value of a cost.
struct Range {
  int64_t min, max;
};

// What every stem and every block of a space costs, and so what each architecture does.
class CostTable {
 public:
  using Stem = std::function<Costs(int embed_dim)>;
  using Block = std::function<Costs(int embed_dim, int num_heads, double mlp_ratio)>;
  // Asks for every choice of the space once.
  CostTable(const SearchSpace& space, const Stem& stem, const Block& block);

  const SearchSpace& space() const { return space_; }
  // Throws Error when the architecture is not of the space.
  Costs of(const Architecture& architecture) const;
  // By the positions of choices in the space's lists; a block's is heads * mlp_ratio.size() + ratio.
  const Costs& stem(size_t embed_dim) const { return stems_[embed_dim]; }
  const std::vector<Costs>& blocks(size_t embed_dim) const { return blocks_[embed_dim]; }
  // Smallest and largest value in the space, exact.
  Range range(Metric metric) const;

 private:
  SearchSpace space_;
  std::vector<Costs> stems_;
  std::vector<std::vector<Costs>> blocks_;
};

}  // namespace entangle
