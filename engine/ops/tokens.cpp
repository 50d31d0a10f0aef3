#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor tokens(const Tensor& patches, const Tensor& class_token, const Tensor& position) {
  const TraceSpan span("forward", "tokens");
  CHECK(patches.defined() && patches.contiguous() && patches.rank() == 3,
        "tokens: patches must be contiguous [batch, patches, width]");
  TokensShape s = {patches.size(0), patches.size(1) + 1, patches.size(2), 0};
  CHECK(class_token.shape() == Shape({s.width}) && class_token.contiguous(), "tokens: class token ",
        class_token.shape().str(), " for patches ", patches.shape().str());
  if (position.defined()) {
    CHECK(position.shape() == Shape({s.tokens, s.width}) && (s.width == 1 || position.stride(1) == 1),
          "tokens: positions ", position.shape().str(), " for patches ", patches.shape().str());
    s.position_row = position.stride(0);
  }
  common_device("tokens", {&patches, &class_token, &position});
  Tensor y = Tensor::empty({s.batch, s.tokens, s.width}, patches.device());
  kernels::tokens_forward.on(patches.device())(s, patches.data(), class_token.data(),
                                               position.defined() ? position.data() : nullptr, y.data());
  if (Tape* tape = recording({&patches, &class_token, &position})) {
    tape->record("tokens", y, [s, patches = patches.gradient_only(), class_token, position, dy = y.gradient_only()] {
      const GradTarget dpatches = patches.grad_target();
      kernels::tokens_backward.on(patches.device())(s, dy.grad(), dpatches.data, dpatches.add, class_token.grad(),
                                                    position.defined() ? position.grad() : nullptr);
    });
  }
  return y;
}

}  // namespace entangle
