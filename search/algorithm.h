// What a search algorithm decides: the children of a generation, and which candidates still matter to it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "search/feasible.h"
#include "search/search.h"

namespace entangle {

// Hands out candidates, each within the limits and none twice.
class CandidateSource {
 public:
  // Both must outlive the source.
  CandidateSource(const CostTable& table, const FeasibleSet& feasible) : table_(table), feasible_(feasible) {}

  // The candidate of a child when it meets the limits and was not handed out before; it now is.
  std::optional<Candidate> admit(const Architecture& architecture);
  // As SearchSpace::sample among those that meet the limits and are not handed out; none when none is left.
  std::optional<Candidate> random(Rng& rng);
  // May be handed out again.
  void put_back(const Candidate& candidate);

 private:
  const CostTable& table_;
  const FeasibleSet& feasible_;
  std::unordered_set<std::string> drawn_;  // as text
};

// A way to search: evolution, random search, NSGA-II.
class Algorithm {
 public:
  virtual ~Algorithm() = default;
  // Adds to `out`, at most until it holds the population, the children made of `past`: all candidates before, in order.
  // It grows by one generation from call to call.
  virtual void breed(const std::vector<Candidate>& past, CandidateSource& source, Rng& rng,
                     std::vector<Candidate>& out) = 0;
  // The candidate of `past` that `next` must exceed in accuracy to change what the search does later or finds; null
  // when there is none.
  virtual const Candidate* bar(const Candidate& next, const std::vector<Candidate>& past) const = 0;
};

// The algorithm that the options name. Both arguments must outlive it.
std::unique_ptr<Algorithm> make_algorithm(const SearchSpace& space, const SearchOptions& options);
std::unique_ptr<Algorithm> make_nsga2(const SearchSpace& space, const SearchOptions& options);

// The `count` most accurate of the completely scored candidates, best first; equal ones in their order.
std::vector<const Candidate*> most_accurate(const std::vector<Candidate>& candidates, int64_t count);

}  // namespace entangle
