#include "search/strategy.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "engine/check.h"

namespace entangle {
namespace {

const std::vector<std::string> kDimensions = {"depth", "mlp_ratio", "num_heads", "embed_dim"};

// Words between commas, without the spaces around them.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) {
    const size_t begin = word.find_first_not_of(' '), end = word.find_last_not_of(' ');
    words.push_back(begin == std::string::npos ? "" : word.substr(begin, end - begin + 1));
  }
  return words;
}

template <class Number>
std::vector<Number> largest_of(const std::vector<Number>& choices) {
  return {choices.back()};
}

// Adds the largest choice that `open` lacks; false when it has all.
template <class Number>
bool open_one(const std::vector<Number>& choices, std::vector<Number>& open) {
  if (open.size() == choices.size()) return false;
  open.insert(open.begin(), choices[choices.size() - 1 - open.size()]);
  return true;
}

bool open_one(const SearchSpace& space, const std::string& dimension, SearchSpace& open) {
  if (dimension == "depth") return open_one(space.depth, open.depth);
  if (dimension == "mlp_ratio") return open_one(space.mlp_ratio, open.mlp_ratio);
  if (dimension == "num_heads") return open_one(space.num_heads, open.num_heads);
  return open_one(space.embed_dim, open.embed_dim);
}

}  // namespace

void StrategyOptions::validate() const {
  CHECK(name == "uniform" || name == "sandwich" || name == "progressive", "TRAIN.strategy is ", name,
        ", but must be uniform, sandwich or progressive");
  CHECK(!inplace_distillation || name == "sandwich", "TRAIN.inplace_distillation needs TRAIN.strategy=sandwich: with ",
        name, " there is no other subnet in a step to learn from");
  const std::vector<std::string> order = words_of(open_order);
  const bool complete = std::is_permutation(order.begin(), order.end(), kDimensions.begin(), kDimensions.end());
  CHECK(complete, "TRAIN.open_order is '", open_order,
        "', but must name depth, mlp_ratio, num_heads and embed_dim, each once, with commas between them");
  CHECK(random_subnets >= 0, "TRAIN.random_subnets is ", random_subnets, ", but must be 0 or more");
  CHECK(open_by >= 0 && open_by <= 1, "TRAIN.open_by is ", open_by, ", but must lie in 0 .. 1");
}

Strategy::Strategy(const StrategyOptions& options, const SearchSpace& space, int64_t total_steps, uint64_t seed)
    : options_(options), seed_(seed), stages_({{0, space}}) {
  options.validate();
  space.validate();
  if (options.name == "progressive") open_progressively(total_steps);
}

void Strategy::open_progressively(int64_t total_steps) {
  const SearchSpace all = stages_.back().space;
  SearchSpace open = {largest_of(all.depth), largest_of(all.embed_dim), largest_of(all.mlp_ratio),
                      largest_of(all.num_heads)};
  stages_ = {{0, open}};
  for (const std::string& dimension : words_of(options_.open_order)) {
    while (open_one(all, dimension, open)) stages_.push_back({0, open});
  }
  const double count = static_cast<double>(stages_.size() - 1),
               until = options_.open_by * static_cast<double>(total_steps);
  for (size_t i = 1; i < stages_.size(); ++i) {
    stages_[i].first_step = static_cast<int64_t>(std::ceil(until * static_cast<double>(i) / count));
  }
}

const SearchSpace& Strategy::space_at(int64_t step) const {
  size_t at = 0;
  while (at + 1 < stages_.size() && stages_[at + 1].first_step <= step) ++at;
  return stages_[at].space;
}

StepPlan Strategy::plan(int64_t step) const {
  const SearchSpace& space = space_at(step);
  Rng rng(seed_, Stream::architecture, static_cast<uint64_t>(step));
  if (options_.name != "sandwich") return {{space.sample(rng)}};
  StepPlan plan = {{space.largest()}, {space.smallest()}};
  for (int64_t i = 0; i < options_.random_subnets; ++i) plan.push_back({space.sample(rng)});
  for (PlannedSubnet& subnet : plan) subnet.weight = 1 / static_cast<double>(plan.size());
  if (options_.inplace_distillation) {
    for (size_t i = 1; i < plan.size(); ++i) plan[i].teacher = 0;
  }
  return plan;
}

}  // namespace entangle
