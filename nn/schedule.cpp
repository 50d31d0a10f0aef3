#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"

namespace entangle {
namespace {

constexpr double kPi = 3.14159265358979323846;

}  // namespace

double Schedule::at(int64_t step) const {
  CHECK(step >= 0, "schedule: step ", step, " is negative");
  CHECK(steps_per_epoch >= 1, "schedule: steps_per_epoch is ", steps_per_epoch, ", but must be at least 1");
  CHECK(epochs > 0 && warmup_epochs >= 0, "schedule: epochs is ", epochs, " and warmup_epochs ", warmup_epochs,
        ", but they must be above 0 and at least 0");
  const double t = per_epoch ? static_cast<double>(std::max<int64_t>(step / steps_per_epoch - 1, 0))
                             : static_cast<double>(step) / static_cast<double>(steps_per_epoch);
  if (t < warmup_epochs) return warmup_lr + t * (lr - warmup_lr) / warmup_epochs;
  // Steps after the last epoch stay at its end: the cosine would rise again.
  return min_lr + 0.5 * (lr - min_lr) * (1 + std::cos(kPi * std::min(t / epochs, 1.0)));
}

}  // namespace entangle
