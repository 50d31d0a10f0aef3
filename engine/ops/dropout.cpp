#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor dropout(const Tensor& x, float rate, RngKey key, int64_t first) {
  const TraceSpan span("forward", "dropout");
  CHECK(x.defined() && x.contiguous(), "dropout: x must be contiguous");
  CHECK(rate >= 0 && rate < 1, "dropout: the rate must be in [0, 1), not ", rate);
  CHECK(first >= 0, "dropout: ", first, " elements cannot come before the first");
  Tensor y = Tensor::empty(x.shape(), x.device());
  kernels::dropout_forward.on(x.device())(x.count(), rate, key, first, x.data(), y.data());
  if (Tape* tape = recording({&x})) {
    tape->record("dropout", y, [rate, key, first, x = x.gradient_only(), dy = y.gradient_only()] {
      const GradTarget dx = x.grad_target();
      kernels::dropout_backward.on(x.device())(x.count(), rate, key, first, dy.grad(), dx.data, dx.add);
    });
  }
  return y;
}

}  // namespace entangle
