#include "engine/device_gradient.h"

#include "engine/check.h"
#include "engine/device.h"

namespace entangle {

DeviceGradient::DeviceGradient(const std::vector<TapedView>& views) {
  for (auto taped = views.rbegin(); taped != views.rend(); ++taped) {
    const Tensor& view = taped->view;
    if (!view.requires_grad() || view.count() == 0) continue;
    CHECK(view.count() < int64_t{1} << 31, "a view of ", view.count(), " numbers is too large");
    StridedGradient strided = {view.grad(), count_, {1, 1, 1, 1}, {0, 0, 0, 0}};
    for (int d = 0; d < view.rank(); ++d) {
      const int at = kMaxRank - view.rank() + d;
      strided.size[at] = static_cast<uint32_t>(view.size(d));
      strided.stride[at] = view.stride(d);
    }
    views_.push_back(strided);
    count_ += view.count();
  }
}

#if defined(ENTANGLE_CUDA)

void DeviceGradient::pack(int64_t first, int64_t count, float* to) const {
  gpu::move_gradient(gpu::Move::pack, views_, first, count, to, 1);
}

void DeviceGradient::unpack(int64_t first, int64_t count, const float* from, float factor) const {
  gpu::move_gradient(gpu::Move::unpack, views_, first, count, const_cast<float*>(from), factor);
}

void DeviceGradient::fill_zero() const { gpu::move_gradient(gpu::Move::zero, views_, 0, count_, nullptr, 0); }

#else

void DeviceGradient::pack(int64_t, int64_t, float*) const { RAISE(why_no_cuda()); }
void DeviceGradient::unpack(int64_t, int64_t, const float*, float) const { RAISE(why_no_cuda()); }
void DeviceGradient::fill_zero() const { RAISE(why_no_cuda()); }

#endif

}  // namespace entangle
