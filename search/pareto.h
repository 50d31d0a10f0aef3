// Points with several objectives, all of them to be minimised.
#pragma once

#include <cstddef>
#include <vector>

namespace entangle {

using Point = std::vector<double>;

// No worse in any objective and better in one.
bool dominates(const Point& a, const Point& b);

// Fast non-dominated sort (Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE TEVC 2002):
// fronts of indices, ascending within each; the first is dominated by nothing, each later one only by earlier ones.
std::vector<std::vector<size_t>> sort_into_fronts(const std::vector<Point>& points);

// Crowding distance of each point of `front`, in its order: per objective the distance of its two neighbours over the
// front's range, summed; infinite at the ends.
std::vector<double> crowding_distances(const std::vector<Point>& points, const std::vector<size_t>& front);

// Volume of what the points dominate below `reference`, exact (While, Bradstreet, Barone, "A fast way of calculating exact
// hypervolumes", IEEE TEVC 2012). Points that are not below it in every objective count nothing.
double hypervolume(const std::vector<Point>& points, const Point& reference);

}  // namespace entangle
