#include "tools/common/scaling_model.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"

namespace entangle {

double sum_seconds(const Network& network, int64_t ranks, double bytes, double bucket) {
  CHECK(ranks >= 1 && network.per_node >= 1 && bytes >= 0 && bucket > 0, "a sum of ", bytes, " bytes over ", ranks,
        " ranks has no time");
  if (ranks == 1 || bytes == 0) return 0;
  const double inside = static_cast<double>(std::min(ranks, network.per_node));
  const double nodes = std::ceil(static_cast<double>(ranks) / inside);
  const double travel =
      2 * bytes * ((inside - 1) / inside / network.rank_bandwidth + (nodes - 1) / nodes / network.node_bandwidth);
  const double levels = std::ceil(std::log2(inside)) + std::ceil(std::log2(nodes));
  return travel + std::ceil(bytes / bucket) * 2 * levels * network.latency;
}

double exposed_seconds(const Network& network, int64_t ranks, const StepModel& step) {
  if (ranks == 1) return 0;
  const double last = sum_seconds(network, ranks, std::min(step.bytes, step.bucket), step.bucket);
  const double others = sum_seconds(network, ranks, step.bytes, step.bucket) - last;
  // The first bucket is full after its share of the backward pass.
  const double beside = step.compute * step.backward * std::max(0.0, 1 - step.bucket / std::max(step.bytes, 1.0));
  // The largest of n normal numbers is expected at about sqrt(2 ln n) standard deviations; of two at 0.56.
  const double slowest = ranks == 2 ? 0.56 : std::sqrt(2 * std::log(static_cast<double>(ranks)));
  return last + std::max(0.0, others - beside) + slowest * step.jitter * step.compute;
}

double scaling_efficiency(const Network& network, int64_t ranks, const StepModel& step) {
  CHECK(step.compute > 0, "a step without computation has no efficiency");
  return step.compute / (step.compute + exposed_seconds(network, ranks, step));
}

}  // namespace entangle
