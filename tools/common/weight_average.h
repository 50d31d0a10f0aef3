// The exponential moving average of a network's weights, kept in host memory.
#pragma once

#include <vector>

#include "nn/supernet.h"

namespace entangle {

class WeightAverage {
 public:
  // Begins with the weights as they are.
  WeightAverage(const Supernet& supernet, double decay);

  // average = decay average + (1 - decay) weights. On a GPU the weights are copied to the host first.
  void update(const Supernet& supernet);

  const std::vector<float>& values() const { return values_; }  // in the arena's layout
  void set_values(std::vector<float> values) { values_ = std::move(values); }

  // While it lives, the network has the average for its weights.
  class InPlace {
   public:
    InPlace(Supernet& supernet, const WeightAverage& average);
    ~InPlace();
    InPlace(const InPlace&) = delete;
    InPlace& operator=(const InPlace&) = delete;

   private:
    Supernet& supernet_;
    std::vector<float> weights_;
  };

 private:
  float decay_;
  std::vector<float> values_;
};

}  // namespace entangle
