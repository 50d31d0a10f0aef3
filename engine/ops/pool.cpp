#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor pool(const Tensor& x, int64_t first, int64_t count) {
  const TraceSpan span("forward", "pool");
  CHECK(x.defined() && x.contiguous() && x.rank() == 3, "pool: x must be contiguous [batch, tokens, width]");
  CHECK(first >= 0 && count > 0 && count <= x.size(1) - first, "pool: tokens [", first, ", ", first + count, ") of ",
        x.size(1));
  const PoolShape s = {x.size(0), x.size(1), x.size(2), first, count};
  Tensor y = Tensor::empty({s.batch, s.width}, x.device());
  kernels::pool_forward.on(x.device())(s, x.data(), y.data());
  if (Tape* tape = recording({&x})) {
    tape->record("pool", y, [s, x = x.gradient_only(), dy = y.gradient_only()] {
      const GradTarget dx = x.grad_target();
      kernels::pool_backward.on(x.device())(s, dy.grad(), dx.data, dx.add);
    });
  }
  return y;
}

}  // namespace entangle
