// GELU, element by element; the function is in gelu.h.
#include "engine/cpu/gelu.h"

#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kElementsPerChunk = 16384 };

void gelu_forward(int64_t n, const float* x, float* y) {
  parallel_for(chunks_of(n, kElementsPerChunk), [&](int64_t chunk) {
    const int64_t first = chunk * kElementsPerChunk;
    for_vectors(min_of(kElementsPerChunk, n - first), [&](int64_t i, int64_t count) {
      const vec in = load_some(x + first + i, count);
      store_some(y + first + i, in * normal_distribution(in).cumulative, count);
    });
  });
}

void gelu_backward(int64_t n, const float* x, const float* dy, float* dx, bool add) {
  parallel_for(chunks_of(n, kElementsPerChunk), [&](int64_t chunk) {
    const int64_t first = chunk * kElementsPerChunk;
    for_vectors(min_of(kElementsPerChunk, n - first), [&](int64_t i, int64_t count) {
      const int64_t at = first + i;
      const vec in = load_some(x + at, count);
      put(dx + at, load_some(dy + at, count) * gelu_slope(in, normal_distribution(in)), count, add);
    });
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
