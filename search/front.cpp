#include "search/front.h"

#include <algorithm>

namespace entangle {

Point objective_point(const Candidate& candidate, const std::vector<Metric>& objectives) {
  Point point = {1 - candidate.accuracy};
  for (const Metric metric : objectives) point.push_back(static_cast<double>(get(candidate.costs, metric)));
  return point;
}

std::vector<Candidate> front_of(const std::vector<Candidate>& candidates, const std::vector<Metric>& objectives) {
  std::vector<const Candidate*> complete;
  std::vector<Point> points;
  for (const Candidate& candidate : candidates) {
    if (candidate.stopped) continue;
    complete.push_back(&candidate);
    points.push_back(objective_point(candidate, objectives));
  }
  std::vector<size_t> kept;
  for (size_t i = 0; i < points.size(); ++i) {
    const bool beaten =
        std::any_of(points.begin(), points.end(), [&](const Point& p) { return dominates(p, points[i]); });
    const auto end = points.begin() + static_cast<std::ptrdiff_t>(i);
    if (!beaten && std::find(points.begin(), end, points[i]) == end) kept.push_back(i);
  }
  if (!objectives.empty())
    std::stable_sort(kept.begin(), kept.end(), [&](size_t a, size_t b) { return points[a][1] < points[b][1]; });
  std::vector<Candidate> front;
  for (const size_t i : kept) front.push_back(*complete[i]);
  return front;
}

const Candidate* front_bar(const Candidate& next, const std::vector<Candidate>& past,
                           const std::vector<Metric>& objectives) {
  const Candidate* best = nullptr;
  for (const Candidate& candidate : past) {
    const bool cheaper = std::all_of(objectives.begin(), objectives.end(), [&](Metric metric) {
      return get(candidate.costs, metric) <= get(next.costs, metric);
    });
    if (!cheaper || candidate.stopped) continue;
    if (best == nullptr || candidate.accuracy > best->accuracy) best = &candidate;
  }
  return best;
}

double covered_share(const std::vector<Candidate>& candidates, const FrontScale& scale) {
  const auto share = [](double value, double low, double high) {
    return high > low ? (value - low) / (high - low) : 0;
  };
  std::vector<Point> points;
  for (const Candidate& candidate : front_of(candidates, scale.objectives)) {
    Point point = {1 - share(candidate.accuracy, scale.lowest, scale.highest)};
    for (size_t i = 0; i < scale.objectives.size(); ++i) {
      point.push_back(share(static_cast<double>(get(candidate.costs, scale.objectives[i])),
                            static_cast<double>(scale.ranges[i].min), static_cast<double>(scale.ranges[i].max)));
    }
    points.push_back(std::move(point));
  }
  return hypervolume(points, Point(scale.objectives.size() + 1, 1.0));
}

}  // namespace entangle
