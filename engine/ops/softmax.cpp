#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor softmax(const Tensor& x, float scale) {
  const TraceSpan span("forward", "softmax");
  CHECK(x.defined() && x.contiguous() && x.rank() >= 1, "softmax: x must be contiguous");
  const int64_t width = x.size(x.rank() - 1);
  CHECK(width > 0, "softmax: a row of x ", x.shape().str(), " is empty");
  const int64_t rows = x.count() / width;
  Tensor y = Tensor::empty(x.shape(), x.device());
  kernels::softmax_forward.on(x.device())(rows, width, scale, x.data(), y.data());
  if (Tape* tape = recording({&x})) {
    tape->record("softmax", y, [rows, width, scale, x, y] {
      const GradTarget dx = x.grad_target();
      kernels::softmax_backward.on(x.device())(rows, width, scale, y.data(), y.grad(), dx.data, dx.add);
    });
  }
  return y;
}

}  // namespace entangle
