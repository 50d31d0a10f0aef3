// The gradients of views as one row of numbers: what processes exchange (engine/gradient_exchange.h).
//
// The numbers are those of the last view first, each view's in row-major order; a gradient lies in its parameter's buffer, with
// the strides of the view.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace entangle {

// A view as what moves its numbers takes it.
struct StridedGradient {
  float* gradient;
  int64_t begin;            // of its numbers in the row
  uint32_t size[kMaxRank];  // leading ones for fewer dimensions
  int64_t stride[kMaxRank];
};

// The views, of which any part of the row can be packed and unpacked, as fp32 numbers or as bf16 ones (engine/bf16.h), on the
// gradients' device.
class GradientRow {
 public:
  GradientRow() = default;
  // Views without a gradient, or without numbers, are left out. Throws Error for one of more than 2^31 numbers, for views
  // on several devices, and on the processor for one whose rows are not contiguous.
  explicit GradientRow(const std::vector<TapedView>& views);

  int64_t count() const { return count_; }
  DeviceKind device() const { return device_; }  // of an empty row the processor
  // to[0 .. count) become numbers first .. first + count of the row; bf16: each the nearest one, of two the even.
  void pack(int64_t first, int64_t count, float* to) const;
  void pack(int64_t first, int64_t count, uint16_t* to) const;
  // Those numbers become from[0 .. count) times `factor`.
  void unpack(int64_t first, int64_t count, const float* from, float factor) const;
  void unpack(int64_t first, int64_t count, const uint16_t* from, float factor) const;
  void fill_zero() const;

 private:
  std::vector<StridedGradient> views_;
  int64_t count_ = 0;
  DeviceKind device_ = DeviceKind::cpu;
};

#if defined(ENTANGLE_CUDA)
// cuda/gradient_row.cu. `views` follow one another in the row; packed[i] belongs to number first + i.
namespace gpu {
void pack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, float* packed);
void pack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, uint16_t* packed);
void unpack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, const float* packed,
                     float factor);
void unpack_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count, const uint16_t* packed,
                     float factor);
void zero_gradient(const std::vector<StridedGradient>& views, int64_t first, int64_t count);
}  // namespace gpu
#endif

}  // namespace entangle
