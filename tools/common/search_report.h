// What a search found, as files and as lines for the reader.
#pragma once

#include <string>
#include <vector>

#include "search/front.h"
#include "tools/common/ranking.h"

namespace entangle {

// A JSON list of {"accuracy", "architecture", "params", "macs", "activation_bytes", "latency_ns"}.
std::string front_json(const std::vector<Candidate>& front);

// A Markdown table: accuracy, the objectives, the architecture; of long fronts `rows` evenly spread rows.
std::string front_table(const std::vector<Candidate>& front, const std::vector<Metric>& objectives, size_t rows);

// Searches of one space, on the same images and within the same limits.
struct NamedResult {
  std::string name;
  SearchResult result;
};

// A Markdown table: for each search its candidates, images looked at, the best accuracy and the share of the box of
// accuracy and costs that its front covers, all on one scale (FrontScale), whose costs range over what meets the
// limits.
std::string comparison_table(const std::vector<NamedResult>& searches, const std::vector<Metric>& objectives,
                             const std::vector<Range>& ranges);

// Prints how many candidates were given up, and what that and shared beginnings saved. `images` rank a candidate.
void report_work(const SearchResult& result, const RankingWork& work, int64_t images);

// How well scored candidates had been ordered by what was predicted of them.
struct PredictionQuality {
  size_t scored = 0;  // candidates that were predicted and then scored completely
  double tau = 0;     // Kendall's tau-b over them; NaN: too few to order
};
PredictionQuality prediction_quality(const std::vector<Candidate>& candidates);
// Prints it.
void report_predictions(const SearchResult& result);

// Prints the winner.
void report_best(const SearchResult& result, int64_t images);

}  // namespace entangle
