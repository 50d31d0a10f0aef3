// Mean over a range of tokens.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

void pool_forward(const PoolShape& s, const float* x, float* y) {
  const float scale = 1.0f / static_cast<float>(s.count);
  parallel_for(s.batch, [&](int64_t b) {
    const float* from = x + (b * s.tokens + s.first) * s.width;
    for_vectors(s.width, [&](int64_t c, int64_t n) {
      vec sum = {};
      for (int64_t t = 0; t < s.count; ++t) sum += load_some(from + t * s.width + c, n);
      store_some(y + b * s.width + c, sum * scale, n);
    });
  });
}

void pool_backward(const PoolShape& s, const float* dy, float* dx, bool add) {
  const float scale = 1.0f / static_cast<float>(s.count);
  parallel_for(s.batch, [&](int64_t b) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      const float share = t >= s.first && t < s.first + s.count ? scale : 0.0f;
      float* to = dx + (b * s.tokens + t) * s.width;
      for_vectors(s.width,
                  [&](int64_t c, int64_t n) { put(to + c, load_some(dy + b * s.width + c, n) * share, n, add); });
    }
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
