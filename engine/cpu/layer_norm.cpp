// Layer normalisation; gradients of weight and bias are summed per fixed chunk of rows and then over chunks in order.
#include "engine/cpu/layer_norm.h"

#include "engine/ops.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

void layer_norm_forward(int64_t rows, int64_t width, float eps, const float* x, const float* w, const float* b,
                        float* y, float* mean, float* rstd) {
  parallel_for(chunks_of(rows, kNormRows), [&](int64_t chunk) {
    for (int64_t r = chunk * kNormRows; r < min_of(rows, (chunk + 1) * kNormRows); ++r) {
      normalise_row(width, eps, x + r * width, w, b, y + r * width, mean + r, rstd + r);
    }
  });
}

void layer_norm_backward(int64_t rows, int64_t width, const float* x, const float* w, const float* mean,
                         const float* rstd, const float* dy, float* dx, bool add, float* dw, float* db) {
  sum_over_rows(rows, width, dw, db, [&](int64_t r, float* own_dw, float* own_db) {
    backward_row(width, x + r * width, w, mean[r], rstd[r], dy + r * width, dx + r * width, add, own_dw, own_db);
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
