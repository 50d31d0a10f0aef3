#include "search/search.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "engine/check.h"
#include "search/algorithm.h"
#include "search/predictor.h"
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

template <class Number>
void check_limits(const char* name, Number min, Number max) {
  CHECK(min >= 0 && max >= 0, "search: min_", name, " ", min, " and max_", name, " ", max,
        " must not be negative (0: no limit)");
  CHECK(max == 0 || min <= max, "search: min_", name, " ", min, " is above max_", name, " ", max);
}

Limit limit(int64_t min, int64_t max) { return max > 0 ? Limit{min, max} : Limit{min}; }

// As the options, with as many children of a generation as the predictor chooses from.
SearchOptions pool_of(SearchOptions options) {
  if (options.predictor == "none") return options;
  for (int64_t* count : {&options.population, &options.mutations, &options.crossovers})
    *count *= options.predictor_pool;
  return options;
}

class Search {
 public:
  Search(const CostTable& table, const SearchOptions& options, Evaluator& evaluator, SearchLog& log,
         const SearchProgress& progress)
      : options_(options),
        pool_options_(pool_of(options)),
        predictor_(table.space()),
        feasible_(table, options.limits()),
        source_(table, feasible_),
        algorithm_(make_algorithm(table.space(), pool_options_)),
        evaluator_(evaluator),
        log_(log),
        progress_(progress) {}

  SearchResult run() {
    for (int64_t number = 0; number < options_.generations; ++number) {
      std::vector<Candidate> generation = compose(number);
      const bool stopped = !evaluate(generation);
      result_.candidates.insert(result_.candidates.end(), generation.begin(), generation.end());
      if (stopped) return finish(false);
      if (static_cast<int64_t>(generation.size()) < options_.population) break;  // no more are left
    }
    log_.check_all_taken();
    return finish(true);
  }

 private:
  // A function of the options, of the number of the generation and of all candidates before.
  std::vector<Candidate> compose(int64_t number) {
    Rng rng(options_.seed, Stream::search, static_cast<uint64_t>(number));
    std::vector<Candidate> out;
    if (number > 0) algorithm_->breed(result_.candidates, source_, rng, out);
    if (options_.predictor != "none") choose(out);
    while (static_cast<int64_t>(out.size()) < options_.population) {
      std::optional<Candidate> candidate = source_.random(rng);
      if (!candidate) break;
      out.push_back(*std::move(candidate));
    }
    std::sort(out.begin(), out.end(),
              [](const Candidate& a, const Candidate& b) { return precedes(a.architecture, b.architecture); });
    for (Candidate& candidate : out) candidate.generation = number;
    return out;
  }

  // Leaves as many children as are to be scored: those predicted to be the most accurate, the earlier of equals.
  void choose(std::vector<Candidate>& children) {
    if (children.empty() || !predictor_.fit(result_.candidates)) return;
    for (Candidate& child : children) child.predicted = predictor_.predict(child.architecture);
    std::stable_sort(children.begin(), children.end(),
                     [](const Candidate& a, const Candidate& b) { return a.predicted > b.predicted; });
    const auto wanted = static_cast<size_t>(options_.mutations + options_.crossovers);
    for (; children.size() > wanted; children.pop_back()) source_.put_back(children.back());
  }

  // Takes what the log holds from there and evaluates the others, a group at a time. Returns false, and cuts the
  // generation to what was evaluated, when the caller stopped the search.
  bool evaluate(std::vector<Candidate>& generation) {
    size_t done = 0;
    while (done < generation.size() && log_.take(generation[done])) ++done;
    while (done < generation.size()) {
      const size_t end = std::min(generation.size(), done + static_cast<size_t>(evaluator_.group()));
      std::vector<Evaluator::Job> jobs;
      for (size_t i = done; i < end; ++i) {
        jobs.push_back(
            {&generation[i], options_.early_stop ? algorithm_->bar(generation[i], result_.candidates) : nullptr});
      }
      evaluator_.evaluate(jobs);
      bool go_on = true;
      for (; done < end; ++done) go_on = record(generation[done], static_cast<int64_t>(done)) && go_on;
      if (go_on) continue;
      generation.resize(done);
      return false;
    }
    return true;
  }

  bool record(const Candidate& candidate, int64_t before_it) {
    CHECK(std::isfinite(candidate.accuracy), "the accuracy of ", candidate.architecture.to_json(), " is ",
          candidate.accuracy, ": its weights give no usable output");
    log_.append(candidate);
    const int64_t done = static_cast<int64_t>(result_.candidates.size()) + before_it + 1;
    return !progress_ || progress_(candidate, done, options_.population * options_.generations);
  }

  SearchResult finish(bool finished) {
    const std::vector<const Candidate*> best = most_accurate(result_.candidates, 1);
    if (!best.empty()) result_.best = *best.front();
    result_.finished = finished;
    return std::move(result_);
  }

  const SearchOptions& options_;
  const SearchOptions pool_options_;
  AccuracyPredictor predictor_;
  FeasibleSet feasible_;
  CandidateSource source_;
  std::unique_ptr<Algorithm> algorithm_;
  Evaluator& evaluator_;
  SearchLog& log_;
  const SearchProgress& progress_;
  SearchResult result_;
};

}  // namespace

bool precedes(const Architecture& a, const Architecture& b) {
  if (a.embed_dim != b.embed_dim) return a.embed_dim < b.embed_dim;
  const size_t blocks = std::min(a.num_heads.size(), b.num_heads.size());
  for (size_t i = 0; i < blocks; ++i) {
    const auto left = std::make_tuple(a.num_heads[i], a.mlp_ratio[i]);
    const auto right = std::make_tuple(b.num_heads[i], b.mlp_ratio[i]);
    if (left != right) return left < right;
  }
  return a.depth < b.depth;
}

CostLimits SearchOptions::limits() const {
  const auto nanoseconds = [](double ms) { return static_cast<int64_t>(std::llround(ms * 1e6)); };
  return {limit(min_params, max_params), limit(min_macs, max_macs), limit(min_activation_bytes, max_activation_bytes),
          limit(nanoseconds(min_latency_ms), nanoseconds(max_latency_ms))};
}

std::vector<Metric> SearchOptions::objective_metrics() const {
  std::vector<Metric> metrics;
  for (size_t begin = 0; begin <= objectives.size();) {
    const size_t end = std::min(objectives.find(',', begin), objectives.size());
    const Metric metric = parse_metric(objectives.substr(begin, end - begin));
    CHECK(std::find(metrics.begin(), metrics.end(), metric) == metrics.end(), "search: objectives names ",
          name_of(metric), " twice");
    metrics.push_back(metric);
    begin = end + 1;
  }
  return metrics;
}

bool SearchOptions::needs_latency() const {
  const std::vector<Metric> metrics = objective_metrics();
  return min_latency_ms > 0 || max_latency_ms > 0 ||
         std::find(metrics.begin(), metrics.end(), Metric::latency) != metrics.end();
}

void SearchOptions::validate(const SearchSpace& space) const {
  space.validate();
  make_algorithm(space, *this);
  check_count("population", population, 1);
  check_count("generations", generations, 1);
  check_count("top", top, 1);
  check_count("mutations", mutations, 0);
  check_count("crossovers", crossovers, 0);
  CHECK(algorithm != "evolution" || mutations + crossovers <= population, "search: mutations ", mutations,
        " and crossovers ", crossovers, " are together more than the population of ", population,
        ": lower them or raise population");
  CHECK(predictor == "none" || predictor == "ridge", "search: predictor is \"", predictor,
        "\", but must be none or ridge");
  CHECK(predictor == "none" || algorithm == "evolution", "search: predictor ", predictor,
        " goes with algorithm evolution, not with ", algorithm);
  check_count("predictor_pool", predictor_pool, 1);
  if (predictor != "none") check_count("population times predictor_pool", population * predictor_pool, 1);
  check_probability("mutate_block", mutate_block);
  check_probability("mutate_shape", mutate_shape);
  check_limits("params", min_params, max_params);
  check_limits("macs", min_macs, max_macs);
  check_limits("activation_bytes", min_activation_bytes, max_activation_bytes);
  check_limits("latency_ms", min_latency_ms, max_latency_ms);
  objective_metrics();
}

SearchResult search(const CostTable& table, const SearchOptions& options, Evaluator& evaluator, SearchLog& log,
                    const SearchProgress& progress) {
  options.validate(table.space());
  // CostLimits that cannot be met leave no file behind: they are refused before the log is opened.
  Search search(table, options, evaluator, log, progress);
  log.open(table.space(), options);
  return search.run();
}

}  // namespace entangle
