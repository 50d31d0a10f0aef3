// Dropout: the mask is a function of the element's index, drawn anew in the backward pass instead of being kept.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kElementsPerChunk = 16384 };  // a multiple of 4, the words of one random block

static void apply(int64_t n, float rate, RngKey key, const float* from, float* to, bool add) {
  const float keep = 1.0f / (1.0f - rate);
  parallel_for(chunks_of(n, kElementsPerChunk), [&](int64_t chunk) {
    const int64_t last = min_of(n, (chunk + 1) * kElementsPerChunk);
    for (int64_t i = chunk * kElementsPerChunk; i < last; ++i) {
      const float x = rng_uniform(key, static_cast<uint64_t>(i)) >= rate ? from[i] * keep : 0.0f;
      to[i] = add ? to[i] + x : x;
    }
  });
}

void dropout_forward(int64_t n, float rate, RngKey key, const float* x, float* y) { apply(n, rate, key, x, y, false); }

void dropout_backward(int64_t n, float rate, RngKey key, const float* dy, float* dx, bool add) {
  apply(n, rate, key, dy, dx, add);
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
