#include "engine/check.h"
#include "engine/ops/linear_shape.h"
#include "engine/trace.h"

namespace entangle {

Tensor mlp(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2, Precision precision,
           bool recompute) {
  const TraceSpan span("forward", "mlp");
  CHECK(x.defined() && x.contiguous(), "mlp: x must be contiguous");
  CHECK(w1.rank() == 2 && w2.rank() == 2 && b1.defined() && b2.defined(),
        "mlp: weights must be [out, in], with biases");
  const LinearShape first = linear_shape("mlp", x.shape(), w1, b1, precision);
  const Shape hidden = with_columns(x.shape(), first.out);
  const LinearShape second = linear_shape("mlp", hidden, w2, b2, precision);
  common_device("mlp", {&x, &w1, &b1, &w2, &b2});
  Tape* tape = recording({&x, &w1, &b1, &w2, &b2});
  Tensor y = Tensor::empty(with_columns(x.shape(), second.out), x.device());
  const bool keep = tape != nullptr && !recompute;
  const Tensor h = keep ? Tensor::empty(hidden, x.device()) : Tensor();
  kernels::mlp_forward.on(x.device())(first, second, x.data(), w1.data(), b1.data(), w2.data(), b2.data(),
                                      keep ? h.data() : nullptr, y.data());
  count_macs(first.rows * first.out * (first.in + second.out));
  if (tape != nullptr) {
    tape->record("mlp", y, [first, second, hidden, x, w1, b1, w2, b2, h, dy = y.gradient_only()] {
      const GradTarget dx = x.requires_grad() ? x.grad_target() : GradTarget{nullptr, false};
      const bool kept = h.defined();
      const Tensor dh = kept ? h : Tensor::empty(hidden, x.device()), a = Tensor::empty(hidden, x.device());
      kernels::mlp_backward.on(x.device())(first, second, !kept, x.data(), w1.data(), b1.data(), w2.data(), dh.data(),
                                           a.data(), dy.grad(), dx.data, dx.add, w1.grad(), b1.grad(), w2.grad(),
                                           b2.grad());
    });
  }
  return y;
}

}  // namespace entangle
