// Moves the gradients of views into a row of numbers and back.
//
// Math: packed[i] = g, g = factor packed[i], or g = 0, where g is number first + i of the views' gradients, one view behind the
//   other, each in row-major order. packed[i] is an fp32 number or a bf16 one.
// Shapes: views of up to four dimensions with any strides; packed: count numbers.
// Preconditions: views follow one another without gaps, none overlaps another; each has fewer than 2^31 numbers.
// Launch: blocks of kThreads over kPerBlock numbers each; up to kViews views a launch, which are parameters of the kernel, no
//   shared memory. Bound by memory: 8 bytes a number, 6 where it is packed as bf16.
// Numerics: copies; roundings to bf16, to nearest, ties to even; one fp32 product.
#include "engine/gradient_row.h"

#include <algorithm>

#include "cuda/bf16.cuh"
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

__device__ inline void store(float value, float* to) { *to = value; }
__device__ inline void store(float value, uint16_t* to) { *to = to_bf16(value).bits; }
__device__ inline float load(const float* from) { return *from; }
__device__ inline float load(const uint16_t* from) { return to_float({*from}); }

template <class Number>
__global__ void pack_kernel(const __grid_constant__ Views views, int64_t first, int64_t count, Number* to) {
  for_elements(
      count, [&](int64_t i) { return *element(views, first + i); },
      [&](int64_t i, float value) { store(value, to + i); });
}

template <class Number>
__global__ void unpack_kernel(const __grid_constant__ Views views, int64_t first, int64_t count, const Number* from,
                              float factor) {
  for_elements(
      count, [&](int64_t i) { return load(from + i) * factor; },
      [&](int64_t i, float value) { *element(views, first + i) = value; });
}

__global__ void zero_kernel(const __grid_constant__ Views views, int64_t first, int64_t count) {
  for_elements(count, [&](int64_t i) { *element(views, first + i) = 0; });
}

// Calls launch(views, begin, n, blocks) for numbers first .. first + count, as many views at a time as a launch takes.
template <class Launch>
void for_launches(const std::vector<StridedGradient>& all, int64_t first, int64_t count, const Launch& launch) {
  if (count == 0) return;
  const int64_t last = first + count;
  const auto begins_behind = [](int64_t i, const StridedGradient& view) { return i < view.begin; };
  size_t next = static_cast<size_t>(std::upper_bound(all.begin(), all.end(), first, begins_behind) - all.begin()) - 1;
  for (int64_t done = first; done < last;) {
    Views views = {};
    for (; views.count < kViews && next < all.size() && all[next].begin < last; ++next)
      views.view[views.count++] = all[next];
    const int64_t end = next < all.size() ? std::min(last, all[next].begin) : last;
    launch(views, done, end - done, blocks_for(end - done, kPerBlock));
    done = end;
  }
}

template <class Number>
void pack(const std::vector<StridedGradient>& all, int64_t first, int64_t count, Number* packed) {
  for_launches(all, first, count, [&](const Views& views, int64_t begin, int64_t n, unsigned blocks) {
    LAUNCH_AS("pack_kernel", pack_kernel<Number>, blocks, kThreads, 0, stream(), views, begin, n,
              packed + (begin - first));
  });
}

template <class Number>
void unpack(const std::vector<StridedGradient>& all, int64_t first, int64_t count, const Number* packed, float factor) {
  for_launches(all, first, count, [&](const Views& views, int64_t begin, int64_t n, unsigned blocks) {
    LAUNCH_AS("unpack_kernel", unpack_kernel<Number>, blocks, kThreads, 0, stream(), views, begin, n,
              packed + (begin - first), factor);
  });
}

}  // namespace

void pack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, float* packed) {
  pack(views, first, count, packed);
}

void pack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, uint16_t* packed) {
  pack(views, first, count, packed);
}

void unpack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, const float* packed,
                     float factor) {
  unpack(views, first, count, packed, factor);
}

void unpack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, const uint16_t* packed,
                     float factor) {
  unpack(views, first, count, packed, factor);
}

void zero_gradient(const std::vector<StridedGradient>& all, int64_t first, int64_t count) {
  for_launches(all, first, count, [&](const Views& views, int64_t begin, int64_t n, unsigned blocks) {
    LAUNCH(zero_kernel, blocks, kThreads, 0, stream(), views, begin, n);
  });
}

}  // namespace entangle::gpu
