// Moves the gradients of views into a row of numbers and back.
//
// Math: packed[i] = g, g = factor packed[i], or g = 0, where g is number first + i of the views' gradients, one view behind the
//   other, each in row-major order.
// Shapes: views of up to four dimensions with any strides; packed: count floats.
// Preconditions: views follow one another without gaps, none overlaps another; each has fewer than 2^31 numbers.
// Launch: blocks of kThreads over kPerBlock numbers each; up to kViews views a launch, which are parameters of the kernel, no
//   shared memory. Bound by memory: 8 bytes a number.
// Numerics: copies; one fp32 product.
#include "engine/device_gradient.h"

#include <algorithm>

#include "cuda/device.cuh"

namespace entangle::gpu {

namespace {

constexpr int kViews = 48;  // parameters of a kernel are 4 KB at most

struct Views {
  StridedGradient view[kViews];
  int count;
};

// Number i of the row.
__device__ inline float* element(const Views& views, int64_t i) {
  int low = 0, high = views.count - 1;  // the last view that does not begin behind i
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (views.view[middle].begin <= i) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const StridedGradient& view = views.view[low];
  uint32_t rest = static_cast<uint32_t>(i - view.begin);
  int64_t offset = 0;
  for (int d = kMaxRank - 1; d > 0; --d) {
    offset += rest % view.size[d] * view.stride[d];
    rest /= view.size[d];
  }
  return view.gradient + offset + rest * view.stride[0];
}

__global__ void pack_kernel(const __grid_constant__ Views views, int64_t first, int64_t count, float* to) {
  for_elements(count, [&](int64_t i) { to[i] = *element(views, first + i); });
}

__global__ void unpack_kernel(const __grid_constant__ Views views, int64_t first, int64_t count, const float* from,
                              float factor) {
  for_elements(count, [&](int64_t i) { *element(views, first + i) = from[i] * factor; });
}

__global__ void zero_kernel(const __grid_constant__ Views views, int64_t first, int64_t count) {
  for_elements(count, [&](int64_t i) { *element(views, first + i) = 0; });
}

}  // namespace

void move_gradient(Move move, const std::vector<StridedGradient>& all, int64_t first, int64_t count, float* packed,
                   float factor) {
  if (count == 0) return;
  const int64_t last = first + count;
  const auto begins_behind = [](int64_t i, const StridedGradient& view) { return i < view.begin; };
  size_t next = static_cast<size_t>(std::upper_bound(all.begin(), all.end(), first, begins_behind) - all.begin()) - 1;
  for (int64_t done = first; done < last;) {
    Views views = {};
    for (; views.count < kViews && next < all.size() && all[next].begin < last; ++next)
      views.view[views.count++] = all[next];
    const int64_t end = next < all.size() ? std::min(last, all[next].begin) : last, n = end - done;
    const unsigned blocks = blocks_for(n, kPerBlock);
    float* const part = packed + (done - first);
    if (move == Move::pack) LAUNCH(pack_kernel, blocks, kThreads, 0, stream(), views, done, n, part);
    if (move == Move::unpack) LAUNCH(unpack_kernel, blocks, kThreads, 0, stream(), views, done, n, part, factor);
    if (move == Move::zero) LAUNCH(zero_kernel, blocks, kThreads, 0, stream(), views, done, n);
    done = end;
  }
}

}  // namespace entangle::gpu
