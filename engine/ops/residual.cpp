#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"

namespace entangle {

Tensor residual(const Tensor& x, const Tensor& branch, const Tensor& factor) {
  CHECK(x.defined() && branch.defined() && x.contiguous() && branch.contiguous() && x.rank() >= 1 &&
            x.shape() == branch.shape(),
        "residual: x ", x.shape().str(), " and branch ", branch.shape().str(),
        " must be contiguous and equal in shape");
  const int64_t batch = x.size(0), n = batch > 0 ? x.count() / batch : 0;
  CHECK(!factor.defined() || (factor.shape() == Shape({batch}) && factor.contiguous()), "residual: factor ",
        factor.shape().str(), " for ", batch, " images");
  common_device("residual", {&x, &branch, &factor});
  Tensor y = Tensor::empty(x.shape(), x.device());
  kernels::residual_forward.on(x.device())(batch, n, x.data(), branch.data(),
                                           factor.defined() ? factor.data() : nullptr, y.data());
  if (Tape* tape = recording({&x, &branch})) {
    tape->record("residual", y,
                 [batch, n, x = x.gradient_only(), branch = branch.gradient_only(), factor, dy = y.gradient_only()] {
                   if (branch.requires_grad()) {
                     const GradTarget dbranch = branch.grad_target();
                     kernels::residual_backward.on(x.device())(batch, n, factor.defined() ? factor.data() : nullptr,
                                                               dy.grad(), dbranch.data, dbranch.add);
                   }
                   if (x.requires_grad()) x.adopt_grad(dy);
                 });
  }
  return y;
}

}  // namespace entangle
