#include "engine/check.h"
#include "engine/ops/linear_shape.h"

namespace entangle {

Tensor mlp(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
           Precision precision) {
  CHECK(x.defined() && x.contiguous(), "mlp: x must be contiguous");
  CHECK(w1.rank() == 2 && w2.rank() == 2 && b1.defined() && b2.defined(),
        "mlp: weights must be [out, in], with biases");
  const LinearShape first = linear_shape("mlp", x.shape(), w1, b1, precision);
  const Shape hidden = with_columns(x.shape(), first.out);
  const LinearShape second = linear_shape("mlp", hidden, w2, b2, precision);
  Tape* tape = recording({&x, &w1, &b1, &w2, &b2});
  Tensor y = Tensor::empty(with_columns(x.shape(), second.out), x.device());
  const Tensor h = tape != nullptr ? Tensor::empty(hidden, x.device()) : Tensor();
  kernels::mlp_forward.on(x.device())(first, second, x.data(), w1.data(), b1.data(), w2.data(), b2.data(),
                                      tape != nullptr ? h.data() : nullptr, y.data());
  count_macs(first.rows * first.out * (first.in + second.out));
  if (tape != nullptr) {
    tape->record("mlp", y, [first, second, x, w1, b1, w2, b2, h, dy = y.gradient_only()] {
      const GradTarget dx = x.requires_grad() ? x.grad_target() : GradTarget{nullptr, false};
      const Tensor a = Tensor::empty(h.shape(), x.device());
      kernels::mlp_backward.on(x.device())(first, second, x.data(), w1.data(), w2.data(), h.data(), a.data(), dy.grad(),
                                           dx.data, dx.add, w1.grad(), b1.grad(), w2.grad(), b2.grad());
    });
  }
  return y;
}

}  // namespace entangle
