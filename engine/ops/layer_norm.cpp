#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps) {
  const TraceSpan span("forward", "layer_norm");
  CHECK(x.defined() && x.contiguous() && x.rank() >= 1, "layer_norm: x must be contiguous");
  const int64_t width = x.size(x.rank() - 1);
  CHECK(width > 0 && w.shape() == Shape({width}) && b.shape() == Shape({width}) && w.contiguous() && b.contiguous(),
        "layer_norm: weight ", w.shape().str(), " and bias ", b.shape().str(), " for x ", x.shape().str());
  const int64_t rows = x.count() / width;
  common_device("layer_norm", {&x, &w, &b});
  Tensor y = Tensor::empty(x.shape(), x.device());
  const Tensor mean = Tensor::empty({rows}, x.device()), rstd = Tensor::empty({rows}, x.device());
  kernels::layer_norm_forward.on(x.device())(rows, width, eps, x.data(), w.data(), b.data(), y.data(), mean.data(),
                                             rstd.data());
  if (Tape* tape = recording({&x, &w, &b})) {
    tape->record("layer_norm", y, [rows, width, x, w, b, mean, rstd, dy = y.gradient_only()] {
      const GradTarget dx = x.grad_target();
      kernels::layer_norm_backward.on(x.device())(rows, width, x.data(), w.data(), mean.data(), rstd.data(), dy.grad(),
                                                  dx.data, dx.add, w.grad(), b.grad());
    });
  }
  return y;
}

}  // namespace entangle
