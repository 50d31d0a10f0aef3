#include "search/pareto.h"

#include <algorithm>
#include <limits>

#include "engine/check.h"

namespace entangle {
namespace {

std::vector<Point> non_dominated(const std::vector<Point>& points) {
  std::vector<Point> out;
  for (size_t i = 0; i < points.size(); ++i) {
    bool kept = true;
    for (size_t k = 0; k < points.size() && kept; ++k) {
      kept = !dominates(points[k], points[i]) && !(k < i && points[k] == points[i]);
    }
    if (kept) out.push_back(points[i]);
  }
  return out;
}

double box(const Point& low, const Point& high) {
  double volume = 1;
  for (size_t i = 0; i < low.size(); ++i) volume *= high[i] - low[i];
  return volume;
}

// Of points that do not dominate one another. Each adds its box less what the later ones, cut to its box, cover of it.
double volume_below(std::vector<Point> points, const Point& reference) {
  // From worst to best in the last objective: the cut points then share it, and hardly any is left non-dominated.
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.back() > b.back(); });
  double volume = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    std::vector<Point> cut(points.begin() + static_cast<std::ptrdiff_t>(i) + 1, points.end());
    for (Point& point : cut) {
      for (size_t k = 0; k < point.size(); ++k) point[k] = std::max(point[k], points[i][k]);
    }
    volume += box(points[i], reference) - volume_below(non_dominated(cut), reference);
  }
  return volume;
}

}  // namespace

bool dominates(const Point& a, const Point& b) {
  bool better = false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i]) return false;
    better = better || a[i] < b[i];
  }
  return better;
}

std::vector<std::vector<size_t>> sort_into_fronts(const std::vector<Point>& points) {
  std::vector<std::vector<size_t>> dominated(points.size());
  std::vector<size_t> dominators(points.size(), 0);
  for (size_t i = 0; i < points.size(); ++i) {
    for (size_t k = 0; k < points.size(); ++k) {
      if (!dominates(points[i], points[k])) continue;
      dominated[i].push_back(k);
      ++dominators[k];
    }
  }
  std::vector<size_t> front;
  for (size_t i = 0; i < points.size(); ++i) {
    if (dominators[i] == 0) front.push_back(i);
  }
  std::vector<std::vector<size_t>> fronts;
  while (!front.empty()) {
    std::vector<size_t> next;
    for (const size_t i : front) {
      for (const size_t k : dominated[i]) {
        if (--dominators[k] == 0) next.push_back(k);
      }
    }
    std::sort(next.begin(), next.end());
    fronts.push_back(std::move(front));
    front = std::move(next);
  }
  return fronts;
}

std::vector<double> crowding_distances(const std::vector<Point>& points, const std::vector<size_t>& front) {
  std::vector<double> distances(front.size(), 0);
  std::vector<size_t> order(front.size());
  const size_t objectives = front.empty() ? 0 : points[front[0]].size();
  for (size_t objective = 0; objective < objectives; ++objective) {
    const auto value = [&](size_t i) { return points[front[i]][objective]; };
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return value(a) < value(b); });
    const double range = value(order.back()) - value(order.front());
    distances[order.front()] = distances[order.back()] = std::numeric_limits<double>::infinity();
    for (size_t i = 1; i + 1 < order.size() && range > 0; ++i) {
      distances[order[i]] += (value(order[i + 1]) - value(order[i - 1])) / range;
    }
  }
  return distances;
}

double hypervolume(const std::vector<Point>& points, const Point& reference) {
  std::vector<Point> inside;
  for (const Point& point : points) {
    CHECK(point.size() == reference.size(), "hypervolume: a point of ", point.size(), " objectives and a reference of ",
          reference.size());
    bool below = true;
    for (size_t i = 0; i < point.size(); ++i) below = below && point[i] < reference[i];
    if (below) inside.push_back(point);
  }
  return volume_below(non_dominated(inside), reference);
}

}  // namespace entangle
