// The front of a search: the candidates that no other beats in accuracy and costs at once; and how much it covers.
#pragma once

#include <vector>

#include "search/pareto.h"
#include "search/search.h"

namespace entangle {

// Error rate (1 - accuracy), then the costs: all to be minimised.
Point objective_point(const Candidate& candidate, const std::vector<Metric>& objectives);

// The completely scored candidates that none dominates, by rising first objective's cost; of candidates equal in all
// objectives the earliest.
std::vector<Candidate> front_of(const std::vector<Candidate>& candidates, const std::vector<Metric>& objectives);

// The most accurate of the completely scored `past` that costs no more than `next` in any objective: what is not more
// accurate is dominated, and not of the front. Null when there is none.
const Candidate* front_bar(const Candidate& next, const std::vector<Candidate>& past,
                           const std::vector<Metric>& objectives);

// One scale for the fronts of several searches: each cost from 0 (the range's smallest) to 1 (its largest), accuracy
// from the lowest to the highest of all candidates compared.
struct FrontScale {
  std::vector<Metric> objectives;
  std::vector<Range> ranges;  // of each objective
  double lowest = 0, highest = 1;
};

// Share of the scale's box that the candidates dominate: 0 to 1.
double covered_share(const std::vector<Candidate>& candidates, const FrontScale& scale);

}  // namespace entangle
