// What a run directory says, read for a report: as much as can be read, with a sentence for all that cannot.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "search/search.h"
#include "tools/common/config.h"
#include "tools/common/evaluate.h"

namespace entangle {

// A line of log.jsonl; NaN where it says nothing.
struct StepRecord {
  int64_t step = 0, epoch = 0;  // epoch 0: it says none
  double loss = 0, lr = 0, img_per_s = 0, memory = 0;
  double params = 0;  // of the drawn architecture
};

// Held-out accuracy (0 to 1) after a step, by the log's names: smallest, middle, largest; or subnet.
struct HeldOutRecord {
  int64_t step = 0, epoch = 0;
  std::map<std::string, double> accuracy;
};

// How often each choice was drawn. Depth and width are drawn once a step, heads and ratio once a block.
struct DrawCounts {
  std::map<double, int64_t> depth, embed_dim, num_heads, mlp_ratio;
};

struct TrainingLog {
  std::vector<StepRecord> steps;  // in the file's order
  std::vector<HeldOutRecord> held_out;
  DrawCounts drawn;
  int64_t not_finite = 0;  // steps whose loss is there and no finite number
};

// search.jsonl, or the search-NAME.jsonl of a comparison.
struct SearchRecord {
  std::string file, algorithm;
  SearchOptions options;  // the limits, objectives, population, generations and seed of its header
  std::vector<Candidate> candidates;
  bool ended = false;              // whether the record of its end is there
  std::optional<Evaluation> test;  // of the winner
};

struct Winner {
  Architecture architecture;
  std::optional<Candidate> candidate;  // as the search scored it
  bool final = false;                  // best_architecture.json says so; otherwise the best of a search so far
};

struct RunData {
  std::string path, name;            // name: the directory's last part
  std::vector<std::string> missing;  // sentences: what is not there or cannot be read
  std::optional<Config> config;
  std::string weights;                            // the file of its weights; empty: none
  std::map<std::string, std::string> checkpoint;  // its metadata
  std::map<std::string, std::string> environment;
  TrainingLog log;
  std::vector<SearchRecord> searches;  // search.jsonl first
  std::optional<Winner> winner;
};

// `weights`: of a directory that has no checkpoint, the weights that it is about. Throws Error when the path is no run
// directory: nothing there, no directory, or none of a run's files in it.
RunData read_run(const std::string& path, const std::string& weights = "");

// What the winner costs; none without a configuration, or when it does not fit it.
std::optional<Costs> winner_costs(const RunData& run);

}  // namespace entangle
