// The gradient's norm and AdamW: one sweep each over the arena, bound by memory (28 bytes an element for AdamW and 4
// to clear the gradient).
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum { kElementsPerChunk = 16384 };

void sum_squares(int64_t n, const float* g, double* out) {
  const int64_t chunks = chunks_of(n, kElementsPerChunk);
  double* partial = static_cast<double*>(scratch(Scratch::partial, static_cast<size_t>(chunks + 1) * sizeof(double)));
  parallel_for(chunks, [&](int64_t chunk) {
    const int64_t first = chunk * kElementsPerChunk, last = min_of(n, first + kElementsPerChunk);
    double lane[8] = {};  // eight independent sums, for the vector units
    int64_t i = first;
    for (; i + 8 <= last; i += 8) {
      for (int j = 0; j < 8; ++j) lane[j] += static_cast<double>(g[i + j]) * g[i + j];
    }
    for (; i < last; ++i) lane[0] += static_cast<double>(g[i]) * g[i];
    partial[chunk] = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  });
  out[0] = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) out[0] += partial[chunk];
}

// What is the same for all elements of a step.
struct Factors {
  float clip, shrink, step, root_correction, beta1, beta2, eps;
};

// One chunk. The factors are a copy and the arrays apart: stores change nothing that the next elements are computed
// with, so that they become vectors.
static void update(int64_t n, const Factors f, float* __restrict w, float* __restrict g, float* __restrict m,
                   float* __restrict v) {
  const float one_minus_beta1 = 1.0f - f.beta1, one_minus_beta2 = 1.0f - f.beta2;
  for (int64_t i = 0; i < n; ++i) {
    const float gradient = g[i] * f.clip;
    const float first = f.beta1 * m[i] + one_minus_beta1 * gradient;
    const float second = f.beta2 * v[i] + one_minus_beta2 * gradient * gradient;
    const float root = __builtin_sqrtf(second) * f.root_correction;
    w[i] = w[i] * f.shrink - f.step * first / (root + f.eps);
    m[i] = first;
    v[i] = second;
    g[i] = 0;
  }
}

void adamw(int64_t n, const AdamWStep& s, const double* squares, float* w, float* g, float* m, float* v) {
  if (!__builtin_isfinite(squares[0])) {
    memset(g, 0, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const float norm = static_cast<float>(__builtin_sqrt(squares[0]));
  const Factors factors = {s.clip_norm > 0 && norm > s.clip_norm ? s.clip_norm / norm : 1.0f,
                           1.0f - s.lr * s.decay,
                           s.lr / s.correction1,
                           1.0f / __builtin_sqrtf(s.correction2),
                           s.beta1,
                           s.beta2,
                           s.eps};
  parallel_for(chunks_of(n, kElementsPerChunk), [&](int64_t chunk) {
    const int64_t i = chunk * kElementsPerChunk;
    update(min_of(kElementsPerChunk, n - i), factors, w + i, g + i, m + i, v + i);
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
