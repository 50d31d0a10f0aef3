// Predicts the accuracy of a subnet from its genes, by ridge regression on what a search has scored: which of many
// children are worth scoring (SearchOptions::predictor).
//
//   accuracy ~ mean + sum over genes of effect[gene, its choice]
//
// with one effect for each choice of embed_dim, of depth and of each block's heads and ratio. The effects minimise the
// squared error plus `penalty` times their squares (Hoerl and Kennard, "Ridge regression: biased estimation for
// nonorthogonal problems", Technometrics 1970); of some penalties the one is taken whose predictions of each candidate
// by all others are the best, which has a closed form (Allen, "The relationship between variable selection and data
// augmentation and a method for prediction", Technometrics 1974).
#pragma once

#include <cstddef>
#include <vector>

#include "search/search.h"

namespace entangle {

// Learns from the candidates that a search has scored.
class AccuracyPredictor {
 public:
  explicit AccuracyPredictor(const SearchSpace& space);

  // Fits the completely scored ones of `candidates`. Returns false, and predicts nothing, with fewer than two of them.
  bool fit(const std::vector<Candidate>& candidates);

  // Of an architecture of the space, in the unit of the candidates' accuracies. fit() must have returned true.
  double predict(const Architecture& architecture) const;

  // What all others predict of each candidate of the last fit, in their order.
  const std::vector<double>& leave_one_out() const { return leave_one_out_; }

 private:
  // The choices that an architecture makes, as places among all effects.
  std::vector<size_t> choices_of(const Architecture& architecture) const;

  SearchSpace space_;
  size_t effects_count_;
  std::vector<double> means_, effects_;  // of each choice: how often it is made, and what it adds
  double mean_ = 0;
  std::vector<double> leave_one_out_;
};

}  // namespace entangle
