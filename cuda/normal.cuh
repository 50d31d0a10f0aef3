// The normal distribution, as GELU and its derivative need it.
//
// Phi and phi share one exponential: with e = exp(-x^2/2) and
//   t = 1 / (1 + 0.35 |x|),   1 - Phi(|x|) = e S(t) / 2,   phi(x) = e / sqrt(2 pi),
// where S(t) = exp(x^2/2) erfc(|x| / sqrt 2) is a polynomial in t with relative error 3e-8 over |x| <= 10. No cancellation on
// either side of 0.
#pragma once

#include "cuda/device.cuh"

namespace entangle::gpu {

struct NormalDistribution {
  float cumulative, density;
};

__device__ inline NormalDistribution normal_distribution(float x) {
  const float e = expf(x * x * -0.5f), t = 1.0f / (1.0f + 0.35f * fabsf(x));
  float s = -0.05830119922757149f;
  s = s * t + 0.28798940777778625f;
  s = s * t - 0.5115248560905457f;
  s = s * t + 0.31846001744270325f;
  s = s * t - 0.04629779979586601f;
  s = s * t + 0.2110496610403061f;
  s = s * t + 0.23965705931186676f;
  s = s * t + 0.27972495555877686f;
  s = s * t + 0.27924272418022156f;
  const float tail = 0.5f * e * (s * t);
  return {x > 0.0f ? 1.0f - tail : tail, 0.3989422804f * e};
}

}  // namespace entangle::gpu
