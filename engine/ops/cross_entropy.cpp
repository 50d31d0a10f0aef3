#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor cross_entropy(const Tensor& logits, const Tensor& target) {
  const TraceSpan span("forward", "cross_entropy");
  CHECK(logits.defined() && target.defined() && logits.rank() == 2 && logits.shape() == target.shape() &&
            logits.contiguous() && target.contiguous() && logits.count() > 0,
        "cross_entropy: logits ", logits.shape().str(), " and targets ", target.shape().str(),
        " must be contiguous [batch, classes], equal and not empty");
  const int64_t batch = logits.size(0), classes = logits.size(1);
  common_device("cross_entropy", {&logits, &target});
  Tensor loss = Tensor::empty({1}, logits.device());
  const Tensor p = Tensor::empty(logits.shape(), logits.device());
  kernels::cross_entropy_forward.on(logits.device())(batch, classes, logits.data(), target.data(), loss.data(),
                                                     p.data());
  if (Tape* tape = recording({&logits})) {
    tape->record("cross_entropy", loss,
                 [batch, classes, logits = logits.gradient_only(), target, p, dloss = loss.gradient_only()] {
                   const GradTarget dlogits = logits.grad_target();
                   kernels::cross_entropy_backward.on(logits.device())(batch, classes, target.data(), p.data(),
                                                                       dloss.grad(), dlogits.data, dlogits.add);
                 });
  }
  return loss;
}

}  // namespace entangle
