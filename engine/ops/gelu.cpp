#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor gelu(const Tensor& x) {
  const TraceSpan span("forward", "gelu");
  CHECK(x.defined() && x.contiguous(), "gelu: x must be contiguous");
  Tensor y = Tensor::empty(x.shape(), x.device());
  kernels::gelu_forward.on(x.device())(x.count(), x.data(), y.data());
  if (Tape* tape = recording({&x})) {
    tape->record("gelu", y, [x, dy = y.gradient_only()] {
      const GradTarget dx = x.grad_target();
      kernels::gelu_backward.on(x.device())(x.count(), x.data(), dy.grad(), dx.data, dx.add);
    });
  }
  return y;
}

}  // namespace entangle
