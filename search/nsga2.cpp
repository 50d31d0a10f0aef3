// NSGA-II (Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE TEVC 2002): accuracy
// against costs, all at once. The best of parents and children together survive, by front and then by crowding
// distance; parents are winners of tournaments of two. Children outside of the limits are refused, so all that compete
// are feasible.
#include <algorithm>
#include <limits>
#include <numeric>

#include "search/algorithm.h"
#include "search/draw.h"
#include "search/front.h"
#include "search/pareto.h"

namespace entangle {
namespace {

constexpr int64_t kAttemptsPerChild = 10;

struct Member {
  Candidate candidate;
  size_t front = 0;
  double distance = 0;  // crowding
};

bool fitter(const Member& a, const Member& b) {
  return a.front != b.front ? a.front < b.front : a.distance > b.distance;
}

class Nsga2 : public Algorithm {
 public:
  Nsga2(const SearchSpace& space, const SearchOptions& options)
      : space_(space), options_(options), objectives_(options.objective_metrics()) {}

  void breed(const std::vector<Candidate>& past, CandidateSource& source, Rng& rng,
             std::vector<Candidate>& out) override {
    for (; seen_ < past.size(); ++seen_) {
      if (!past[seen_].stopped) population_.push_back({past[seen_]});
    }
    survive();
    if (population_.empty()) return;
    for (int64_t i = 0; i < kAttemptsPerChild * options_.population; ++i) {
      if (static_cast<int64_t>(out.size()) == options_.population) return;
      const Architecture a = tournament(rng).candidate.architecture, b = tournament(rng).candidate.architecture;
      const bool crossing = rng.chance(0.5) && a.depth == b.depth;
      std::optional<Candidate> child = source.admit(
          crossing ? cross(a, b, rng) : mutate(space_, a, options_.mutate_block, options_.mutate_shape, rng));
      if (child) out.push_back(*std::move(child));
    }
  }

  const Candidate* bar(const Candidate& next, const std::vector<Candidate>& past) const override {
    return front_bar(next, past, objectives_);
  }

 private:
  void survive() {
    std::vector<Point> points;
    for (const Member& member : population_) points.push_back(objective_point(member.candidate, objectives_));
    const std::vector<std::vector<size_t>> fronts = sort_into_fronts(points);
    for (size_t f = 0; f < fronts.size(); ++f) {
      const std::vector<double> distances = crowding_distances(points, fronts[f]);
      for (size_t i = 0; i < fronts[f].size(); ++i) {
        population_[fronts[f][i]].front = f;
        population_[fronts[f][i]].distance = distances[i];
      }
    }
    std::stable_sort(population_.begin(), population_.end(), fitter);
    population_.resize(std::min(population_.size(), static_cast<size_t>(options_.population)));
  }

  const Member& tournament(Rng& rng) const {
    const int64_t count = static_cast<int64_t>(population_.size());
    const Member& a = population_[static_cast<size_t>(rng.below(count))];
    const Member& b = population_[static_cast<size_t>(rng.below(count))];
    return fitter(b, a) ? b : a;
  }

  const SearchSpace& space_;
  const SearchOptions& options_;
  std::vector<Metric> objectives_;
  std::vector<Member> population_;
  size_t seen_ = 0;  // candidates of the past that have competed already
};

}  // namespace

std::unique_ptr<Algorithm> make_nsga2(const SearchSpace& space, const SearchOptions& options) {
  return std::make_unique<Nsga2>(space, options);
}

}  // namespace entangle
