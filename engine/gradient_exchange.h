// The mean of a gradient over processes, of the sampled subnet alone.
//
// All ranks draw the same subnet, so whatever lies outside of its views is zero on every rank: about a third of the
// supernet's gradient in the published spaces. Views are packed in the order in which the backward pass finishes them, the
// last used first, into buckets; a bucket's sum begins as soon as it is full, beside the packing of the next.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/communicator.h"
#include "engine/tensor.h"

namespace entangle {

class GradientExchange {
 public:
  static constexpr int64_t kBucket = int64_t{1} << 19;  // numbers, 2 MB

  explicit GradientExchange(Communicator& ranks) : ranks_(ranks) {}

  // `views`: of parameters on the processor, in the order in which the forward pass used them; no two overlap. Their
  // gradients become the mean over all ranks, the same bits on each. Other gradients stay as they are.
  void average(const std::vector<Tensor>& views);
  // What each rank gave to the sums of the last average(), in bytes.
  int64_t bytes() const { return bytes_; }

 private:
  Communicator& ranks_;
  std::vector<float> packed_;
  int64_t bytes_ = 0;
};

}  // namespace entangle
