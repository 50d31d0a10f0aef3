#include "search/predictor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/check.h"

namespace entangle {
namespace {

constexpr double kPenalties[] = {0.1, 0.3, 1, 3, 10, 30, 100};

// A symmetric, positive definite matrix of n rows as the lower triangle l of l l^T (Cholesky).
class Factor {
 public:
  Factor(std::vector<double> matrix, size_t n) : l_(std::move(matrix)), n_(n) {
    for (size_t j = 0; j < n_; ++j) {
      for (size_t k = 0; k < j; ++k) at(j, j) -= at(j, k) * at(j, k);
      at(j, j) = std::sqrt(at(j, j));
      for (size_t i = j + 1; i < n_; ++i) {
        for (size_t k = 0; k < j; ++k) at(i, j) -= at(i, k) * at(j, k);
        at(i, j) /= at(j, j);
      }
    }
  }

  // l^-1 x, in place: its square is x^T (l l^T)^-1 x.
  void half_solve(std::vector<double>& x) const {
    for (size_t i = 0; i < n_; ++i) {
      for (size_t k = 0; k < i; ++k) x[i] -= at(i, k) * x[k];
      x[i] /= at(i, i);
    }
  }
  // (l l^T)^-1 x, in place.
  void solve(std::vector<double>& x) const {
    half_solve(x);
    for (size_t i = n_; i-- > 0;) {
      for (size_t k = i + 1; k < n_; ++k) x[i] -= at(k, i) * x[k];
      x[i] /= at(i, i);
    }
  }

 private:
  double& at(size_t i, size_t j) { return l_[i * n_ + j]; }
  double at(size_t i, size_t j) const { return l_[i * n_ + j]; }

  std::vector<double> l_;
  size_t n_;
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Rows and targets, both less their means.
struct Centred {
  std::vector<std::vector<double>> rows;
  std::vector<double> targets;
};

struct Fit {
  std::vector<double> effects, residuals;  // of each row left out
  double error = 0;                        // sum of their squares
};

Fit fit_with(const Centred& data, const std::vector<double>& squares, double penalty) {
  const size_t n = data.rows.size(), effects = data.rows[0].size();
  std::vector<double> matrix = squares;
  for (size_t i = 0; i < effects; ++i) matrix[i * effects + i] += penalty;
  const Factor factor(std::move(matrix), effects);
  Fit fit;
  fit.effects.assign(effects, 0);
  for (size_t r = 0; r < n; ++r) {
    for (size_t i = 0; i < effects; ++i) fit.effects[i] += data.rows[r][i] * data.targets[r];
  }
  factor.solve(fit.effects);
  for (size_t r = 0; r < n; ++r) {
    std::vector<double> half = data.rows[r];
    factor.half_solve(half);
    const double leverage = 1 / static_cast<double>(n) + dot(half, half);  // of the mean, and of the effects
    fit.residuals.push_back((data.targets[r] - dot(data.rows[r], fit.effects)) / (1 - leverage));
    fit.error += fit.residuals.back() * fit.residuals.back();
  }
  return fit;
}

template <class Value>
size_t place_of(const std::vector<Value>& choices, Value value) {
  return static_cast<size_t>(std::lower_bound(choices.begin(), choices.end(), value) - choices.begin());
}

}  // namespace

AccuracyPredictor::AccuracyPredictor(const SearchSpace& space)
    : space_(space),
      effects_count_(space.embed_dim.size() + space.depth.size() +
                     static_cast<size_t>(space.depth.back()) * (space.num_heads.size() + space.mlp_ratio.size())) {}

std::vector<size_t> AccuracyPredictor::choices_of(const Architecture& architecture) const {
  CHECK(space_.contains(architecture), architecture.to_json(), " is not of the space that is searched");
  std::vector<size_t> choices = {place_of(space_.embed_dim, architecture.embed_dim)};
  size_t begin = space_.embed_dim.size();
  choices.push_back(begin + place_of(space_.depth, architecture.depth));
  begin += space_.depth.size();
  for (size_t block = 0; block < architecture.num_heads.size(); ++block) {
    choices.push_back(begin + place_of(space_.num_heads, architecture.num_heads[block]));
    begin += space_.num_heads.size();
    choices.push_back(begin + place_of(space_.mlp_ratio, architecture.mlp_ratio[block]));
    begin += space_.mlp_ratio.size();
  }
  return choices;
}

bool AccuracyPredictor::fit(const std::vector<Candidate>& candidates) {
  Centred data;
  means_.assign(effects_count_, 0);
  mean_ = 0;
  for (const Candidate& candidate : candidates) {
    if (candidate.stopped) continue;
    data.rows.emplace_back(effects_count_);
    for (const size_t choice : choices_of(candidate.architecture)) data.rows.back()[choice] = 1;
    data.targets.push_back(candidate.accuracy);
  }
  leave_one_out_.clear();
  if (data.rows.size() < 2) return false;
  const double n = static_cast<double>(data.rows.size());
  for (size_t r = 0; r < data.rows.size(); ++r) {
    for (size_t i = 0; i < effects_count_; ++i) means_[i] += data.rows[r][i] / n;
    mean_ += data.targets[r] / n;
  }
  std::vector<double> squares(effects_count_ * effects_count_);
  for (size_t r = 0; r < data.rows.size(); ++r) {
    std::vector<double>& row = data.rows[r];
    for (size_t i = 0; i < effects_count_; ++i) row[i] -= means_[i];
    data.targets[r] -= mean_;
    for (size_t i = 0; i < effects_count_; ++i) {
      for (size_t j = 0; j < effects_count_; ++j) squares[i * effects_count_ + j] += row[i] * row[j];
    }
  }
  Fit best;
  best.error = std::numeric_limits<double>::infinity();
  for (const double penalty : kPenalties) {
    Fit fit = fit_with(data, squares, penalty);
    if (fit.error < best.error) best = std::move(fit);
  }
  CHECK(std::isfinite(best.error), "no penalty of the accuracy predictor gives finite predictions");
  effects_ = std::move(best.effects);
  for (size_t r = 0; r < data.rows.size(); ++r) {
    leave_one_out_.push_back(mean_ + data.targets[r] - best.residuals[r]);
  }
  return true;
}

double AccuracyPredictor::predict(const Architecture& architecture) const {
  CHECK(!leave_one_out_.empty(), "the accuracy predictor is asked before it was fitted");
  double sum = mean_;
  for (size_t i = 0; i < effects_count_; ++i) sum -= means_[i] * effects_[i];
  for (const size_t choice : choices_of(architecture)) sum += effects_[choice];
  return sum;
}

}  // namespace entangle
