#include "search/algorithm.h"

#include <algorithm>
#include <utility>

#include "engine/check.h"
#include "search/draw.h"
#include "search/front.h"

namespace entangle {
namespace {

constexpr int64_t kAttemptsPerChild = 10;
// Random draws that may meet handed-out ones before the next free architecture is looked for by its number.
constexpr int kRandomDraws = 1000;

// Candidates are independent of one another; the best counts, and the front.
class RandomSearch : public Algorithm {
 public:
  explicit RandomSearch(const SearchOptions& options) : objectives_(options.objective_metrics()) {}

  void breed(const std::vector<Candidate>&, CandidateSource&, Rng&, std::vector<Candidate>&) override {}
  const Candidate* bar(const Candidate& next, const std::vector<Candidate>& past) const override {
    return front_bar(next, past, objectives_);
  }

 private:
  const std::vector<Metric> objectives_;
};

// The published search (Guo et al., "Single path one-shot", ECCV 2020; Chen et al., "AutoFormer", ICCV 2021): parents
// are the best of all time; mutations first, then crossovers.
class Evolution : public Algorithm {
 public:
  Evolution(const SearchSpace& space, const SearchOptions& options) : space_(space), options_(options) {}

  void breed(const std::vector<Candidate>& past, CandidateSource& source, Rng& rng,
             std::vector<Candidate>& out) override {
    const std::vector<const Candidate*> parents = most_accurate(past, options_.top);
    if (parents.empty()) return;
    add_mutations(parents, source, rng, out);
    add_crossovers(parents, source, rng, out);
  }

  // The last of the parents: what stays below it has no children and is not the best.
  const Candidate* bar(const Candidate&, const std::vector<Candidate>& past) const override {
    const std::vector<const Candidate*> parents = most_accurate(past, options_.top);
    return static_cast<int64_t>(parents.size()) < options_.top ? nullptr : parents.back();
  }

 private:
  void add_mutations(const std::vector<const Candidate*>& parents, CandidateSource& source, Rng& rng,
                     std::vector<Candidate>& out) {
    int64_t missing = options_.mutations;
    for (int64_t i = 0; i < kAttemptsPerChild * options_.mutations && missing > 0; ++i) {
      const Candidate& parent = *parents[static_cast<size_t>(rng.below(static_cast<int64_t>(parents.size())))];
      std::optional<Candidate> child =
          source.admit(mutate(space_, parent.architecture, options_.mutate_block, options_.mutate_shape, rng));
      if (!child) continue;
      out.push_back(*std::move(child));
      --missing;
    }
  }

  void add_crossovers(const std::vector<const Candidate*>& parents, CandidateSource& source, Rng& rng,
                      std::vector<Candidate>& out) {
    // Every pair of different parents that has a common depth is equally likely.
    std::vector<std::pair<const Architecture*, const Architecture*>> pairs;
    for (size_t a = 0; a < parents.size(); ++a) {
      for (size_t b = a + 1; b < parents.size(); ++b) {
        if (parents[a]->architecture.depth != parents[b]->architecture.depth) continue;
        pairs.emplace_back(&parents[a]->architecture, &parents[b]->architecture);
      }
    }
    int64_t missing = pairs.empty() ? 0 : options_.crossovers;
    for (int64_t i = 0; i < kAttemptsPerChild * options_.crossovers && missing > 0; ++i) {
      const auto& pair = pairs[static_cast<size_t>(rng.below(static_cast<int64_t>(pairs.size())))];
      std::optional<Candidate> child = source.admit(cross(*pair.first, *pair.second, rng));
      if (!child) continue;
      out.push_back(*std::move(child));
      --missing;
    }
  }

  const SearchSpace& space_;
  const SearchOptions& options_;
};

}  // namespace

std::optional<Candidate> CandidateSource::admit(const Architecture& architecture) {
  const Costs costs = table_.of(architecture);
  if (!feasible_.contains(costs) || !drawn_.insert(architecture.to_json()).second) return std::nullopt;
  Candidate candidate;
  candidate.architecture = architecture;
  candidate.costs = costs;
  return candidate;
}

std::optional<Candidate> CandidateSource::random(Rng& rng) {
  if (static_cast<double>(drawn_.size()) >= feasible_.count()) return std::nullopt;
  for (int i = 0; i < kRandomDraws; ++i) {
    if (std::optional<Candidate> candidate = admit(feasible_.sample(rng))) return candidate;
  }
  // So few are left that draws hardly meet one: the first free one from a random number on.
  const int64_t count = static_cast<int64_t>(std::min(feasible_.count(), 9e15));
  const int64_t first = static_cast<int64_t>(rng.uniform() * static_cast<double>(count));
  for (int64_t i = 0; i < count; ++i) {
    if (std::optional<Candidate> candidate = admit(feasible_.at((first + i) % count))) return candidate;
  }
  return std::nullopt;
}

void CandidateSource::put_back(const Candidate& candidate) { drawn_.erase(candidate.architecture.to_json()); }

std::unique_ptr<Algorithm> make_algorithm(const SearchSpace& space, const SearchOptions& options) {
  if (options.algorithm == "random") return std::make_unique<RandomSearch>(options);
  if (options.algorithm == "nsga2") return make_nsga2(space, options);
  CHECK(options.algorithm == "evolution", "search: algorithm is \"", options.algorithm,
        "\", but must be evolution, random or nsga2");
  return std::make_unique<Evolution>(space, options);
}

std::vector<const Candidate*> most_accurate(const std::vector<Candidate>& candidates, int64_t count) {
  std::vector<const Candidate*> sorted;
  for (const Candidate& candidate : candidates) {
    if (!candidate.stopped) sorted.push_back(&candidate);
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Candidate* a, const Candidate* b) { return a->accuracy > b->accuracy; });
  sorted.resize(std::min(sorted.size(), static_cast<size_t>(count)));
  return sorted;
}

}  // namespace entangle
