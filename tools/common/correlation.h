// How well one list of numbers orders, or predicts, another.
#pragma once

#include <vector>

namespace entangle {

// Spearman's rank correlation, ranks of equal values averaged; NaN when either list is constant. Of lists of different
// length, and of empty ones, Error.
double rank_correlation(const std::vector<double>& a, const std::vector<double>& b);

// Kendall's tau-b: 1 when both order alike, -1 when they order in opposite ways, ties left out of both; NaN when either
// list is constant. Lists of equal length.
double kendall_tau(const std::vector<double>& a, const std::vector<double>& b);

// Kendall's partial tau (Kendall, "Partial rank correlation", Biometrika 1942): of a and b where `given` explains
// neither, such as accuracies of subnets at the same size. NaN when one of the lists is constant, or orders as `given`
// does.
double partial_kendall_tau(const std::vector<double>& a, const std::vector<double>& b,
                           const std::vector<double>& given);

// Mean of |predicted - measured| / measured.
double mean_relative_error(const std::vector<double>& predicted, const std::vector<double>& measured);

}  // namespace entangle
