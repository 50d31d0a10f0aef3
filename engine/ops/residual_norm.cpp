#include "engine/check.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

namespace {

void check_kept(const char* which, const KeptImages& kept, int64_t batch) {
  if (kept.slot.empty()) return;
  CHECK(static_cast<int64_t>(kept.slot.size()) == batch, "residual_norm: ", which, " has ", kept.slot.size(),
        " slots for ", batch, " images");
  int64_t next = 0;
  for (const int64_t place : kept.slot) {
    CHECK(place == -1 || place == next, "residual_norm: ", which, " has slot ", place, " where -1 or ", next,
          " must stand");
    next += place >= 0 ? 1 : 0;
  }
}

}  // namespace

ResidualNorm residual_norm(const Tensor& x, const Tensor& branch, const KeptImages& from, const Tensor& w,
                           const Tensor& b, float eps, const KeptImages& to) {
  const TraceSpan span("forward", "residual_norm");
  CHECK(x.defined() && x.rank() == 3 && x.contiguous(), "residual_norm: x must be contiguous [batch, tokens, width]");
  const int64_t batch = x.size(0);
  check_kept("from", from, batch);
  check_kept("to", to, batch);
  const ResidualNormShape s = {batch, x.size(1), x.size(2), from.count(batch), to.count(batch), eps, from.scale};
  const Shape kept = {s.added, s.tokens, s.width};
  CHECK(branch.defined() && branch.contiguous() && branch.shape() == kept, "residual_norm: branch ",
        branch.shape().str(), " must be contiguous ", kept.str());
  CHECK(w.defined() && b.defined() && w.shape() == Shape({s.width}) && b.shape() == w.shape() && w.contiguous() &&
            b.contiguous(),
        "residual_norm: weight ", w.shape().str(), " and bias ", b.shape().str(), " for x ", x.shape().str());
  const DeviceKind device = common_device("residual_norm", {&x, &branch, &w, &b});
  const int64_t rows = s.normed * s.tokens;
  Tensor sum = Tensor::empty(x.shape(), device), norm = Tensor::empty({s.normed, s.tokens, s.width}, device);
  const Tensor mean = Tensor::empty({rows}, device), rstd = Tensor::empty({rows}, device);
  kernels::residual_norm_forward.on(device)(s, from.slots(device), to.slots(device), x.data(), branch.data(), w.data(),
                                            b.data(), sum.data(), norm.data(), mean.data(), rstd.data());
  if (Tape* tape = recording({&x, &branch, &w, &b})) {
    tape->record(
        "residual_norm", norm, sum,
        [s, device, from, to, w, b, sum, mean, rstd, x = x.gradient_only(), branch = branch.gradient_only(),
         norm = norm.gradient_only()] {
          const GradTarget dsum = sum.grad_target();
          const GradTarget dbranch = branch.requires_grad() ? branch.grad_target() : GradTarget{nullptr, false};
          kernels::residual_norm_backward.on(device)(s, from.slots(device), to.slots(device), sum.data(), w.data(),
                                                     mean.data(), rstd.data(), norm.has_grad() ? norm.grad() : nullptr,
                                                     dsum.data, dsum.add, dbranch.data, dbranch.add, w.grad(),
                                                     b.grad());
          if (x.requires_grad()) x.adopt_grad(sum);
        });
  }
  return {sum, norm};
}

}  // namespace entangle
