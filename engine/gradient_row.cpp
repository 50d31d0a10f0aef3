#include "engine/gradient_row.h"

#include <algorithm>

#include "engine/bf16.h"
#include "engine/check.h"

namespace entangle {
namespace {

// Calls run(gradient, at, length) for numbers first .. first + count, one contiguous piece after another, of which
// packed[at ...] are the `length` numbers.
template <class F>
void for_pieces(const std::vector<StridedGradient>& views, int64_t first, int64_t count, const F& run) {
  if (count == 0) return;
  const auto begins_behind = [](int64_t i, const StridedGradient& view) { return i < view.begin; };
  auto view = std::upper_bound(views.begin(), views.end(), first, begins_behind) - 1;
  for (int64_t at = 0; at < count;) {
    while (view + 1 != views.end() && (view + 1)->begin <= first + at) ++view;
    const int64_t length = view->size[kMaxRank - 1], number = first + at - view->begin;
    int64_t row = number / length, offset = number % length;
    const int64_t here = std::min(count - at, length - offset);
    for (int d = kMaxRank - 2; d >= 0; --d) {
      offset += row % view->size[d] * view->stride[d];
      row /= view->size[d];
    }
    run(view->gradient + offset, at, here);
    at += here;
  }
}

void copy(const float* from, int64_t count, float* to) { std::copy(from, from + count, to); }
void copy(const float* from, int64_t count, uint16_t* to) { std::transform(from, from + count, to, to_bf16); }

float value_of(float x) { return x; }
float value_of(uint16_t x) { return from_bf16(x); }

}  // namespace

// As in cuda/gradient_row.cu.
namespace host {
namespace {

template <class Number>
void pack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, Number* packed) {
  for_pieces(views, first, count,
             [&](const float* gradient, int64_t at, int64_t length) { copy(gradient, length, packed + at); });
}

template <class Number>
void unpack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, const Number* packed,
                     float factor) {
  for_pieces(views, first, count, [&](float* gradient, int64_t at, int64_t length) {
    for (int64_t i = 0; i < length; ++i) gradient[i] = value_of(packed[at + i]) * factor;
  });
}

void zero_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count) {
  for_pieces(views, first, count,
             [](float* gradient, int64_t, int64_t length) { std::fill_n(gradient, length, 0.0f); });
}

}  // namespace
}  // namespace host

GradientRow::GradientRow(const std::vector<TapedView>& views) {
  for (auto taped = views.rbegin(); taped != views.rend(); ++taped) {
    const Tensor& view = taped->view;
    if (!view.requires_grad() || view.count() == 0) continue;
    CHECK(view.count() < int64_t{1} << 31, "a view of ", view.count(), " numbers is too large");
    CHECK(views_.empty() || view.device() == device_, "a row of gradients lies on one device");
    device_ = view.device();
    StridedGradient strided = {view.grad(), count_, {1, 1, 1, 1}, {0, 0, 0, 0}};
    for (int d = 0; d < view.rank(); ++d) {
      const int at = kMaxRank - view.rank() + d;
      strided.size[at] = static_cast<uint32_t>(view.size(d));
      strided.stride[at] = view.stride(d);
    }
    CHECK(device_ != DeviceKind::cpu || strided.size[kMaxRank - 1] == 1 || strided.stride[kMaxRank - 1] == 1,
          "the rows of a view must be contiguous");
    views_.push_back(strided);
    count_ += view.count();
  }
}

// A gradient is on a GPU only in a build for one.
#if defined(ENTANGLE_CUDA)
#define WHERE_IT_LIES(move, ...) (device_ == DeviceKind::cpu ? host::move(__VA_ARGS__) : gpu::move(__VA_ARGS__))
#else
#define WHERE_IT_LIES(move, ...) host::move(__VA_ARGS__)
#endif

void GradientRow::pack(int64_t first, int64_t count, float* to) const {
  WHERE_IT_LIES(pack_gradient, views_, first, count, to);
}

void GradientRow::pack(int64_t first, int64_t count, uint16_t* to) const {
  WHERE_IT_LIES(pack_gradient, views_, first, count, to);
}

void GradientRow::unpack(int64_t first, int64_t count, const float* from, float factor) const {
  WHERE_IT_LIES(unpack_gradient, views_, first, count, from, factor);
}

void GradientRow::unpack(int64_t first, int64_t count, const uint16_t* from, float factor) const {
  WHERE_IT_LIES(unpack_gradient, views_, first, count, from, factor);
}

void GradientRow::fill_zero() const { WHERE_IT_LIES(zero_gradient, views_, 0, count_); }

}  // namespace entangle
