// AdamW over the parameter arena (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
#pragma once

#include <vector>

#include "engine/parameters.h"

namespace entangle {

// What the optimiser is set to; the learning rate is given with each step.
struct AdamWOptions {
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float eps = 1e-8f;
  float weight_decay = 0.05f;  // on parameters with decay only
  float clip_norm = 0;         // largest global L2 norm of the gradient; 0: no clipping
};

// Step number `step` (1, 2, ...) with learning rate `lr`; of parameter i, with `lr` times scales[i] when scales are given
// (then one for each parameter, 0 or more). Every entry moves: those outside of the subnet have gradient
// zero, yet momentum and decay still act on them. Leaves the gradients zero, and the sum of their squares before the
// step in arena.gradient_squares(). When that is not finite, nothing but the gradients has changed: who reads it may
// stop with weights that are still good. Does not wait for the device.
void adamw_step(ParameterArena& arena, const AdamWOptions& options, int64_t step, double lr,
                const std::vector<float>& scales = {});

// L2 norm of the gradient that the last step saw, before clipping. Waits for the device.
double gradient_norm(const ParameterArena& arena);
// L2 norm of all weights. Waits for the device.
double weight_norm(const ParameterArena& arena);

}  // namespace entangle
