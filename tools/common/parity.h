// Comparing the supernet with numbers that the published code produced: a golden folder (its format is in README.md).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/kernel.h"

namespace entangle {

// One quantity of a golden folder: the largest difference found, and what was allowed.
struct ParityRow {
  std::string what;   // "case 0 logits", "case 0 gradient of head.weight", ...
  double difference;  // NaN when something was not finite
  double allowed;
  bool ok() const { return difference <= allowed; }  // false for NaN
};

// Runs every case of the folder and its optimiser trajectory. Throws Error when the folder cannot be read or is not of
// that format. Differences:
//   logits, loss                 absolute, allowed 2e-5
//   gradients                    absolute over the tensor's largest golden value, allowed 1e-4; a tensor whose exact
//   gradient
//                                is zero holds rounding noise, so the divisor is at least 2^-10 of the case's largest
//                                value
//   params, reference_complexity absolute, allowed 0
//   weights after the steps      absolute, allowed 2e-5; loss before each step, relative to max(1, loss), allowed 2e-5
std::vector<ParityRow> check_parity(const std::string& folder, DeviceKind device = DeviceKind::cpu);

}  // namespace entangle
