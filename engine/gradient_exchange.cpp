#include "engine/gradient_exchange.h"

#include <algorithm>

#include "engine/check.h"

namespace entangle {
namespace {

// Calls row(gradient, length) for each contiguous piece of a view's gradient, in row-major order.
template <class F>
void for_rows(const Tensor& view, const F& row) {
  if (view.count() == 0) return;
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

}  // namespace

void GradientExchange::average(const std::vector<Tensor>& views) {
  bytes_ = 0;
  if (ranks_.size() == 1) return;
  int64_t total = 0;
  for (const Tensor& view : views) {
    if (!view.requires_grad()) continue;
    CHECK(view.device() == DeviceKind::cpu, "gradients are averaged over processes on the processor alone");
    total += view.count();
  }
  packed_.resize(static_cast<size_t>(total));  // before the first sum: they must stay where they are
  int64_t filled = 0, started = 0;
  for (auto view = views.rbegin(); view != views.rend(); ++view) {
    if (!view->requires_grad()) continue;
    for_rows(*view, [&](const float* row, int64_t length) {
      std::copy(row, row + length, packed_.data() + filled);
      filled += length;
    });
    for (; filled - started >= kBucket; started += kBucket) ranks_.start_sum(packed_.data() + started, kBucket);
  }
  if (filled > started) ranks_.start_sum(packed_.data() + started, filled - started);
  ranks_.finish_sums();
  const float share = 1.0f / static_cast<float>(ranks_.size());
  int64_t taken = 0;
  for (auto view = views.rbegin(); view != views.rend(); ++view) {
    if (!view->requires_grad()) continue;
    for_rows(*view, [&](float* row, int64_t length) {
      for (int64_t i = 0; i < length; ++i) row[i] = packed_[static_cast<size_t>(taken + i)] * share;
      taken += length;
    });
  }
  bytes_ = total * static_cast<int64_t>(sizeof(float));
}

}  // namespace entangle
