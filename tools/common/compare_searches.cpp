#include "tools/common/compare_searches.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"
#include "search/feasible.h"
#include "search/front.h"
#include "tools/common/experiment.h"
#include "tools/common/model_costs.h"
#include "tools/common/progress.h"
#include "tools/common/report_data.h"
#include "tools/common/search_report.h"

namespace entangle {
namespace {

// A finished search.
struct Search {
  SearchRecord record;
  std::vector<double> best, covered;  // top-1 in per cent, share: after each generation
};

struct Label {
  std::string name;
  std::vector<Search> seeds;
};

Search read_search(const std::string& directory, Config& config) {
  RunData run = read_run(directory);
  CHECK(run.config && !run.searches.empty(), directory,
        " has no search.jsonl with its config.yaml: search with --output ", directory);
  SearchRecord& record = run.searches.front();
  CHECK(record.ended && record.test, directory,
        ": its search is not finished: give the same command again to continue");
  config = *run.config;
  return {std::move(record), {}, {}};
}

void check_comparable(const Search& search, const Search& first, const std::string& directory) {
  const SearchOptions &a = search.record.options, &b = first.record.options;
  CHECK(a.subject == b.subject, directory, " is of other weights or images than the first search");
  CHECK(a.objectives == b.objectives && a.limits() == b.limits(), directory,
        " has other objectives or limits than the first search");
}

// What each candidate, and those before it, come to.
void follow(Search& search, const FrontScale& scale) {
  const std::vector<Candidate>& all = search.record.candidates;
  std::vector<Candidate> seen;
  double best = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    seen.push_back(all[i]);
    if (!all[i].stopped) best = std::max(best, all[i].accuracy);
    if (i + 1 < all.size() && all[i + 1].generation == all[i].generation) continue;
    search.best.push_back(100 * best);
    search.covered.push_back(covered_share(seen, scale));
  }
}

// Of the searches of one seed: the lowest and the highest accuracy among all.
FrontScale scale_of(const std::vector<Label>& labels, size_t seed, const std::vector<Metric>& objectives,
                    const std::vector<Range>& ranges) {
  FrontScale scale = {objectives, ranges, 1, 0};
  for (const Label& label : labels) {
    for (const Candidate& candidate : label.seeds[seed].record.candidates) {
      if (candidate.stopped) continue;
      scale.lowest = std::min(scale.lowest, candidate.accuracy);
      scale.highest = std::max(scale.highest, candidate.accuracy);
    }
  }
  return scale;
}

template <class Value>
std::string over_seeds(const Label& label, int digits, const Value& value) {
  std::vector<double> values;
  for (const Search& search : label.seeds) values.push_back(value(search));
  return spread_text(values, digits);
}

const Candidate& best_of(const Search& search) {
  const auto less = [](const Candidate& a, const Candidate& b) {
    return !b.stopped && (a.stopped || a.accuracy < b.accuracy);
  };
  return *std::max_element(search.record.candidates.begin(), search.record.candidates.end(), less);
}

double predictions_tau(const Search& search) { return prediction_quality(search.record.candidates).tau; }

std::string row_of(const Label& label, const Label& last) {
  int64_t seeds_ahead = 0;
  for (size_t seed = 0; seed < label.seeds.size(); ++seed) {
    seeds_ahead += label.seeds[seed].covered.back() >= last.seeds[seed].covered.back();
  }
  const auto all_finite = [](const Search& search) { return std::isfinite(predictions_tau(search)); };
  const bool predicted = std::all_of(label.seeds.begin(), label.seeds.end(), all_finite);
  return concat(
      "| ", label.name, " | ", label.seeds.size(), " | ", label.seeds[0].record.candidates.size(), " | ",
      over_seeds(label, 0,
                 [](const Search& search) {
                   double images = 0;
                   for (const Candidate& candidate : search.record.candidates)
                     images += static_cast<double>(candidate.images);
                   return images;
                 }),
      " | ", over_seeds(label, 2, [](const Search& search) { return search.best.back(); }), " | ",
      over_seeds(label, 2, [](const Search& search) { return 100 * search.record.test->accuracy(); }), " | ",
      over_seeds(
          label, 3,
          [](const Search& search) { return 1e-6 * static_cast<double>(get(best_of(search).costs, Metric::params)); }),
      " | ", over_seeds(label, 4, [](const Search& search) { return search.covered.back(); }), " | ", seeds_ahead,
      " of ", label.seeds.size(), " | ", predicted ? over_seeds(label, 3, predictions_tau) : "–", " |\n");
}

// Mean over the seeds, with the lowest and the highest.
PlotSeries curve_of(const Label& label, std::vector<double> Search::*values, int colour) {
  PlotSeries series = {label.name, colour};
  const size_t generations = (label.seeds[0].*values).size();
  for (size_t g = 0; g < generations; ++g) {
    double sum = 0, low = INFINITY, high = -INFINITY;
    for (const Search& search : label.seeds) {
      const double value = (search.*values)[std::min(g, (search.*values).size() - 1)];
      sum += value, low = std::min(low, value), high = std::max(high, value);
    }
    const double candidates =
        static_cast<double>(label.seeds[0].record.candidates.size() * (g + 1)) / static_cast<double>(generations);
    series.points.push_back({candidates, sum / static_cast<double>(label.seeds.size())});
    series.spread.emplace_back(low, high);
  }
  return series;
}

}  // namespace

SearchComparison compare_searches(const std::vector<SearchGroup>& groups) {
  std::vector<Label> labels;
  Config config;
  for (const SearchGroup& group : groups) {
    labels.push_back({group.label, {}});
    for (const std::string& directory : group.directories) {
      labels.back().seeds.push_back(read_search(directory, config));
      check_comparable(labels.back().seeds.back(), labels[0].seeds[0], directory);
    }
    CHECK(group.directories.size() == groups[0].directories.size(), group.label, " has ", group.directories.size(),
          " seeds, ", groups[0].label, " ", groups[0].directories.size());
  }
  const SearchOptions& options = labels[0].seeds[0].record.options;
  CHECK(!options.needs_latency(), "searches by latency are not compared here: it is measured, and not repeatable");
  const CostTable costs = model_costs(config.model, config.space, config.search.batch_size);
  const FeasibleSet feasible(costs, options.limits());
  const std::vector<Metric> objectives = options.objective_metrics();
  std::vector<Range> ranges;
  for (const Metric metric : objectives) ranges.push_back(feasible.range(metric));
  for (size_t seed = 0; seed < groups[0].directories.size(); ++seed) {
    const FrontScale scale = scale_of(labels, seed, objectives, ranges);
    for (Label& label : labels) follow(label.seeds[seed], scale);
  }
  SearchComparison comparison;
  comparison.text = concat(
      "Of several seeds the mean, and from the lowest to the highest. Top-1 in per cent. *Hypervolume*: the share of "
      "the box of "
      "accuracy and ",
      options.objectives,
      " that the completely scored candidates dominate, from the lowest to the highest "
      "accuracy of all searches of a seed and over the costs within the limits; *ahead*: seeds in which it is at least "
      "that of ",
      labels.back().name,
      ". *Tau*: Kendall's tau-b between what was predicted of candidates and what they then scored.\n\n"
      "| | seeds | candidates | images looked at | best held-out | its test | its parameters, M | hypervolume | ahead "
      "| tau |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  Plot best = {"best so far", {"candidates"}, {"held-out top-1, %"}, {}};
  Plot covered = {"front", {"candidates"}, {"hypervolume"}, {}};
  for (size_t i = 0; i < labels.size(); ++i) {
    comparison.text += row_of(labels[i], labels.back());
    best.series.push_back(curve_of(labels[i], &Search::best, static_cast<int>(i)));
    covered.series.push_back(curve_of(labels[i], &Search::covered, static_cast<int>(i)));
  }
  comparison.panels = {best, covered};
  return comparison;
}

}  // namespace entangle
