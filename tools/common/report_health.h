// Whether a supernet was trained well, judged by what its run wrote down. Each judgement says the figures that it rests on.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "tools/common/report_data.h"

namespace entangle {

// unclear: looked at, but the difference is below what the evidence can tell; unknown: there is nothing to look at.
enum class Verdict { good, bad, unclear, unknown };

struct Finding {
  Verdict verdict;
  std::string question, answer;
};

struct Health {
  // bad when one finding is; good when the loss fell, the largest subnet was judged, nothing is bad and more is good than
  // unclear.
  Verdict verdict = Verdict::unknown;
  std::string words;  // a sentence
  std::vector<Finding> findings;
};

// Differences of accuracies count when they exceed two standard errors, of as many images as were looked at; of losses,
// two of the mean over steps; rank correlations when they exceed two of those of unrelated lists. Answers say that threshold.
Health judge_health(const RunData& run);

// How often a choice was drawn, against how often it should be.
struct DrawShare {
  double choice;
  int64_t drawn;
  double share, expected, error;  // error: standard error of the share at that expectation
};
// The choices of a list and all others that were drawn; those are expected never.
template <class Choice>
std::vector<DrawShare> draw_shares(const std::map<double, int64_t>& drawn, const std::vector<Choice>& choices) {
  std::map<double, int64_t> all = drawn;
  for (const Choice choice : choices) all[static_cast<double>(choice)] += 0;
  int64_t total = 0;
  for (const auto& [choice, count] : all) total += count;
  std::vector<DrawShare> shares;
  for (const auto& [choice, count] : all) {
    bool known = false;
    for (const Choice c : choices) known = known || static_cast<double>(c) == choice;
    const double p = known ? 1.0 / static_cast<double>(choices.size()) : 0;
    const double n = total > 0 ? static_cast<double>(total) : 1;
    shares.push_back({choice, count, static_cast<double>(count) / n, p, std::sqrt(p * (1 - p) / n)});
  }
  return shares;
}

}  // namespace entangle
