#include "search/search.h"

#include <cmath>

#include "engine/check.h"
#include "search/generation.h"
#include "search/search_log.h"

namespace entangle {
namespace {

constexpr int64_t kLargestCount = 1000000;

void check_count(const char* name, int64_t value, int64_t least) {
  CHECK(value >= least && value <= kLargestCount, "search: ", name, " is ", value, ", but must lie in ", least, " .. ",
        kLargestCount);
}

// Written so that NaN fails.
void check_probability(const char* name, double value) {
  CHECK(value >= 0 && value <= 1, "search: ", name, " is ", value, ", but must lie in 0 .. 1");
}

// What was found so far. A candidate that the log holds is taken from it; the others are evaluated.
class Evaluation {
 public:
  Evaluation(const SearchOptions& options, const Fitness& fitness, const SearchProgress& progress, SearchLog& log)
      : planned_(options.population * options.generations), fitness_(fitness), progress_(progress), log_(log) {}

  // Returns false when the caller stopped the search.
  bool run(const std::vector<Candidate>& generation) {
    for (Candidate candidate : generation) {
      const bool known = log_.take(candidate);
      if (!known) evaluate(candidate);
      keep(candidate);
      const int64_t done = static_cast<int64_t>(result.candidates.size());
      if (!known && progress_ && !progress_(candidate, done, planned_)) return false;
    }
    return true;
  }

  SearchResult result;

 private:
  void evaluate(Candidate& candidate) {
    candidate.accuracy = fitness_(candidate.architecture);
    CHECK(std::isfinite(candidate.accuracy), "the accuracy of ", candidate.architecture.to_json(), " is ",
          candidate.accuracy, ": its weights give no usable output");
    log_.append(candidate);
  }

  void keep(const Candidate& candidate) {
    if (result.candidates.empty() || candidate.accuracy > result.best.accuracy) result.best = candidate;
    result.candidates.push_back(candidate);
  }

  int64_t planned_;
  const Fitness& fitness_;
  const SearchProgress& progress_;
  SearchLog& log_;
};

}  // namespace

void SearchOptions::validate(const SearchSpace& space) const {
  space.validate();
  CHECK(algorithm == "evolution" || algorithm == "random", "search: algorithm is \"", algorithm,
        "\", but must be evolution or random");
  check_count("population", population, 1);
  check_count("generations", generations, 1);
  check_count("top", top, 1);
  check_count("mutations", mutations, 0);
  check_count("crossovers", crossovers, 0);
  CHECK(algorithm != "evolution" || mutations + crossovers <= population, "search: mutations ", mutations,
        " and crossovers ", crossovers, " are together more than the population of ", population,
        ": lower them or raise population");
  check_probability("mutate_block", mutate_block);
  check_probability("mutate_shape", mutate_shape);
  CHECK(min_params >= 0 && max_params >= 0, "search: min_params ", min_params, " and max_params ", max_params,
        " must not be negative (0: no limit)");
  CHECK(max_params == 0 || min_params <= max_params, "search: min_params ", min_params, " is above max_params ",
        max_params);
}

Range parameter_range(const SearchSpace& space, const ParameterCount& params) {
  return {params(space.smallest()), params(space.largest())};
}

SearchResult search(const SearchSpace& space, const SearchOptions& options, const Fitness& fitness,
                    const ParameterCount& params, const std::string& log, const SearchProgress& progress) {
  options.validate(space);
  CandidateSource source(space, options, params);
  // Drawn before the log is touched: limits that cannot be met leave no file behind.
  std::vector<Candidate> generation = source.generation(0, {});
  SearchLog file(log, space, options);
  Evaluation evaluation(options, fitness, progress, file);
  for (int64_t number = 1;; ++number) {
    if (!evaluation.run(generation)) return evaluation.result;
    const bool exhausted = static_cast<int64_t>(generation.size()) < options.population;
    if (exhausted || number == options.generations) break;
    generation = source.generation(number, evaluation.result.candidates);
  }
  file.check_all_taken();
  return evaluation.result;
}

}  // namespace entangle
