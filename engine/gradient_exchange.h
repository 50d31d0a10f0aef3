// The mean of a gradient over processes, of the sampled subnet alone.
//
// All ranks draw the same subnet, so whatever lies outside of its views is zero on every rank: about a third of the
// supernet's gradient in the published spaces. Views are packed in the order in which the backward pass finishes them,
// the last used first, into buckets; a bucket's sum begins as soon as it is full, while the backward pass goes on.
//
// On the wire numbers are fp32, or bf16, which is half as many bytes. Of bf16 each rank's number g_r is rounded once. On
// processors the sum is taken in fp32 over the ranks in their order, and rounded once; so with u = 2^-8
//   |mean sent as bf16 - mean| <= u ((1 + u) mean of |g_r| + |mean|)    and the roundings of R - 1 fp32 additions,
// at most about 2^-7 of a number's size where the ranks' numbers do not cancel. On GPUs NCCL rounds every addition to bf16, in an
// order that it chooses, so that
//   |mean sent as bf16 - mean| <= ((1 + u)^R - 1) mean of |g_r|,    about R 2^-8 of that:
// fit for few ranks. NCCL's own average would round each number's R-th part as well: 1 / R is a factor in fp32 here.
// The same bits on every rank, and on a rerun with as many ranks; with another number of them other numbers are rounded.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/communicator.h"
#include "engine/gradient_row.h"
#include "engine/ops.h"
#include "engine/tensor.h"

namespace entangle {

// Views that cover those of two backward passes over the same parameters, for begin() or a tree: those of `last`, each as large
// as the larger of the two, then those of `earlier` alone, which are finished when `last` runs backward. Throws Error when of
// two views that begin at the same number neither covers the other.
std::vector<TapedView> joined_views(const std::vector<TapedView>& earlier, std::vector<TapedView> last);

// Averages gradients over the ranks of a communicator, which must outlive it.
//   exchange.begin(views);
//   tape.backward(loss, 1, [&](size_t left) { exchange.advance(left); });
//   exchange.finish();
class GradientExchange {
 public:
  static constexpr int64_t kBucket = int64_t{1} << 19;  // numbers, 2 MB of fp32

  explicit GradientExchange(Communicator& ranks, Precision wire = Precision::fp32);

  // `views`: of parameters where the communicator's sums are, in the order in which the forward pass used them; no two overlap.
  // Their gradients may hold those of earlier passes. Throws Error when they lie where the communicator sums nothing.
  void begin(std::vector<TapedView> views);
  // Sends what is finished when the tape has `left` operations left, and lets the sums under way go on.
  void advance(size_t left);
  // Sends the rest and waits (on a GPU, what is launched from then on does): then the views' gradients are the mean over all
  // ranks, the same bits on each. Other gradients stay as they are.
  void finish();
  // What each rank gave to the sums since begin(), in bytes.
  int64_t bytes() const { return filled_ * (wire_ == Precision::bf16 ? 2 : 4); }

 private:
  template <class F>
  void on_wire(const F& f);  // f(a number as it is sent)
  void fill(size_t left);
  void start_bucket(int64_t count);

  Communicator& ranks_;
  const Precision wire_;
  std::vector<TapedView> views_;
  GradientRow row_;                   // of them
  size_t unsent_ = 0;                 // views_[unsent_ ...] are finished
  int64_t filled_ = 0, started_ = 0;  // numbers that are finished, and those of them whose sum has begun
  std::vector<Tensor> buckets_;       // each with room for kBucket numbers, which is packed when its sum begins
};

// The mean of a gradient over a fixed number of shards of a batch, whichever processes compute them: the shards' gradients
// are added in a binary tree over their numbers, so 1, 2, 4, ... processes find the same bits, on processors or on GPUs of one
// kind (of which each shard's gradient has the same bits).
//   Rank r of R computes shards r S/R .. (r + 1) S/R - 1 in this order:  tape.backward(loss_of_shard);  tree.add(views);
//   Then each:  tree.finish(views);
// Costs a pass over the subnet's gradient a shard, log2(S/R) + 1 copies of it in memory (2 at least), and log2(R) messages
// of its size.
class GradientTree {
 public:
  // `shards`: a power of two, and a multiple of the ranks, which are a power of two. Throws Error otherwise.
  GradientTree(Communicator& ranks, int64_t shards);

  // Takes the views' gradient, of the next own shard, and leaves zeros. Throws Error when it lies where the communicator swaps
  // nothing.
  void add(const std::vector<TapedView>& views);
  // Gives the views the mean over all shards (on a GPU, what is launched from then on finds it).
  void finish(const std::vector<TapedView>& views);
  // What this rank gave to others in the last finish(), in bytes.
  int64_t bytes() const { return bytes_; }
  // The most memory that it takes for gradients of `numbers` numbers.
  int64_t memory(int64_t numbers) const;

 private:
  int64_t own() const { return shards_ / ranks_.size(); }

  Communicator& ranks_;
  const int64_t shards_;
  int64_t added_ = 0, bytes_ = 0;
  std::vector<Tensor> levels_;  // [l]: the sum of 2^l shards that wait for the 2^l next ones
};

}  // namespace entangle
