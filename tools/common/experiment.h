// What the reports of experiments are made of: finished runs read back, subnets evaluated, tables of several seeds.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "search/search.h"
#include "tools/common/config.h"
#include "tools/common/evaluate.h"
#include "tools/common/models.h"

namespace entangle {

// The figures of an epoch, from a run's log.
struct EpochRecord {
  double passes = 0;             // over the training images from the start, each subnet of a step counted
  double loss = 0;               // mean over the epoch's steps
  std::vector<double> held_out;  // top-1 of the smallest, middle and largest subnet; empty: not measured
};

struct RunRecord {
  std::string path;
  Config config;
  std::vector<EpochRecord> epochs;
  int64_t peak_memory = 0;  // bytes of the allocator, the largest of all steps
  double minutes = 0;       // that the steps took
};

// Reads DIR/config.yaml and DIR/log.jsonl. Throws Error when the run is missing, or has not come to its last step.
RunRecord read_training(const std::string& path);

// The completely scored candidates of DIR/search.jsonl, in its order. Throws Error when there are none.
std::vector<Candidate> read_candidates(const std::string& path);

// `images` of the data set's test images, evenly spread; 0: all.
EvaluationSet test_images(const Config& config, const DataSource& source, int64_t images);

// The smallest, the largest, and between them architectures at evenly spaced numbers of parameters, by rising number:
// of a thousand random ones the nearest. Throws Error when count < 2, or the space has too few.
std::vector<Architecture> spread_architectures(const Config& config, int64_t count, uint64_t seed);

// "84.21", or of several values their mean and range, "84.21 (84.10 to 84.33)".
std::string spread_text(const std::vector<double>& values, int digits);

}  // namespace entangle
