// Residual connection with drop-path: one factor an image.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

void residual_forward(int64_t batch, int64_t n, const float* x, const float* branch, const float* factor, float* y) {
  parallel_for(batch, [&](int64_t b) {
    const float scale = factor == nullptr ? 1.0f : factor[b];
    const int64_t first = b * n;
    for_vectors(n, [&](int64_t i, int64_t count) {
      store_some(y + first + i, load_some(x + first + i, count) + load_some(branch + first + i, count) * scale, count);
    });
  });
}

void residual_backward(int64_t batch, int64_t n, const float* factor, const float* dy, float* dbranch, bool add) {
  parallel_for(batch, [&](int64_t b) {
    const float scale = factor == nullptr ? 1.0f : factor[b];
    const int64_t first = b * n;
    for_vectors(n, [&](int64_t i, int64_t count) {
      put(dbranch + first + i, load_some(dy + first + i, count) * scale, count, add);
    });
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
