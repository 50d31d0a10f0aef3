// The forward and backward passes of a step's plan: its subnets one after another on the same images.
#pragma once

#include <cstdint>
#include <functional>

#include "nn/supernet.h"
#include "search/strategy.h"

namespace entangle {

// The seed of subnet `index`'s drop-path and dropout: numbers of its own for each. The first one's are the run's.
uint64_t seed_of_subnet(uint64_t seed, size_t index);

// Adds `weight` times the sum of each subnet's weighted loss's gradient to the supernet's gradients. A subnet without a
// teacher learns `targets` [B, classes]; one with a teacher the softmax of that one's logits of the same pass, a constant: no
// gradient goes through it. `on_loss` gets each subnet's own loss [1], before weights, on the device. Activations of one
// subnet live at a time. options.seed is the run's. `left` is told what Tape::backward tells, of each subnet.
void backward_of_plan(const Supernet& supernet, const StepPlan& plan, const Tensor& images, const Tensor& targets,
                      ForwardOptions options, float weight,
                      const std::function<void(size_t index, const Tensor& loss)>& on_loss,
                      const std::function<void(size_t)>& left = nullptr);

}  // namespace entangle
