// How well a supernet's subnets do while it trains, on images held out of training: three landmarks, and subnets of
// each quarter of the sizes, which tell whether large subnets fall behind small ones.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/communicator.h"
#include "tools/common/config.h"
#include "tools/common/evaluate.h"

namespace entangle {

// The three subnets that stand for the space, with the keys they have in the log: smallest, middle, largest; or the
// only one, subnet.
std::vector<std::pair<const char*, Architecture>> landmarks(const Config& config);

// Some subnets of one part of the sizes.
struct SizeBucket {
  int64_t least = 0, most = 0;  // parameters, of all that were drawn for this part
  std::vector<Architecture> subnets;
};

// A thousand subnets drawn by TRAIN.seed, sorted by parameters and cut into quarters; of each quarter two, those at a
// quarter and at three quarters of its ranks. Empty for a space of one size.
std::vector<SizeBucket> size_quarters(const Config& config);

// What a look at a supernet found.
struct HealthRecord {
  nlohmann::ordered_json
      held_out;         // {"smallest": accuracy, ..., "quarter_1": mean of the smallest quarter's subnets, ...}
  std::string words;    // of the landmarks, for people: "  smallest 78.2 %  ..."
  std::string warning;  // empty: none
};

// Looks at the same images and subnets each time.
class SupernetHealth {
 public:
  // The configuration must outlive it.
  SupernetHealth(const Config& config, EvaluationSet images);
  // Collective. Throws Error as evaluate() does.
  HealthRecord look(const Supernet& supernet, Communicator& ranks) const;

 private:
  const Config& config_;
  EvaluationSet images_;
  std::vector<SizeBucket> buckets_;
};

// Says that the last bucket is behind the first one by more than two standard errors of a difference of accuracies on
// as many images; empty when it is not.
std::string size_warning(const std::vector<SizeBucket>& buckets, const std::vector<double>& accuracies, int64_t images);

}  // namespace entangle
