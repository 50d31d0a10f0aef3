#include "engine/gradient_exchange.h"

#include <algorithm>
#include <utility>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/trace.h"

namespace entangle {
namespace {

bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

bool is_sent(const TapedView& taped) { return taped.view.requires_grad() && taped.view.count() > 0; }

int64_t sent_numbers(const std::vector<TapedView>& views) {
  int64_t total = 0;
  for (const TapedView& taped : views) {
    if (!is_sent(taped)) continue;
    CHECK(taped.view.device() == DeviceKind::cpu,
          "gradients are averaged over processes and shards on the processor alone");
    total += taped.view.count();
  }
  return total;
}

// Calls row(gradient, length) for each contiguous piece of a view's gradient, in row-major order.
template <class F>
void for_rows(const Tensor& view, const F& row) {
  const int rank = view.rank();
  const int64_t length = rank == 0 ? 1 : view.size(rank - 1);
  CHECK(rank == 0 || length == 1 || view.stride(rank - 1) == 1, "the rows of a view must be contiguous");
  float* const first = view.grad();
  for (int64_t i = 0; i < view.count() / length; ++i) {
    int64_t rest = i, offset = 0;
    for (int d = rank - 2; d >= 0; --d) {
      offset += rest % view.size(d) * view.stride(d);
      rest /= view.size(d);
    }
    row(first + offset, length);
  }
}

// Copies a view's gradient to `packed`; returns the end of the copy.
float* pack(const Tensor& view, float* packed) {
  for_rows(view, [&](const float* row, int64_t length) { packed = std::copy(row, row + length, packed); });
  return packed;
}

// The views' gradients become `packed`, which holds them from the last view to the first, times `factor`.
void unpack(const std::vector<TapedView>& views, const float* packed, float factor) {
  for (auto taped = views.rbegin(); taped != views.rend(); ++taped) {
    if (!is_sent(*taped)) continue;
    for_rows(taped->view, [&](float* row, int64_t length) {
      for (int64_t i = 0; i < length; ++i) row[i] = packed[i] * factor;
      packed += length;
    });
  }
}

}  // namespace

void GradientExchange::begin(std::vector<TapedView> views) {
  views_ = std::move(views);
  unsent_ = views_.size();
  filled_ = started_ = 0;
  if (on_device()) {
    device_gradient_ = DeviceGradient(views_);
    return;
  }
  packed_.resize(static_cast<size_t>(sent_numbers(views_)));  // before the first sum: they must stay where they are
}

// Of the next numbers, which are finished.
void GradientExchange::start_sum(int64_t count) {
  float* numbers = packed_.data() + started_;
  if (on_device()) {
    const size_t bucket = static_cast<size_t>(started_ / kBucket);
    if (bucket == buckets_.size()) buckets_.push_back(Tensor::empty({kBucket}, ranks_.device()));
    numbers = buckets_[bucket].data();
    device_gradient_.pack(started_, count, numbers);
  }
  ranks_.start_sum(numbers, count);
  started_ += count;
}

void GradientExchange::advance(size_t left) {
  for (; unsent_ > 0 && views_[unsent_ - 1].before >= left; --unsent_) {
    const TapedView& taped = views_[unsent_ - 1];
    if (!is_sent(taped)) continue;
    if (on_device()) {
      filled_ += taped.view.count();
    } else {
      filled_ = pack(taped.view, packed_.data() + filled_) - packed_.data();
    }
    while (filled_ - started_ >= kBucket) start_sum(kBucket);
  }
  ranks_.progress();
}

void GradientExchange::finish() {
  const TraceSpan span("communication", "finish the mean");
  advance(0);
  if (filled_ > started_) start_sum(filled_ - started_);
  {
    const TraceSpan waiting("communication", "wait for sums");
    ranks_.finish_sums();
  }
  const float share = 1.0f / static_cast<float>(ranks_.size());
  if (on_device()) {
    for (int64_t begin = 0; begin < filled_; begin += kBucket) {
      const float* const sums = buckets_[static_cast<size_t>(begin / kBucket)].data();
      device_gradient_.unpack(begin, std::min(kBucket, filled_ - begin), sums, share);
    }
  } else {
    unpack(views_, packed_.data(), share);
  }
  views_.clear();
}

GradientTree::GradientTree(Communicator& ranks, int64_t shards) : ranks_(ranks), shards_(shards) {
  CHECK(is_power_of_two(shards), "a gradient is summed in a tree over 1, 2, 4, 8, ... shards, not over ", shards);
  CHECK(is_power_of_two(ranks.size()) && ranks.size() <= shards, "a tree over ", shards,
        " shards is shared by 1, 2, 4, ... up to as many processes, not by ", ranks.size());
}

void GradientTree::add_to_sum(const std::vector<float>& other) {
  add_floats(static_cast<int64_t>(sum_.size()), other.data(), sum_.data(), DeviceKind::cpu);
}

void GradientTree::add(const std::vector<TapedView>& views) {
  const TraceSpan span("communication", "add a shard");
  sum_.resize(static_cast<size_t>(sent_numbers(views)));
  float* end = sum_.data();
  for (auto taped = views.rbegin(); taped != views.rend(); ++taped) {
    if (!is_sent(*taped)) continue;
    end = pack(taped->view, end);
    for_rows(taped->view, [](float* row, int64_t length) { std::fill(row, row + length, 0.0f); });
  }
  // As in counting in binary: a sum of 2^l shards joins the one that waits, and both go on as one of 2^(l + 1).
  size_t level = 0;
  for (; (added_ >> level & 1) != 0; ++level) add_to_sum(levels_[level]);
  if (level == levels_.size()) levels_.emplace_back();
  std::swap(levels_[level], sum_);
  ++added_;
}

void GradientTree::finish(const std::vector<TapedView>& views) {
  const TraceSpan span("communication", "finish the tree of sums");
  const int64_t own = shards_ / ranks_.size();
  CHECK(added_ == own, "of the ", own, " shards of rank ", ranks_.rank(), " ", added_, " were added");
  added_ = bytes_ = 0;
  size_t level = 0;
  while (own >> level != 1) ++level;
  std::swap(sum_, levels_[level]);
  received_.resize(sum_.size());
  // Rank r holds the sum of as many ranks as there have been rounds, a power of two; so does the one that it swaps with.
  for (int apart = 1; apart < ranks_.size(); apart *= 2) {
    const int64_t count = static_cast<int64_t>(sum_.size());
    ranks_.swap(ranks_.rank() ^ apart, sum_.data(), received_.data(), count);
    add_to_sum(received_);
    bytes_ += count * static_cast<int64_t>(sizeof(float));
  }
  unpack(views, sum_.data(), 1.0f / static_cast<float>(shards_));
}

}  // namespace entangle
