// Layer normalisation of one row in the L1 cache: its sum, then the sum of squares about the mean (no cancellation).
#pragma once

#include "engine/cpu/simd.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kNormRows = 32, kNormChunks = 64 };  // rows of a chunk of work, at least; chunks of a sum over rows, at most

static inline float row_sum(int64_t n, const float* x) {
  vec sum = {};
  for_vectors(n, [&](int64_t i, int64_t count) { sum += load_some(x + i, count); });
  return sum_of(sum);
}

static inline float row_squares(int64_t n, const float* x, float mean) {
  vec sum = {};
  for_vectors(n, [&](int64_t i, int64_t count) {
    const vec d = load_some(x + i, count, mean) - mean;
    sum += d * d;
  });
  return sum_of(sum);
}

static inline void normalise_row(int64_t width, float eps, const float* x, const float* w, const float* b, float* y,
                                 float* mean, float* rstd) {
  const float m = row_sum(width, x) / static_cast<float>(width);
  const float s = 1.0f / __builtin_sqrtf(row_squares(width, x, m) / static_cast<float>(width) + eps);
  for_vectors(width, [&](int64_t i, int64_t n) {
    const vec normal = (load_some(x + i, n) - m) * s;
    store_some(y + i, normal * load_some(w + i, n) + load_some(b + i, n), n);
  });
  *mean = m;
  *rstd = s;
}

// One row of dx, and its share of dw and db.
static inline void backward_row(int64_t width, const float* x, const float* w, float mean, float rstd, const float* dy,
                                float* dx, bool add, float* dw, float* db) {
  vec sum_h = {}, sum_hx = {};
  for_vectors(width, [&](int64_t i, int64_t n) {
    const vec g = load_some(dy + i, n), normal = (load_some(x + i, n) - mean) * rstd;
    const vec h = g * load_some(w + i, n);
    sum_h += h;
    sum_hx += h * normal;
    store_some(dw + i, load_some(dw + i, n) + g * normal, n);
    store_some(db + i, load_some(db + i, n) + g, n);
  });
  const float avg_h = sum_of(sum_h) / static_cast<float>(width), avg_hx = sum_of(sum_hx) / static_cast<float>(width);
  for_vectors(width, [&](int64_t i, int64_t n) {
    const vec h = load_some(dy + i, n) * load_some(w + i, n), normal = (load_some(x + i, n) - mean) * rstd;
    put(dx + i, (h - avg_h - normal * avg_hx) * rstd, n, add);
  });
}

// Runs body(row, dw, db) for all rows, where dw and db [width] are the sums of a fixed chunk of rows, and adds those up
// in order.
template <class F>
static void sum_over_rows(int64_t rows, int64_t width, float* dw, float* db, const F& body) {
  const int64_t per_chunk = max_of(kNormRows, chunks_of(rows, kNormChunks)), chunks = chunks_of(rows, per_chunk);
  float* partial =
      static_cast<float*>(scratch(Scratch::partial, static_cast<size_t>(chunks * 2 * width) * sizeof(float)));
  parallel_for(chunks, [&](int64_t chunk) {
    float* own = partial + chunk * 2 * width;
    memset(own, 0, static_cast<size_t>(2 * width) * sizeof(float));
    for (int64_t r = chunk * per_chunk; r < min_of(rows, (chunk + 1) * per_chunk); ++r) body(r, own, own + width);
  });
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const float* own = partial + chunk * 2 * width;
    for (int64_t c = 0; c < width; ++c) {
      dw[c] += own[c];
      db[c] += own[width + c];
    }
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
