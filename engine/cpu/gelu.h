// Exact GELU. Phi and phi share one exponential: with e = exp(-x^2/2) and t = 1 / (1 + 0.35 |x|),
//   1 - Phi(|x|) = e S(t) / 2,   phi(x) = e / sqrt(2 pi),
// where S(t) = exp(x^2/2) erfc(|x| / sqrt 2) is a polynomial in t, fitted over |x| <= 10 with relative error 3e-8
// (beyond, e alone is below 1e-21). No cancellation on either side.
#pragma once

#include "engine/cpu/simd.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

struct NormalDistribution {
  vec cumulative, density;
};

static inline NormalDistribution normal_distribution(vec x) {
  const vec e = exponential(x * x * -0.5f), t = 1.0f / (1.0f + 0.35f * absolute(x));
  vec s = splat(-0.05830119922757149f);
  s = s * t + 0.28798940777778625f;
  s = s * t - 0.5115248560905457f;
  s = s * t + 0.31846001744270325f;
  s = s * t - 0.04629779979586601f;
  s = s * t + 0.2110496610403061f;
  s = s * t + 0.23965705931186676f;
  s = s * t + 0.27972495555877686f;
  s = s * t + 0.27924272418022156f;
  const vec tail = 0.5f * e * (s * t);
  return {x > 0.0f ? 1.0f - tail : tail, 0.3989422804f * e};
}

// d gelu(x) / dx
static inline vec gelu_slope(vec x, const NormalDistribution& normal) { return normal.cumulative + x * normal.density; }

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
