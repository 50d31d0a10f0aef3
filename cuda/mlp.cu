// Two linear layers with GELU between them, forward and backward.
//
// Math. h = x w1^T + b1, a = gelu(h), y = a w2^T + b2;
//   da = dy w2,  dh = da gelu'(h),  dx = dh w1,  dw2 += dy^T a,  dw1 += dh^T x,  db2, db1 += column sums of dy, dh.
// Shapes. x, dx [rows, in]; h, a [rows, hidden]; y, dy [rows, out]; weights as in linear.cu.
// Preconditions. Gradients of weights hold gradients; dx does when `add`; dx may be null. Forward, h may be null: it is
// not kept. Backward, h is overwritten with dh.
// Launch. The kernels of linear.cu and gelu.cu, one after another on the one stream; a product of this size does not
// leave the hidden activations in a cache, so there is nothing to gain from smaller pieces. Backward, one sweep turns h and da,
// which a holds until then, into dh and a: 16 bytes an element, blocks of kThreads over kPerBlock elements.
// Numerics. Those of linear.cu and gelu.cu.
#include "cuda/normal.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

// h becomes dh, and a, which holds da, becomes gelu(h).
__global__ void mlp_hidden_kernel(int64_t n, float* h, float* a) {
  for_elements(n, [=](int64_t i) {
    const float x = h[i];
    const NormalDistribution normal = normal_distribution(x);
    h[i] = a[i] * (normal.cumulative + x * normal.density);
    a[i] = x * normal.cumulative;
  });
}

}  // namespace

void mlp_forward(const LinearShape& first, const LinearShape& second, const float* x, const float* w1, const float* b1,
                 const float* w2, const float* b2, float* h, float* y) {
  const int64_t n = first.rows * first.out;
  const Workspace<float> activations(n), unkept(h == nullptr ? n : 0);
  float* before = h == nullptr ? unkept.data() : h;
  linear_forward(first, x, w1, b1, before);
  gelu_forward(n, before, activations.data());
  linear_forward(second, activations.data(), w2, b2, y);
}

void mlp_backward(const LinearShape& first, const LinearShape& second, bool recompute, const float* x, const float* w1,
                  const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx, bool add,
                  float* dw1, float* db1, float* dw2, float* db2) {
  const int64_t n = first.rows * first.out;
  if (recompute) linear_forward(first, x, w1, b1, h);
  linear_backward_input(second, dy, w2, a, false);
  LAUNCH(mlp_hidden_kernel, blocks_for(n, kPerBlock), kThreads, 0, stream(), n, h, a);
  linear_backward_weight(second, a, dy, dw2, db2);
  if (dx != nullptr) linear_backward_input(first, h, w1, dx, add);
  linear_backward_weight(first, x, h, dw1, db1);
}

}  // namespace entangle::gpu
