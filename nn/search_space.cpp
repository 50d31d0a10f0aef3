#include <algorithm>
#include <cmath>

#include "engine/check.h"
#include "nn/architecture.h"

namespace entangle {
namespace {

template <class Number>
void check_choices(const char* name, const std::vector<Number>& list, Number largest) {
  CHECK(!list.empty(), "search space: ", name, " has no choices");
  for (size_t i = 0; i < list.size(); ++i) {
    // Written so that NaN fails.
    CHECK(list[i] > 0 && list[i] <= largest, "search space: ", name, " has the choice ", list[i],
          ", but must be above 0 and at most ", largest);
    CHECK(i == 0 || list[i] > list[i - 1], "search space: ", name, " has ", list[i], " after ", list[i - 1],
          ", but its choices must rise, each named once");
  }
}

template <class Number>
Number draw(const std::vector<Number>& list, Rng& rng) {
  return list[static_cast<size_t>(rng.below(static_cast<int64_t>(list.size())))];
}

template <class Number>
bool has(const std::vector<Number>& list, Number value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

template <class Number>
Number middle_of(const std::vector<Number>& list) {
  return list[list.size() / 2];
}

}  // namespace

void SearchSpace::validate() const {
  check_choices("depth", depth, LargestSize::depth);
  check_choices("embed_dim", embed_dim, LargestSize::embed_dim);
  check_choices("mlp_ratio", mlp_ratio, LargestSize::mlp_ratio);
  check_choices("num_heads", num_heads, LargestSize::num_heads);
  CHECK(hidden_width(embed_dim.front(), mlp_ratio.front()) >= 1, "search space: mlp_ratio ", mlp_ratio.front(),
        " leaves an MLP without a hidden unit at embed_dim ", embed_dim.front());
}

Architecture SearchSpace::sample(Rng& rng) const {
  Architecture out;
  out.depth = draw(depth, rng);
  for (int i = 0; i < out.depth; ++i) out.mlp_ratio.push_back(draw(mlp_ratio, rng));
  for (int i = 0; i < out.depth; ++i) out.num_heads.push_back(draw(num_heads, rng));
  out.embed_dim = draw(embed_dim, rng);
  return out;
}

Architecture SearchSpace::smallest() const {
  return Architecture::uniform(depth.front(), embed_dim.front(), num_heads.front(), mlp_ratio.front());
}

Architecture SearchSpace::largest() const {
  return Architecture::uniform(depth.back(), embed_dim.back(), num_heads.back(), mlp_ratio.back());
}

Architecture SearchSpace::middle() const {
  return Architecture::uniform(middle_of(depth), middle_of(embed_dim), middle_of(num_heads), middle_of(mlp_ratio));
}

bool SearchSpace::contains(const Architecture& architecture) const {
  const size_t blocks = static_cast<size_t>(std::max(architecture.depth, 0));
  return has(depth, architecture.depth) && has(embed_dim, architecture.embed_dim) &&
         architecture.mlp_ratio.size() == blocks && architecture.num_heads.size() == blocks &&
         std::all_of(architecture.mlp_ratio.begin(), architecture.mlp_ratio.end(),
                     [this](double ratio) { return has(mlp_ratio, ratio); }) &&
         std::all_of(architecture.num_heads.begin(), architecture.num_heads.end(),
                     [this](int heads) { return has(num_heads, heads); });
}

double SearchSpace::count() const {
  const double per_block = static_cast<double>(mlp_ratio.size()) * static_cast<double>(num_heads.size());
  double sum = 0;
  for (const int blocks : depth) sum += std::pow(per_block, blocks);
  return sum * static_cast<double>(embed_dim.size());
}

}  // namespace entangle
