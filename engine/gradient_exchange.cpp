#include "engine/gradient_exchange.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "engine/bf16.h"
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

void copy(const float* from, int64_t count, float* to) { std::copy(from, from + count, to); }
void copy(const float* from, int64_t count, uint16_t* to) { std::transform(from, from + count, to, to_bf16); }

float value_of(float x) { return x; }
float value_of(uint16_t x) { return from_bf16(x); }

// Copies a view's gradient to `packed`; returns the end of the copy.
template <class Number>
Number* pack(const Tensor& view, Number* packed) {
  for_rows(view, [&](const float* row, int64_t length) {
    copy(row, length, packed);
    packed += length;
  });
  return packed;
}

// The views' gradients become `packed`, which holds them from the last view to the first, times `factor`.
template <class Number>
void unpack(const std::vector<TapedView>& views, const Number* packed, float factor) {
  for (auto taped = views.rbegin(); taped != views.rend(); ++taped) {
    if (!is_sent(*taped)) continue;
    for_rows(taped->view, [&](float* row, int64_t length) {
      for (int64_t i = 0; i < length; ++i) row[i] = value_of(packed[i]) * factor;
      packed += length;
    });
  }
}

// Whether every number of `b` is one of `a`; both begin at the same one.
bool covers(const Tensor& a, const Tensor& b) {
  if (a.contiguous() && b.contiguous()) return a.count() >= b.count();
  bool all = a.rank() == b.rank();
  for (int d = 0; all && d < a.rank(); ++d) {
    all = a.size(d) >= b.size(d) && (b.size(d) == 1 || a.stride(d) == b.stride(d));
  }
  return all;
}

}  // namespace

std::vector<TapedView> joined_views(const std::vector<TapedView>& earlier, std::vector<TapedView> last) {
  std::unordered_map<const float*, size_t> places;
  for (size_t i = 0; i < last.size(); ++i) places.emplace(last[i].view.data(), i);
  for (const TapedView& taped : earlier) {
    const auto found = places.find(taped.view.data());
    if (found == places.end()) {
      last.push_back({taped.view, std::numeric_limits<size_t>::max()});
      continue;
    }
    Tensor& view = last[found->second].view;
    if (covers(view, taped.view)) continue;
    CHECK(covers(taped.view, view), "of two views of a parameter neither covers the other: its gradient is not sent");
    view = taped.view;
  }
  return last;
}

template <class F>
void GradientExchange::on_wire(const F& f) {
  if (wire_ == Precision::bf16) {
    f(packed_bf16_);
  } else {
    f(packed_);
  }
}

GradientExchange::GradientExchange(Communicator& ranks, Precision wire) : ranks_(ranks), wire_(wire) {
  CHECK(!on_device() || wire == Precision::fp32, "bf16 on the wire is for processors: on GPUs set TRAIN.wire=fp32");
}

void GradientExchange::begin(std::vector<TapedView> views) {
  views_ = std::move(views);
  unsent_ = views_.size();
  filled_ = started_ = 0;
  if (on_device()) {
    device_gradient_ = DeviceGradient(views_);
    return;
  }
  // Before the first sum: they must stay where they are.
  const size_t numbers = static_cast<size_t>(sent_numbers(views_));
  on_wire([&](auto& packed) { packed.resize(numbers); });
}

template <class Number>
void GradientExchange::fill(size_t left, std::vector<Number>& packed) {
  for (; unsent_ > 0 && views_[unsent_ - 1].before >= left; --unsent_) {
    const TapedView& taped = views_[unsent_ - 1];
    if (!is_sent(taped)) continue;
    filled_ = pack(taped.view, packed.data() + filled_) - packed.data();
    for (; filled_ - started_ >= kBucket; started_ += kBucket) ranks_.start_sum(packed.data() + started_, kBucket);
  }
  if (unsent_ > 0 || filled_ == started_) return;
  ranks_.start_sum(packed.data() + started_, filled_ - started_);
  started_ = filled_;
}

// The same on a GPU.
void GradientExchange::fill_buckets(size_t left) {
  for (; unsent_ > 0 && views_[unsent_ - 1].before >= left; --unsent_) {
    if (is_sent(views_[unsent_ - 1])) filled_ += views_[unsent_ - 1].view.count();
    while (filled_ - started_ >= kBucket) start_bucket(kBucket);
  }
  if (unsent_ == 0 && filled_ > started_) start_bucket(filled_ - started_);
}

void GradientExchange::start_bucket(int64_t count) {
  const size_t bucket = static_cast<size_t>(started_ / kBucket);
  if (bucket == buckets_.size()) buckets_.push_back(Tensor::empty({kBucket}, ranks_.device()));
  device_gradient_.pack(started_, count, buckets_[bucket].data());
  ranks_.start_sum(buckets_[bucket].data(), count);
  started_ += count;
}

void GradientExchange::advance(size_t left) {
  if (on_device()) {
    fill_buckets(left);
  } else {
    on_wire([&](auto& packed) { fill(left, packed); });
  }
  ranks_.progress();
}

void GradientExchange::finish() {
  const TraceSpan span("communication", "finish the mean");
  advance(0);
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
    on_wire([&](const auto& packed) { unpack(views_, packed.data(), share); });
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
