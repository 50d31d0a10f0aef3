#include "tools/common/health.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"
#include "nn/cost.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

constexpr size_t kDrawn = 1000, kQuarter = kDrawn / 4;
constexpr double kErrors = 2;  // standard errors that make a difference

}  // namespace

std::vector<std::pair<const char*, Architecture>> landmarks(const Config& config) {
  if (config.subnet) return {{"subnet", config.model.dense}};
  const SearchSpace& space = config.space;
  return {{"smallest", space.smallest()}, {"middle", space.middle()}, {"largest", space.largest()}};
}

std::vector<SizeBucket> size_quarters(const Config& config) {
  std::vector<std::pair<int64_t, Architecture>> drawn;
  Rng rng(config.train.seed, Stream::search);
  for (size_t i = 0; i < kDrawn; ++i) {
    const Architecture a = config.space.sample(rng);
    drawn.emplace_back(cost_of(config.model, a).params, a);
  }
  std::stable_sort(drawn.begin(), drawn.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (drawn.front().first == drawn.back().first) return {};
  std::vector<SizeBucket> quarters;
  for (size_t begin = 0; begin < kDrawn; begin += kQuarter) {
    const auto at = [&](size_t rank) { return drawn[begin + rank]; };
    quarters.push_back({at(0).first, at(kQuarter - 1).first, {at(kQuarter / 4).second, at(kQuarter * 3 / 4).second}});
  }
  return quarters;
}

std::string size_warning(const std::vector<SizeBucket>& buckets, const std::vector<double>& accuracies,
                         int64_t images) {
  if (buckets.empty()) return "";
  const double small = accuracies.front(), large = accuracies.back();
  const double variance =
      (small * (1 - small) + large * (1 - large)) / static_cast<double>(std::max<int64_t>(images, 1));
  if (small - large <= kErrors * std::sqrt(variance)) return "";
  return format(
      "warning: large subnets are behind small ones: top-1 %.1f %% from %lld parameters on, %.1f %% up to %lld "
      "(held-out "
      "images; a difference counts from %.1f points)",
      100 * large, static_cast<long long>(buckets.back().least), 100 * small,
      static_cast<long long>(buckets.front().most), 100 * kErrors * std::sqrt(variance));
}

SupernetHealth::SupernetHealth(const Config& config, EvaluationSet images)
    : config_(config), images_(std::move(images)) {
  if (!config.subnet) buckets_ = size_quarters(config);
}

HealthRecord SupernetHealth::look(const Supernet& supernet, Communicator& ranks) const {
  const auto accuracy_of = [&](const Architecture& architecture) {
    return evaluate(supernet, architecture, images_, kEvaluationBatch, &ranks).accuracy();
  };
  HealthRecord record;
  for (const auto& [name, architecture] : landmarks(config_)) {
    const double accuracy = accuracy_of(architecture);
    record.held_out[name] = accuracy;
    record.words += format("  %s %.1f %%", name, 100 * accuracy);
  }
  std::vector<double> accuracies;
  for (const SizeBucket& bucket : buckets_) {
    double mean = 0;
    for (const Architecture& a : bucket.subnets) mean += accuracy_of(a) / static_cast<double>(bucket.subnets.size());
    accuracies.push_back(mean);
    record.held_out[concat("quarter_", accuracies.size())] = mean;
  }
  record.warning = size_warning(buckets_, accuracies, images_.size());
  return record;
}

}  // namespace entangle
