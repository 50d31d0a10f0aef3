#include "search/feasible.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"

namespace entangle {
namespace {

// Partial sums kept in all: 40 bytes each.
constexpr size_t kMostSums = size_t{1} << 21;
constexpr const char* kTooMany =
    "the costs of the space have more than 2 million different sums, too many to decide limits exactly: give fewer "
    "choices, or search without latency";
constexpr double kExact = 9007199254740992.0;  // 2^53

std::string limits_text(const CostLimits& limits) {
  std::string text;
  for (const Metric metric : kAllMetrics) {
    const Limit& limit = limits[static_cast<size_t>(metric)];
    if (!limit.bounded()) continue;
    text += concat(text.empty() ? "" : ", ", name_of(metric));
    if (limit.min > 0) text += concat(" >= ", show(metric, limit.min));
    if (limit.max < std::numeric_limits<int64_t>::max())
      text += concat(limit.min > 0 ? " and" : "", " <= ", show(metric, limit.max));
  }
  return text;
}

// How far outside of a limit a value lies, as a share of the limit.
double excess(const Limit& limit, int64_t value) {
  if (value < limit.min) return static_cast<double>(limit.min - value) / static_cast<double>(limit.min);
  return static_cast<double>(value - limit.max) / static_cast<double>(std::max<int64_t>(limit.max, 1));
}

// Collects what lies nearest to limits that nothing meets.
class Nearest {
 public:
  explicit Nearest(const CostLimits& limits) : limits_(limits) {}

  void add(const Costs& costs) {
    size_t broken = 0, last = 0;
    double most = 0;
    for (size_t i = 0; i < kMetrics; ++i) {
      if (limits_[i].holds(costs[i])) continue;
      ++broken, last = i;
      most = std::max(most, excess(limits_[i], costs[i]));
    }
    if (broken == 1) {
      if (costs[last] < limits_[last].min) below_[last] = std::max(below_[last], costs[last]);
      if (costs[last] > limits_[last].max) above_[last] = std::min(above_[last], costs[last]);
    }
    if (most < least_excess_) least_excess_ = most, nearest_ = costs;
  }

  std::string str() const {
    std::string text;
    const auto either = [&](const auto&... parts) { text += concat(text.empty() ? "" : ", or ", parts...); };
    for (const Metric metric : kAllMetrics) {
      const size_t i = static_cast<size_t>(metric);
      if (below_[i] >= 0) either("min_", name_of(metric), " at most ", show(metric, below_[i]));
      if (above_[i] < kNone) either("max_", name_of(metric), " at least ", show(metric, above_[i]));
    }
    if (!text.empty()) return "the nearest that can be met: " + text;
    for (const Metric metric : kAllMetrics) {
      if (limits_[static_cast<size_t>(metric)].bounded())
        text += concat(text.empty() ? "" : ", ", name_of(metric), " ", show(metric, get(nearest_, metric)));
    }
    return "no change of a single limit helps; the nearest architecture has " + text;
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  const CostLimits& limits_;
  Costs below_ = {-1, -1, -1, -1}, above_ = {kNone, kNone, kNone, kNone};  // of sums that break one limit only
  Costs nearest_ = {};
  double least_excess_ = std::numeric_limits<double>::infinity();
};

// 53 random bits in [0, 1).
double fine_uniform(Rng& rng) {
  const double high = rng.word() >> 5, low = rng.word() >> 6;
  return (high * 67108864 + low) / kExact;
}

}  // namespace

FeasibleSet::FeasibleSet(const CostTable& table, const CostLimits& limits) : table_(table), limits_(limits) {
  const SearchSpace& space = table.space();
  ranges_.fill({std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()});
  size_t kept = 0;
  for (size_t width = 0; width < space.embed_dim.size(); ++width) {
    std::vector<Level>& levels = levels_.emplace_back();
    levels.push_back({{Costs{}, 1}});
    for (int k = 1; k <= space.depth.back(); ++k) {
      levels.push_back(next_level(levels.back(), table.blocks(width)));
      kept += levels.back().size();
      CHECK(kept <= kMostSums, kTooMany);
    }
    for (const int depth : space.depth) groups_.push_back(group(width, depth));
  }
  const double per_block = static_cast<double>(space.mlp_ratio.size() * space.num_heads.size());
  for (const Group& g : groups_) {
    count_ += g.count();
    mass_ += g.count() * std::pow(per_block, -g.depth);
  }
  CHECK(std::isfinite(count_), "the search space has more than 1e308 architectures");
  if (count_ == 0) fail_empty();
}

// Each block's choice shifts the level, which stays sorted; the shifted ones are merged, equal sums into one.
FeasibleSet::Level FeasibleSet::next_level(const Level& level, const std::vector<Costs>& blocks) {
  Level next, merged;
  for (const Costs& block : blocks) {
    merged.clear();
    auto old = next.begin();
    for (const Sum& sum : level) {
      Sum added = {sum.costs + block, sum.ways};
      while (old != next.end() && old->costs < added.costs) merged.push_back(*old++);
      if (old != next.end() && old->costs == added.costs) added.ways += (old++)->ways;
      merged.push_back(added);
    }
    merged.insert(merged.end(), old, next.end());
    next.swap(merged);
    CHECK(next.size() <= kMostSums, kTooMany);
  }
  next.shrink_to_fit();
  return next;
}

double FeasibleSet::ways(const Level& level, const Costs& sum) {
  const auto at =
      std::lower_bound(level.begin(), level.end(), sum, [](const Sum& a, const Costs& b) { return a.costs < b; });
  return at != level.end() && at->costs == sum ? at->ways : 0;
}

FeasibleSet::Group FeasibleSet::group(size_t width, int depth) {
  Group out = {width, depth, {}, {}};
  for (const Sum& sum : levels_[width][static_cast<size_t>(depth)]) {
    const Costs costs = table_.stem(width) + sum.costs;
    if (!contains(costs)) continue;
    out.sums.push_back(sum.costs);
    out.end.push_back(out.count() + sum.ways);
    for (size_t i = 0; i < kMetrics; ++i) {
      ranges_[i].min = std::min(ranges_[i].min, costs[i]);
      ranges_[i].max = std::max(ranges_[i].max, costs[i]);
    }
  }
  return out;
}

bool FeasibleSet::contains(const Costs& costs) const {
  for (size_t i = 0; i < kMetrics; ++i) {
    if (!limits_[i].holds(costs[i])) return false;
  }
  return true;
}

void FeasibleSet::fail_empty() const {
  Nearest nearest(limits_);
  for (const Group& g : groups_) {
    const Level& level = levels_[g.width][static_cast<size_t>(g.depth)];
    for (const Sum& sum : level) nearest.add(table_.stem(g.width) + sum.costs);
  }
  std::string ranges;
  for (const Metric metric : kAllMetrics) {
    if (!limits_[static_cast<size_t>(metric)].bounded()) continue;
    const Range range = table_.range(metric);
    ranges += concat(ranges.empty() ? "" : ", ", name_of(metric), " of ", show(metric, range.min), " to ",
                     show(metric, range.max));
  }
  RAISE("no architecture of the space meets ", limits_text(limits_), "; the space has ", ranges, "; ", nearest.str());
}

// ------------------------------------------------------------------------------------------------------------ drawing

Architecture FeasibleSet::sample(Rng& rng) const {
  const SearchSpace& space = table_.space();
  const double per_block = static_cast<double>(space.mlp_ratio.size() * space.num_heads.size());
  double left = fine_uniform(rng) * mass_;
  const Group* chosen = nullptr;
  for (const Group& g : groups_) {
    if (g.count() == 0) continue;
    chosen = &g;
    left -= g.count() * std::pow(per_block, -g.depth);
    if (left < 0) break;
  }
  return find(*chosen, std::floor(fine_uniform(rng) * chosen->count()));
}

Architecture FeasibleSet::at(int64_t number) const {
  CHECK(number >= 0 && static_cast<double>(number) < std::min(count_, kExact), "architecture number ", number, " of ",
        count_, " that meet the limits");
  double left = static_cast<double>(number);
  size_t g = 0;
  while (left >= groups_[g].count()) left -= groups_[g++].count();
  return find(groups_[g], left);
}

// The order: by sum, then by the last block's choice, the one before it, and so on.
Architecture FeasibleSet::find(const Group& group, double number) const {
  const SearchSpace& space = table_.space();
  const std::vector<Costs>& blocks = table_.blocks(group.width);
  const size_t ratios = space.mlp_ratio.size();
  const size_t at =
      std::min(static_cast<size_t>(std::upper_bound(group.end.begin(), group.end.end(), number) - group.end.begin()),
               group.end.size() - 1);
  Costs sum = group.sums[at];
  double left = at == 0 ? number : number - group.end[at - 1];
  Architecture out = Architecture::uniform(group.depth, space.embed_dim[group.width], 0, 0);
  for (size_t i = static_cast<size_t>(group.depth); i-- > 0;) {
    const Level& before = levels_[group.width][i];
    size_t chosen = 0;
    // Beyond 2^53 the ways are rounded: the last choice that is possible at all catches what is left over.
    for (size_t choice = 0; choice < blocks.size(); ++choice) {
      const double count = ways(before, sum - blocks[choice]);
      if (count == 0) continue;
      chosen = choice;
      if (left < count) break;
      left -= count;
    }
    sum = sum - blocks[chosen];
    out.num_heads[i] = space.num_heads[chosen / ratios];
    out.mlp_ratio[i] = space.mlp_ratio[chosen % ratios];
  }
  return out;
}

}  // namespace entangle
