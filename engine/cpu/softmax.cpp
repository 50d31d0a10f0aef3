// Softmax over rows. A row is swept three times: its largest value, the exponentials and their sum, the quotients.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kSoftmaxValues = 1 << 14 };  // of the rows of a chunk of work, about

// What has no normal number left is zero: a value of minus infinity takes no part.
static inline vec exponential_or_zero(vec x) { return x < -87.3f ? vec{} : exponential(x); }

static inline void softmax_row(int64_t width, float scale, const float* x, float* y) {
  vec most = splat(x[0] * scale);
  for_vectors(width, [&](int64_t i, int64_t n) { most = larger(most, load_some(x + i, n, x[0]) * scale); });
  const float largest = largest_of(most);
  vec sums = {};
  for_vectors(width, [&](int64_t i, int64_t n) {
    const vec e = exponential_or_zero(load_some(x + i, n) * scale - largest);
    store_some(y + i, e, n);
    sums += n == kLanes ? e : keep_first(e, n);
  });
  const float inverse = 1.0f / sum_of(sums);
  for_vectors(width, [&](int64_t i, int64_t n) { store_some(y + i, load_some(y + i, n) * inverse, n); });
}

static inline void softmax_backward_row(int64_t width, float scale, const float* y, const float* dy, float* dx,
                                        bool add) {
  vec products = {};
  for_vectors(width, [&](int64_t i, int64_t n) { products += load_some(y + i, n) * load_some(dy + i, n); });
  const float mean = sum_of(products);
  for_vectors(width, [&](int64_t i, int64_t n) {
    put(dx + i, load_some(y + i, n) * scale * (load_some(dy + i, n) - mean), n, add);
  });
}

// Calls body(row) for all rows.
template <class F>
static void for_rows(int64_t rows, int64_t width, const F& body) {
  const int64_t per_chunk = max_of(1, kSoftmaxValues / width);
  parallel_for(chunks_of(rows, per_chunk), [&](int64_t chunk) {
    for (int64_t r = chunk * per_chunk; r < min_of(rows, (chunk + 1) * per_chunk); ++r) body(r);
  });
}

void softmax_forward(int64_t rows, int64_t width, float scale, const float* x, float* y) {
  for_rows(rows, width, [=](int64_t r) { softmax_row(width, scale, x + r * width, y + r * width); });
}

void softmax_backward(int64_t rows, int64_t width, float scale, const float* y, const float* dy, float* dx, bool add) {
  for_rows(rows, width,
           [=](int64_t r) { softmax_backward_row(width, scale, y + r * width, dy + r * width, dx + r * width, add); });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
