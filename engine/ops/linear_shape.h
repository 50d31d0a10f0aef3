// The shape check that the operations with linear layers share.
#pragma once

#include "engine/ops.h"
#include "engine/tensor.h"

namespace entangle {

// The sizes of y = x w^T + b for an x of that shape. Throws Error, naming the operation, when they do not fit.
LinearShape linear_shape(const char* op, const Shape& x, const Tensor& w, const Tensor& b, Precision precision);

// The shape with another last size.
Shape with_columns(const Shape& shape, int64_t columns);

}  // namespace entangle
