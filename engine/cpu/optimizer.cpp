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

void adamw(int64_t n, const AdamWStep& s, const double* squares, float* w, float* g, float* m, float* v) {
  if (!__builtin_isfinite(squares[0])) {
    memset(g, 0, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const float norm = static_cast<float>(__builtin_sqrt(squares[0]));
  const float clip = s.clip_norm > 0 && norm > s.clip_norm ? s.clip_norm / norm : 1.0f;
  const float shrink = 1.0f - s.lr * s.decay, step = s.lr / s.correction1;
  const float root_correction = 1.0f / __builtin_sqrtf(s.correction2);
  const float one_minus_beta1 = 1.0f - s.beta1, one_minus_beta2 = 1.0f - s.beta2;
  parallel_for(chunks_of(n, kElementsPerChunk), [&](int64_t chunk) {
    const int64_t last = min_of(n, (chunk + 1) * kElementsPerChunk);
    for (int64_t i = chunk * kElementsPerChunk; i < last; ++i) {
      const float gradient = g[i] * clip;
      const float first = s.beta1 * m[i] + one_minus_beta1 * gradient;
      const float second = s.beta2 * v[i] + one_minus_beta2 * gradient * gradient;
      const float root = __builtin_sqrtf(second) * root_correction;
      w[i] = w[i] * shrink - step * first / (root + s.eps);
      m[i] = first;
      v[i] = second;
      g[i] = 0;
    }
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
