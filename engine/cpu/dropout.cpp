// Dropout: the mask is a function of the element's index, drawn anew in the backward pass instead of being kept.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kElementsPerChunk = 16384 };

static void apply(int64_t n, float rate, RngKey key, int64_t first, const float* from, float* to, bool add) {
  const float keep = 1.0f / (1.0f - rate);
  parallel_for(chunks_of(n, kElementsPerChunk), [&](int64_t chunk) {
    const int64_t last = min_of(n, (chunk + 1) * kElementsPerChunk);
    for (int64_t i = chunk * kElementsPerChunk; i < last; ++i) {
      const float x = rng_uniform(key, static_cast<uint64_t>(first + i)) >= rate ? from[i] * keep : 0.0f;
      to[i] = add ? to[i] + x : x;
    }
  });
}

void dropout_forward(int64_t n, float rate, RngKey key, int64_t first, const float* x, float* y) {
  apply(n, rate, key, first, x, y, false);
}

void dropout_backward(int64_t n, float rate, RngKey key, int64_t first, const float* dy, float* dx, bool add) {
  apply(n, rate, key, first, dy, dx, add);
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
