// Learning-rate schedule: linear warm-up, then half a cosine.
#pragma once

#include <cstdint>

namespace entangle {

// The learning rate as a function of the step.
struct Schedule {
  double lr = 5e-4;         // peak
  double min_lr = 1e-5;     // at the end
  double warmup_lr = 1e-6;  // at the start
  double warmup_epochs = 20;
  double epochs = 500;
  int64_t steps_per_epoch = 1;
  // The published form: constant within an epoch, epochs 0 and 1 both at warmup_lr, cosine over t = max(epoch-1, 0) not
  // shifted by the warm-up. Otherwise the same curve, continuous in the step: t = step / steps_per_epoch.
  bool per_epoch = false;

  double at(int64_t step) const;  // step 0, 1, ...
};

}  // namespace entangle
