// The architectures of a space that meet limits, counted and drawn exactly.
//
// Costs add up over blocks, and all blocks of a width have the same choices: so the sums that k blocks can reach follow
// from those of k - 1 (dynamic programming over the number of blocks), each with the number of ways that lead to it.
// Read backwards, from a sum that meets the limits, the same tables draw an architecture uniformly, or find the one of
// a given number, without a refused draw however narrow the limits are. Different orders of the same blocks share a
// sum, and parameters and multiply-accumulates depend on the sums of heads and hidden widths alone: T has 10^9
// architectures and a thousand sums for each width and depth.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/rng.h"
#include "search/costs.h"

namespace entangle {

// The architectures of a space that meet limits.
class FeasibleSet {
 public:
  // The table must outlive the set. Throws Error when no architecture meets the limits: names the limits of which one
  // alone stands in the way, each with the nearest value that some architecture has within all the others, or, when no
  // single one does, the nearest architecture's values. Throws Error when there are too many sums to be kept.
  FeasibleSet(const CostTable& table, const CostLimits& limits);

  // How many there are: exact up to 2^53.
  double count() const { return count_; }
  // Smallest and largest value among them, exact.
  Range range(Metric metric) const { return ranges_[static_cast<size_t>(metric)]; }
  bool contains(const Costs& costs) const;

  // SearchSpace::sample's distribution on the condition that the limits are met.
  Architecture sample(Rng& rng) const;
  // Architecture number 0 .. count() - 1: every one has exactly one number. Throws Error beyond that.
  Architecture at(int64_t number) const;

 private:
  struct Sum {
    Costs costs;
    double ways;  // sequences of blocks that have this sum
  };
  using Level = std::vector<Sum>;  // sorted by costs
  // The feasible architectures of one width and depth.
  struct Group {
    size_t width;
    int depth;
    std::vector<Costs> sums;  // of the blocks
    std::vector<double> end;  // end[i]: ways of sums[0 .. i] together
    double count() const { return end.empty() ? 0 : end.back(); }
  };

  static Level next_level(const Level& level, const std::vector<Costs>& blocks);
  static double ways(const Level& level, const Costs& sum);
  Group group(size_t width, int depth);
  Architecture find(const Group& group, double number) const;
  [[noreturn]] void fail_empty() const;

  const CostTable& table_;
  CostLimits limits_;
  std::vector<std::vector<Level>> levels_;  // [width][number of blocks]
  std::vector<Group> groups_;
  std::array<Range, kMetrics> ranges_;
  double count_ = 0, mass_ = 0;  // mass: the probability that SearchSpace::sample meets the limits
};

}  // namespace entangle
