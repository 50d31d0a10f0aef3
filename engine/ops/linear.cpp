#include "engine/ops/linear_shape.h"

#include "engine/check.h"
#include "engine/trace.h"

namespace entangle {

// A linear layer's weight seen as [G, O, I], whatever its rank.
LinearShape linear_shape(const char* op, const Shape& x, const Tensor& w, const Tensor& b, Precision precision) {
  CHECK(w.defined() && (w.rank() == 2 || w.rank() == 3), op, ": the weight must be [out, in] or [groups, out, in]");
  const int last = w.rank() - 1;
  LinearShape s = {};
  s.in = w.size(last);
  s.out = w.size(last - 1);
  s.w_row = w.stride(last - 1);
  s.precision = precision;
  s.groups = w.rank() == 3 ? w.size(0) : 1;
  s.w_group = w.rank() == 3 ? w.stride(0) : 0;
  CHECK(s.in == 1 || w.stride(last) == 1, op, ": the elements of a weight's row must be adjacent, not ", w.stride(last),
        " apart");
  CHECK(x.rank >= 1 && x[x.rank - 1] == s.in, op, ": x ", x.str(), " does not fit the weight ", w.shape().str(),
        "; it must have ", s.in, " columns");
  s.rows = s.in > 0 ? x.count() / s.in : 0;
  if (b.defined()) {
    CHECK(b.rank() == last && b.size(last - 1) == s.out && (last == 1 || b.size(0) == s.groups), op, ": bias ",
          b.shape().str(), " for a weight ", w.shape().str());
    CHECK(s.out == 1 || b.stride(last - 1) == 1, op, ": the elements of a bias must be adjacent");
    s.b_group = last == 2 ? b.stride(0) : 0;
  }
  return s;
}

Shape with_columns(const Shape& shape, int64_t columns) {
  Shape out = shape;
  out.dim[out.rank - 1] = columns;
  return out;
}

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b, Precision precision) {
  const TraceSpan span("forward", "linear");
  CHECK(x.defined() && x.contiguous(), "linear: x must be contiguous");
  const LinearShape s = linear_shape("linear", x.shape(), w, b, precision);
  common_device("linear", {&x, &w, &b});
  Tensor y = Tensor::empty(with_columns(x.shape(), s.groups * s.out), x.device());
  kernels::linear_forward.on(x.device())(s, x.data(), w.data(), b.defined() ? b.data() : nullptr, y.data());
  count_macs(s.rows * s.in * s.groups * s.out);
  if (Tape* tape = recording({&x, &w, &b})) {
    tape->record("linear", y, [s, x, w, b, dy = y.gradient_only()] {
      const bool weights = w.requires_grad() || b.requires_grad();
      const GradTarget dx = x.requires_grad() ? x.grad_target() : GradTarget{nullptr, false};
      kernels::linear_backward.on(x.device())(s, x.data(), w.data(), dy.grad(), dx.data, dx.add,
                                              weights ? w.grad() : nullptr,
                                              weights && b.defined() ? b.grad() : nullptr);
    });
  }
  return y;
}

}  // namespace entangle
