#include "search/costs.h"

#include <algorithm>
#include <cstdio>

#include "engine/check.h"

namespace entangle {
namespace {

template <class Number>
size_t position(const std::vector<Number>& choices, Number value) {
  return static_cast<size_t>(std::lower_bound(choices.begin(), choices.end(), value) - choices.begin());
}

}  // namespace

Costs operator+(const Costs& a, const Costs& b) {
  Costs sum = a;
  for (size_t i = 0; i < kMetrics; ++i) sum[i] += b[i];
  return sum;
}

Costs operator-(const Costs& a, const Costs& b) {
  Costs difference = a;
  for (size_t i = 0; i < kMetrics; ++i) difference[i] -= b[i];
  return difference;
}

const char* name_of(Metric metric) {
  constexpr const char* kNames[kMetrics] = {"params", "macs", "activation_bytes", "latency"};
  return kNames[static_cast<size_t>(metric)];
}

Metric parse_metric(const std::string& name) {
  std::string known;
  for (const Metric metric : kAllMetrics) {
    if (name == name_of(metric)) return metric;
    known += concat(known.empty() ? "" : ", ", name_of(metric));
  }
  RAISE("'", name, "' is not a cost; there are ", known);
}

std::string show(Metric metric, int64_t value) {
  if (metric != Metric::latency) return std::to_string(value);
  char text[40];
  std::snprintf(text, sizeof text, "%.6g ms", static_cast<double>(value) * 1e-6);
  return text;
}

CostTable::CostTable(const SearchSpace& space, const Stem& stem, const Block& block) : space_(space) {
  space.validate();
  for (const int embed_dim : space.embed_dim) {
    stems_.push_back(stem(embed_dim));
    std::vector<Costs>& blocks = blocks_.emplace_back();
    for (const int heads : space.num_heads) {
      for (const double ratio : space.mlp_ratio) blocks.push_back(block(embed_dim, heads, ratio));
    }
  }
}

Costs CostTable::of(const Architecture& architecture) const {
  CHECK(space_.contains(architecture), "the architecture ", architecture.to_json(), " is not of the search space");
  const size_t width = position(space_.embed_dim, architecture.embed_dim);
  Costs sum = stems_[width];
  for (size_t i = 0; i < architecture.num_heads.size(); ++i) {
    const size_t heads = position(space_.num_heads, architecture.num_heads[i]);
    const size_t ratio = position(space_.mlp_ratio, architecture.mlp_ratio[i]);
    sum = sum + blocks_[width][heads * space_.mlp_ratio.size() + ratio];
  }
  return sum;
}

Range CostTable::range(Metric metric) const {
  Range range = {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  for (size_t width = 0; width < stems_.size(); ++width) {
    const auto [least, most] =
        std::minmax_element(blocks_[width].begin(), blocks_[width].end(),
                            [&](const Costs& a, const Costs& b) { return get(a, metric) < get(b, metric); });
    for (const int depth : space_.depth) {
      const int64_t stem = get(stems_[width], metric);
      range.min = std::min(range.min, stem + depth * get(*least, metric));
      range.max = std::max(range.max, stem + depth * get(*most, metric));
    }
  }
  return range;
}

}  // namespace entangle
