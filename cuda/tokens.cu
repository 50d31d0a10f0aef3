// Puts the class token in front of the patches and adds positions, forward and backward.
//
// Math. y[b, 0] = class_token + position[0], y[b, 1 + i] = patches[b, i] + position[1 + i];
//   dpatches = dy of the patch tokens, dclass += sum_b dy[b, 0], dposition += sum_b dy[b].
// Shapes. patches, dpatches [batch, tokens-1, width]; class_token [width]; position [tokens, width] with rows
// position_row apart, or null; y, dy [batch, tokens, width].
// Preconditions. dclass and dposition hold gradients; dpatches does when `add`.
// Launch. Forward: grid (tiles of an image, images), elementwise. Backward: a thread owns one (token, column) and walks
// the batch, so dy is read once. No shared memory.
// Numerics. fp32; sums over the batch in ascending order: the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void tokens_forward_kernel(TokensShape s, const float* patches, const float* class_token,
                                      const float* position, float* y) {
  const int64_t n = s.tokens * s.width;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    for_elements(
        n,
        [=](int64_t i) {
          const int64_t c = i % s.width, t = i / s.width;
          const float value = t == 0 ? class_token[c] : patches[b * (n - s.width) + i - s.width];
          return position == nullptr ? value : value + position[t * s.position_row + c];
        },
        [=](int64_t i, float value) { y[b * n + i] = value; });
  }
}

__global__ void tokens_backward_kernel(TokensShape s, const float* dy, float* dpatches, bool add, float* dclass,
                                       float* dposition) {
  const int64_t n = s.tokens * s.width, i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t c = i % s.width, t = i / s.width;
  float* const patch = dpatches + i - s.width;
  const int64_t patches = n - s.width;
  struct Element {
    float dy, before;
  };
  float sum = 0;
  walk<8>(
      int64_t{0}, s.batch, int64_t{1},
      [=](int64_t b) {
        return Element{dy[b * n + i], add && t > 0 ? patch[b * patches] : 0.0f};
      },
      [&](int64_t b, const Element& at) {
        if (t > 0) patch[b * patches] = at.before + at.dy;
        sum += at.dy;
      });
  if (t == 0) dclass[c] += sum;
  if (dposition != nullptr) dposition[t * s.position_row + c] += sum;
}

}  // namespace

void tokens_forward(const TokensShape& s, const float* patches, const float* class_token, const float* position,
                    float* y) {
  LAUNCH(tokens_forward_kernel, image_grid(s.tokens * s.width, s.batch), kThreads, 0, stream(), s, patches, class_token,
         position, y);
}

void tokens_backward(const TokensShape& s, const float* dy, float* dpatches, bool add, float* dclass,
                     float* dposition) {
  LAUNCH(tokens_backward_kernel, blocks_for(s.tokens * s.width, kThreads), kThreads, 0, stream(), s, dy, dpatches, add,
         dclass, dposition);
}

}  // namespace entangle::gpu
