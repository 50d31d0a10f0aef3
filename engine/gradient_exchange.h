// The mean of a gradient over processes, of the sampled subnet alone.
//
// All ranks draw the same subnet, so whatever lies outside of its views is zero on every rank: about a third of the
// supernet's gradient in the published spaces. Views are packed in the order in which the backward pass finishes them, the
// last used first, into buckets; a bucket's sum begins as soon as it is full, while the backward pass goes on.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/communicator.h"
#include "engine/device_gradient.h"
#include "engine/tensor.h"

namespace entangle {

// Averages gradients over the ranks of a communicator, which must outlive it.
//   exchange.begin(views);
//   tape.backward(loss, 1, [&](size_t left) { exchange.advance(left); });
//   exchange.finish();
class GradientExchange {
 public:
  static constexpr int64_t kBucket = int64_t{1} << 19;  // numbers, 2 MB

  explicit GradientExchange(Communicator& ranks) : ranks_(ranks) {}

  // `views`: of parameters where the communicator's sums are, in the order in which the forward pass used them; no two overlap.
  void begin(std::vector<TapedView> views);
  // Sends what is finished when the tape has `left` operations left, and lets the sums under way go on.
  void advance(size_t left);
  // Sends the rest and waits (on a GPU, what is launched from then on does): then the views' gradients are the mean over all
  // ranks, the same bits on each. Other gradients stay as they are.
  void finish();
  // What each rank gave to the sums since begin(), in bytes.
  int64_t bytes() const { return filled_ * static_cast<int64_t>(sizeof(float)); }

 private:
  bool on_device() const { return ranks_.device() != DeviceKind::cpu; }
  void start_sum(int64_t count);

  Communicator& ranks_;
  std::vector<TapedView> views_;
  size_t unsent_ = 0;  // views_[unsent_ ...] are finished, and on the processor packed
  std::vector<float> packed_;
  int64_t filled_ = 0, started_ = 0;  // numbers that are finished, and those of them whose sum has begun
  // On a GPU a bucket is packed when its sum begins, by one launch.
  DeviceGradient device_gradient_;
  std::vector<Tensor> buckets_;
};

// The mean of a gradient over a fixed number of shards of a batch, whichever processes compute them: the shards' gradients
// are added in a binary tree over their numbers, so 1, 2, 4, ... processes find the same bits.
//   Rank r of R computes shards r S/R .. (r + 1) S/R - 1 in this order:  tape.backward(loss_of_shard);  tree.add(views);
//   Then each:  tree.finish(views);
// Costs a pass over the subnet's gradient a shard, log2(S) + 1 copies of it in memory, and log2(R) messages of its size.
class GradientTree {
 public:
  // `shards`: a power of two, and a multiple of the ranks, which are a power of two. Throws Error otherwise.
  GradientTree(Communicator& ranks, int64_t shards);

  // Takes the views' gradient, of the next own shard, and leaves zeros.
  void add(const std::vector<TapedView>& views);
  // Gives the views the mean over all shards.
  void finish(const std::vector<TapedView>& views);
  // What this rank gave to others in the last finish(), in bytes.
  int64_t bytes() const { return bytes_; }

 private:
  void add_to_sum(const std::vector<float>& other);

  Communicator& ranks_;
  const int64_t shards_;
  int64_t added_ = 0, bytes_ = 0;
  std::vector<float> sum_, received_;
  std::vector<std::vector<float>> levels_;  // [l]: the sum of 2^l shards that wait for the 2^l next ones
};

}  // namespace entangle
