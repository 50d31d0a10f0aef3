#include "engine/gradient_exchange.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/trace.h"

namespace entangle {
namespace {

bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

// Gradients lie where the ranks exchange numbers; a process alone exchanges none.
void check_device(const GradientRow& row, const Communicator& ranks) {
  CHECK(row.count() == 0 || ranks.size() == 1 || row.device() == ranks.device(), "gradients on ", name_of(row.device()),
        " are averaged over processes that exchange numbers on ", name_of(ranks.device()));
}

// Sums are added, and given back, number by number.
void check_same_count(const Tensor& sum, const GradientRow& row) {
  CHECK(sum.count() == row.count(), "a sum of shards of ", sum.count(), " numbers meets a gradient of ", row.count(),
        ": the shards of a step have the same views");
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

GradientExchange::GradientExchange(Communicator& ranks, Precision wire) : ranks_(ranks), wire_(wire) {}

template <class F>
void GradientExchange::on_wire(const F& f) {
  if (wire_ == Precision::bf16) {
    f(uint16_t{});
  } else {
    f(float{});
  }
}

void GradientExchange::begin(std::vector<TapedView> views) {
  views_ = std::move(views);
  row_ = GradientRow(views_);
  check_device(row_, ranks_);
  unsent_ = views_.size();
  filled_ = started_ = 0;
}

void GradientExchange::fill(size_t left) {
  for (; unsent_ > 0 && views_[unsent_ - 1].before >= left; --unsent_) {
    const Tensor& view = views_[unsent_ - 1].view;
    if (view.requires_grad()) filled_ += view.count();
    while (filled_ - started_ >= kBucket) start_bucket(kBucket);
  }
  if (unsent_ == 0 && filled_ > started_) start_bucket(filled_ - started_);
}

void GradientExchange::start_bucket(int64_t count) {
  on_wire([&](auto number) {
    using Number = decltype(number);
    const size_t bucket = static_cast<size_t>(started_ / kBucket);
    const int64_t floats = kBucket * static_cast<int64_t>(sizeof(Number)) / static_cast<int64_t>(sizeof(float));
    if (bucket == buckets_.size()) buckets_.push_back(Tensor::empty({floats}, row_.device()));
    Number* const numbers = reinterpret_cast<Number*>(buckets_[bucket].data());
    row_.pack(started_, count, numbers);
    ranks_.start_sum(numbers, count);
  });
  started_ += count;
}

void GradientExchange::advance(size_t left) {
  fill(left);
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
  on_wire([&](auto number) {
    for (int64_t begin = 0; begin < filled_; begin += kBucket) {
      const float* const bucket = buckets_[static_cast<size_t>(begin / kBucket)].data();
      row_.unpack(begin, std::min(kBucket, filled_ - begin), reinterpret_cast<const decltype(number)*>(bucket), share);
    }
  });
  views_.clear();
}

GradientTree::GradientTree(Communicator& ranks, int64_t shards) : ranks_(ranks), shards_(shards) {
  CHECK(is_power_of_two(shards), "a gradient is summed in a tree over 1, 2, 4, 8, ... shards, not over ", shards);
  CHECK(is_power_of_two(ranks.size()) && ranks.size() <= shards, "a tree over ", shards,
        " shards is shared by 1, 2, 4, ... up to as many processes, not by ", ranks.size());
}

int64_t GradientTree::memory(int64_t numbers) const {
  int64_t rows = 1;  // the last shard's, beside a sum of each level below the last
  for (int64_t shards = own(); shards > 1; shards /= 2) ++rows;
  return std::max<int64_t>(rows, 2) * numbers * static_cast<int64_t>(sizeof(float));
}

void GradientTree::add(const std::vector<TapedView>& views) {
  const TraceSpan span("communication", "add a shard");
  const GradientRow row(views);
  check_device(row, ranks_);
  const Tensor sum = Tensor::empty({row.count()}, row.device());
  row.pack(0, row.count(), sum.data());
  row.fill_zero();
  // As in counting in binary: a sum of 2^l shards joins the one that waits, and both go on as one of 2^(l + 1).
  size_t level = 0;
  for (; (added_ >> level & 1) != 0; ++level) {
    check_same_count(levels_[level], row);
    add_floats(row.count(), levels_[level].data(), sum.data(), row.device());
    levels_[level] = Tensor();
  }
  if (level == levels_.size()) levels_.emplace_back();
  levels_[level] = sum;
  ++added_;
}

void GradientTree::finish(const std::vector<TapedView>& views) {
  const TraceSpan span("communication", "finish the tree of sums");
  CHECK(added_ == own(), "of the ", own(), " shards of rank ", ranks_.rank(), " ", added_, " were added");
  added_ = bytes_ = 0;
  const Tensor sum = std::move(levels_.back());
  levels_.clear();
  const GradientRow row(views);
  check_same_count(sum, row);
  {
    const Tensor received = Tensor::empty({row.count()}, row.device());
    // Rank r holds the sum of as many ranks as there have been rounds, a power of two; so does the one that it swaps with.
    for (int apart = 1; apart < ranks_.size(); apart *= 2) {
      ranks_.swap(ranks_.rank() ^ apart, sum.data(), received.data(), row.count());
      add_floats(row.count(), received.data(), sum.data(), row.device());
      bytes_ += row.count() * static_cast<int64_t>(sizeof(float));
    }
  }
  row.unpack(0, row.count(), sum.data(), 1.0f / static_cast<float>(shards_));
}

}  // namespace entangle
