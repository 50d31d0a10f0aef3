// Composing the generations of a search: which candidates are legal, and how each generation is made up.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "engine/rng.h"
#include "search/search.h"

namespace entangle {

// Hands out legal candidates: parameters within the inclusive limits, and never one twice. What is refused for its
// size is not remembered.
class CandidateSource {
 public:
  // Throws Error when the limits lie outside of the space's range. The three must outlive the source.
  CandidateSource(const SearchSpace& space, const SearchOptions& options, const ParameterCount& params);

  // The candidates of one generation, not yet evaluated: a function of the options, of the number of the generation
  // and of `past`, which holds all earlier candidates. Fewer than `population` when no more legal ones were found;
  // the search then ends. Throws Error, with what was found nearest, when there is none at all.
  std::vector<Candidate> generation(int64_t number, const std::vector<Candidate>& past);

 private:
  // The candidate when it is legal; it then counts as drawn.
  std::optional<Candidate> admit(const Architecture& architecture);
  bool is_legal(const Architecture& architecture, int64_t params);
  int64_t measure(const Architecture& architecture);

  std::optional<Candidate> random(Rng& rng);
  std::optional<Candidate> uniform(Rng& rng);
  std::optional<Candidate> enumerated(Rng& rng);
  std::optional<Candidate> walked(Rng& rng);

  void add_mutations(const std::vector<Candidate>& parents, Rng& rng, std::vector<Candidate>& out);
  void add_crossovers(const std::vector<Candidate>& parents, Rng& rng, std::vector<Candidate>& out);
  [[noreturn]] void fail_empty() const;

  const SearchSpace& space_;
  const SearchOptions& options_;
  const ParameterCount& params_;
  Range range_, limits_;
  std::unordered_set<std::string> drawn_;  // as text
  // The parameter counts nearest to the limits among what was refused for its size.
  int64_t nearest_below_ = std::numeric_limits<int64_t>::min();
  int64_t nearest_above_ = std::numeric_limits<int64_t>::max();
};

// The `count` most accurate candidates, best first; equal ones in the order of evaluation.
std::vector<Candidate> most_accurate(const std::vector<Candidate>& candidates, int64_t count);

}  // namespace entangle
