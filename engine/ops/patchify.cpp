#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

Tensor patchify(const Tensor& images, int64_t patch) {
  const TraceSpan span("forward", "patchify");
  CHECK(images.defined() && images.contiguous() && images.rank() == 4 && images.size(2) == images.size(3),
        "patchify: images ", images.shape().str(), " must be contiguous [batch, channels, side, side]");
  CHECK(patch > 0 && images.size(2) % patch == 0, "patchify: patches of ", patch, " do not divide images of ",
        images.size(2));
  const PatchShape s = {images.size(0), images.size(1), images.size(2), patch};
  const int64_t side = s.image / patch;
  Tensor y = Tensor::empty({s.batch, side * side, s.channels * patch * patch}, images.device());
  kernels::patchify_forward.on(images.device())(s, images.data(), y.data());
  if (Tape* tape = recording({&images})) {
    tape->record("patchify", y, [s, images = images.gradient_only(), dy = y.gradient_only()] {
      const GradTarget dimages = images.grad_target();
      kernels::patchify_backward.on(images.device())(s, dy.grad(), dimages.data, dimages.add);
    });
  }
  return y;
}

}  // namespace entangle
