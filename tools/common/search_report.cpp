#include "tools/common/search_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/check.h"
#include "tools/common/correlation.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

int64_t images_of(const SearchResult& result) {
  int64_t sum = 0;
  for (const Candidate& candidate : result.candidates) sum += candidate.images;
  return sum;
}

FrontScale scale_of(const std::vector<NamedResult>& searches, const std::vector<Metric>& objectives,
                    const std::vector<Range>& ranges) {
  FrontScale scale = {objectives, ranges, 1, 0};
  for (const NamedResult& search : searches) {
    for (const Candidate& candidate : search.result.candidates) {
      if (candidate.stopped) continue;
      scale.lowest = std::min(scale.lowest, candidate.accuracy);
      scale.highest = std::max(scale.highest, candidate.accuracy);
    }
  }
  return scale;
}

}  // namespace

std::string front_json(const std::vector<Candidate>& front) {
  std::string text = "[";
  for (const Candidate& candidate : front) {
    text += concat(text.size() > 1 ? ",\n " : "\n ", "{\"accuracy\":", format("%.17g", candidate.accuracy));
    for (const Metric metric : kAllMetrics) {
      text +=
          concat(",\"", name_of(metric), metric == Metric::latency ? "_ns" : "", "\":", get(candidate.costs, metric));
    }
    text += concat(",\"architecture\":", candidate.architecture.to_json(), "}");
  }
  return text + "\n]\n";
}

std::string front_table(const std::vector<Candidate>& front, const std::vector<Metric>& objectives, size_t rows) {
  std::string text = "| top-1 |", rule = "|---|";
  for (const Metric metric : objectives) text += concat(" ", name_of(metric), " |"), rule += "---|";
  text += " architecture |\n" + rule + "---|\n";
  const size_t shown = std::min(rows, front.size());
  for (size_t i = 0; i < shown; ++i) {
    // The first and the last always.
    const Candidate& candidate = front[shown == 1 ? 0 : i * (front.size() - 1) / (shown - 1)];
    text += format("| %.2f %% |", 100 * candidate.accuracy);
    for (const Metric metric : objectives) text += concat(" ", show(metric, get(candidate.costs, metric)), " |");
    text += concat(" `", candidate.architecture.to_json(), "` |\n");
  }
  return text;
}

std::string comparison_table(const std::vector<NamedResult>& searches, const std::vector<Metric>& objectives,
                             const std::vector<Range>& ranges) {
  const FrontScale scale = scale_of(searches, objectives, ranges);
  std::string text =
      "| algorithm | candidates | images looked at | best top-1 | its params | front | hypervolume |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const NamedResult& search : searches) {
    const SearchResult& result = search.result;
    text += concat("| ", search.name, " | ", result.candidates.size(), " | ", images_of(result), " | ",
                   format("%.2f %%", 100 * result.best.accuracy), " | ", get(result.best.costs, Metric::params), " | ",
                   front_of(result.candidates, objectives).size(), " | ",
                   format("%.4f", covered_share(result.candidates, scale)), " |\n");
  }
  return text;
}

void report_work(const SearchResult& result, const RankingWork& work, int64_t images) {
  int64_t looked_at = 0, given_up = 0;
  for (const Candidate& candidate : result.candidates) {
    looked_at += candidate.images;
    given_up += candidate.stopped;
  }
  const double all = static_cast<double>(images) * static_cast<double>(result.candidates.size());
  std::printf("%lld of %zu candidates were given up: %.1f %% of the images looked at", static_cast<long long>(given_up),
              result.candidates.size(), 100 * static_cast<double>(looked_at) / all);
  if (work.unstopped > 0) {
    std::printf("; of the work in blocks %.1f %% done: %.1f %% less by giving up, %.1f %% less by shared beginnings",
                100 * static_cast<double>(work.blocks) / static_cast<double>(work.unstopped),
                100 - 100 * static_cast<double>(work.unshared) / static_cast<double>(work.unstopped),
                100 * static_cast<double>(work.unshared - work.blocks) / static_cast<double>(work.unstopped));
  }
  std::printf("\n");
}

PredictionQuality prediction_quality(const std::vector<Candidate>& candidates) {
  std::vector<double> predicted, scored;
  for (const Candidate& candidate : candidates) {
    if (!candidate.predicted || candidate.stopped) continue;
    predicted.push_back(*candidate.predicted);
    scored.push_back(candidate.accuracy);
  }
  return {scored.size(), kendall_tau(predicted, scored)};
}

void report_predictions(const SearchResult& result) {
  const PredictionQuality quality = prediction_quality(result.candidates);
  std::printf("%zu candidates were predicted and then scored completely: ", quality.scored);
  std::printf(std::isfinite(quality.tau) ? "Kendall's tau-b %.3f\n" : "too few to order\n", quality.tau);
}

void report_best(const SearchResult& result, int64_t images) {
  const Candidate& best = result.best;
  std::printf("best of %zu: top-1 %.2f %% on %lld held-out images, %lld parameters, generation %lld\n%s\n",
              result.candidates.size(), 100 * best.accuracy, static_cast<long long>(images),
              static_cast<long long>(get(best.costs, Metric::params)), static_cast<long long>(best.generation),
              best.architecture.to_json().c_str());
}

}  // namespace entangle
