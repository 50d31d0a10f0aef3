// AdamW over the parameter arena (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
#pragma once

#include "engine/parameters.h"

namespace entangle {

struct AdamWOptions {
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float eps = 1e-8f;
  float weight_decay = 0.05f;  // on parameters with decay only
  float clip_norm = 0;         // largest global L2 norm of the gradient; 0: no clipping
};

// L2 norm of the whole gradient.
double gradient_norm(const ParameterArena& arena);

// Step number `step` (1, 2, ...) with learning rate `lr`. Every entry moves: those outside of the subnet have gradient
// zero, yet momentum and decay still act on them. Leaves the gradients zero. Returns the norm before clipping, or 0
// when clipping is off.
double adamw_step(ParameterArena& arena, const AdamWOptions& options, int64_t step, double lr);

}  // namespace entangle
