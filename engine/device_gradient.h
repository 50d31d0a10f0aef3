// The gradients of views on a GPU as one row of numbers: what processes exchange (engine/gradient_exchange.h).
//
// The numbers are those of the last view first, each view's in row-major order; a gradient lies in its parameter's buffer, with
// the strides of the view.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace entangle {

// A view as the kernels take it.
struct StridedGradient {
  float* gradient;
  int64_t begin;            // of its numbers in the row
  uint32_t size[kMaxRank];  // leading ones for fewer dimensions
  int64_t stride[kMaxRank];
};

// The views, of which any part of the row can be packed and unpacked.
class DeviceGradient {
 public:
  DeviceGradient() = default;
  // Views without a gradient, or without numbers, are left out. Throws Error for one of more than 2^31 numbers.
  explicit DeviceGradient(const std::vector<TapedView>& views);

  int64_t count() const { return count_; }
  // to[0 .. count) become numbers first .. first + count of the row.
  void pack(int64_t first, int64_t count, float* to) const;
  // Those numbers become from[0 .. count) times `factor`.
  void unpack(int64_t first, int64_t count, const float* from, float factor) const;
  void fill_zero() const;

 private:
  std::vector<StridedGradient> views_;
  int64_t count_ = 0;
};

#if defined(ENTANGLE_CUDA)
// cuda/device_gradient.cu. `views` follow one another in the row.
namespace gpu {
enum class Move { pack, unpack, zero };
// packed[i] belongs to number first + i; unpack multiplies by `factor`; zero leaves packed alone.
void move_gradient(Move move, const std::vector<StridedGradient>& views, int64_t first, int64_t count, float* packed,
                   float factor);
}  // namespace gpu
#endif

}  // namespace entangle
