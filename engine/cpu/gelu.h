// Exact GELU. Phi and phi share one exponential: with e = exp(-x^2/2) and t = 1 / (1 + 0.35 |x|),
//   1 - Phi(|x|) = e S(t),   phi(x) = e / sqrt(2 pi),
// where S(t) = exp(x^2/2) erfc(|x| / sqrt 2) / 2 is a polynomial in t, fitted over |x| <= 10 with relative error 3e-8.
// |x| counts as 13.2 at most, where e, 1.5e-38, is still a normal number. No cancellation on either side.
#pragma once

#include "engine/cpu/simd.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

struct NormalDistribution {
  vec cumulative, density;
};

static inline NormalDistribution normal_distribution(vec x) {
  const vec a = smaller(absolute(x), splat(13.2f));
  const vec e = power_of_two(a * a * -0.721347520f), t = 1.0f / (1.0f + 0.35f * a);  // log2(e) / 2
  vec s = splat(-0.029150599613785744f);
  s = s * t + 0.14399470388889313f;
  s = s * t - 0.2557624280452728f;
  s = s * t + 0.15923000872135162f;
  s = s * t - 0.023148899897933006f;
  s = s * t + 0.10552483052015305f;
  s = s * t + 0.11982852965593338f;
  s = s * t + 0.13986247777938843f;
  s = s * t + 0.13962136209011078f;
  const vec tail = e * (s * t);
  return {x > 0.0f ? 1.0f - tail : tail, 0.3989422804f * e};
}

// d gelu(x) / dx
static inline vec gelu_slope(vec x, const NormalDistribution& normal) { return normal.cumulative + x * normal.density; }

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
