// Class token and positions. Gradients of both sum over the batch in order, one token at a time.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

static inline void add_row(int64_t n, const float* from, float* to) {
  for_vectors(n, [&](int64_t i, int64_t count) { put(to + i, load_some(from + i, count), count, true); });
}

void tokens_forward(const TokensShape& s, const float* patches, const float* class_token, const float* position,
                    float* y) {
  parallel_for(s.batch, [&](int64_t b) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      const float* from = t == 0 ? class_token : patches + (b * (s.tokens - 1) + t - 1) * s.width;
      float* to = y + (b * s.tokens + t) * s.width;
      memcpy(to, from, static_cast<size_t>(s.width) * sizeof(float));
      if (position != nullptr) add_row(s.width, position + t * s.position_row, to);
    }
  });
}

void tokens_backward(const TokensShape& s, const float* dy, float* dpatches, bool add, float* dclass,
                     float* dposition) {
  parallel_for(s.tokens, [&](int64_t t) {
    for (int64_t b = 0; b < s.batch; ++b) {
      const float* from = dy + (b * s.tokens + t) * s.width;
      if (dposition != nullptr) add_row(s.width, from, dposition + t * s.position_row);
      if (t == 0) {
        add_row(s.width, from, dclass);
        continue;
      }
      float* to = dpatches + (b * (s.tokens - 1) + t - 1) * s.width;
      for_vectors(s.width, [&](int64_t i, int64_t n) { put(to + i, load_some(from + i, n), n, add); });
    }
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
