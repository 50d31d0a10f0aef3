// Searching a space with inherited weights. A network is seen only as a score (Evaluator) and as costs (CostTable).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "search/costs.h"

namespace entangle {

class SearchLog;

// What a search is told to do.
struct SearchOptions {
  std::string algorithm = "evolution";  // evolution | random | nsga2
  int64_t population = 50, generations = 20;
  int64_t top = 10;  // parents kept, of all time
  int64_t mutations = 25, crossovers = 25;
  double mutate_block = 0.2;  // m_prob: each mlp_ratio and num_heads
  double mutate_shape = 0.4;  // s_prob: depth, embed_dim
  uint64_t seed = 0;
  // Inclusive; 0: no limit.
  int64_t min_params = 0, max_params = 0, min_macs = 0, max_macs = 0;
  int64_t min_activation_bytes = 0, max_activation_bytes = 0;
  double min_latency_ms = 0, max_latency_ms = 0;
  std::string objectives = "params,macs";  // the costs that the front, and NSGA-II, weigh against accuracy
  bool early_stop = true;                  // whether candidates that can no longer matter are given up
  // "ridge" (evolution only): of predictor_pool times as many children those are scored that it predicts to be the best
  // (predictor.h); "none": all children are scored. What was given up teaches it nothing.
  std::string predictor = "none";
  int64_t predictor_pool = 8;
  std::string subject;  // what is scored, and on what: recorded, so that a log of another is refused

  CostLimits limits() const;
  std::vector<Metric> objective_metrics() const;
  // Whether latency is limited or an objective: the cost table must then hold it.
  bool needs_latency() const;
  // Throws Error naming the option, its value and what is allowed.
  void validate(const SearchSpace& space) const;
};

// An architecture that a search looked at, and what came of it.
struct Candidate {
  Architecture architecture;
  Costs costs = {};
  double accuracy = 0;   // on the held-out images that were looked at
  int64_t images = 0;    // how many those are; 0 where the evaluator does not count
  bool stopped = false;  // given up: it cannot matter any more; accuracy is the most that it could have reached
  int64_t generation = 0;
  std::optional<double> predicted;  // accuracy, before it was scored
};

// What a search found.
struct SearchResult {
  std::vector<Candidate> candidates;  // in order of evaluation; none twice
  Candidate best;                     // the most accurate; the earliest of equals
  bool finished = false;              // false when the caller stopped the search
};

// Scores candidates.
class Evaluator {
 public:
  // One candidate to be scored: sets accuracy, images and stopped. It may be given up once it is certain that it is no
  // more accurate than `bar`, which was scored completely; null: never.
  struct Job {
    Candidate* candidate;
    const Candidate* bar;
  };
  virtual ~Evaluator() = default;
  // How many candidates evaluate() gains from seeing at once; a killed search scores so many again.
  virtual int64_t group() const { return 1; }
  // A score must be a function of the candidate and its bar alone.
  virtual void evaluate(const std::vector<Job>& jobs) = 0;
};

using Fitness = std::function<double(const Architecture&)>;
// The evaluator of an accuracy that is always computed completely.
class FitnessEvaluator : public Evaluator {
 public:
  explicit FitnessEvaluator(Fitness fitness) : fitness_(std::move(fitness)) {}
  void evaluate(const std::vector<Job>& jobs) override {
    for (const Job& job : jobs) job.candidate->accuracy = fitness_(job.candidate->architecture);
  }

 private:
  Fitness fitness_;
};

// embed_dim, then the blocks one after another, heads before ratio: architectures with a common beginning are
// neighbours.
bool precedes(const Architecture& a, const Architecture& b);

// Called after each evaluation; returning false stops the search after this group. Candidates taken from a log are not
// reported, but count in `done`. planned = population * generations.
using SearchProgress = std::function<bool(const Candidate& candidate, int64_t done, int64_t planned)>;

// Runs the search over table.space(): `generations` times `population` candidates, none of them twice, all within the
// limits. The first generation is drawn at random; a later one holds the algorithm's children of all before it, filled
// up with random ones. Within a generation candidates are evaluated in the order of precedes(). A space with fewer
// architectures within the limits than population * generations ends the search when all are evaluated.
//
// Candidates that `log` holds already are taken from it in order instead of being evaluated again, so a search that was
// killed ends as if it had not been, with the same log to the byte.
//
// Throws Error for: options out of range; limits that no architecture of the space meets, with the nearest that can be
// met, before the log is touched; a log of other options or another space, naming the first difference; a log that
// cannot be read or written; an accuracy that is not finite, naming the architecture.
SearchResult search(const CostTable& table, const SearchOptions& options, Evaluator& evaluator, SearchLog& log,
                    const SearchProgress& progress = nullptr);

}  // namespace entangle
