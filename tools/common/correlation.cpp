#include "tools/common/correlation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/check.h"

namespace entangle {
namespace {

// Ranks from 0; of equal values the mean of theirs.
std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<double> out;
  for (const double value : values) {
    const auto below = std::count_if(values.begin(), values.end(), [&](double x) { return x < value; });
    const auto equal = std::count(values.begin(), values.end(), value);
    out.push_back(static_cast<double>(below) + static_cast<double>(equal - 1) / 2);
  }
  return out;
}

}  // namespace

double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  CHECK(a.size() == b.size() && !a.empty(), "rank correlation of ", a.size(), " and ", b.size(), " values");
  const std::vector<double> x = ranks(a), y = ranks(b);
  const double mean = static_cast<double>(a.size() - 1) / 2;  // of ranks, whatever the values
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xy / std::sqrt(xx * yy);
}

double kendall_tau(const std::vector<double>& a, const std::vector<double>& b) {
  CHECK(a.size() == b.size(), "Kendall's tau of ", a.size(), " and ", b.size(), " values");
  const auto order = [](double x, double y) { return (x > y) - (x < y); };
  double agreement = 0, untied_a = 0, untied_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const int in_a = order(a[i], a[j]), in_b = order(b[i], b[j]);
      agreement += in_a * in_b;
      untied_a += in_a != 0;
      untied_b += in_b != 0;
    }
  }
  return agreement / std::sqrt(untied_a * untied_b);
}

double partial_kendall_tau(const std::vector<double>& a, const std::vector<double>& b,
                           const std::vector<double>& given) {
  const double ab = kendall_tau(a, b), ag = kendall_tau(a, given), bg = kendall_tau(b, given);
  return (ab - ag * bg) / std::sqrt((1 - ag * ag) * (1 - bg * bg));
}

double mean_relative_error(const std::vector<double>& predicted, const std::vector<double>& measured) {
  CHECK(predicted.size() == measured.size() && !measured.empty(), "relative error of ", predicted.size(), " and ",
        measured.size(), " values");
  double sum = 0;
  for (size_t i = 0; i < measured.size(); ++i) sum += std::fabs(predicted[i] - measured[i]) / measured[i];
  return sum / static_cast<double>(measured.size());
}

}  // namespace entangle
