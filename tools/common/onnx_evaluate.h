// Computes an ONNX graph in plain double loops: the exporter's own check that a file says what was meant.
#pragma once

#include <vector>

#include "tools/common/onnx_model.h"

namespace entangle {

// The graph's output for `images` [count, C, H, W] of its input's sizes, row-major. Knows the operators, and the forms of
// them, that onnx_of writes; throws Error naming another, a name that no one made, or shapes that do not fit.
std::vector<double> evaluate_onnx(const OnnxModel& model, const std::vector<float>& images, int64_t count);

}  // namespace entangle
