// Softmax cross-entropy with soft targets, forward and backward.
//
// Math. p[b] = softmax(logits[b]);  loss = 1/B sum_b sum_k target[b, k] (log sum_j exp(logits[b, j]) - logits[b, k]);
//   dlogits[b, k] = dloss/B (p[b, k] sum_j target[b, j] - target[b, k]).
// Shapes. logits, target, p, dlogits [batch, classes]; loss, dloss [1].
// Preconditions. batch, classes > 0; dlogits holds a gradient when `add`.
// Launch. A warp per image, kWarpsPerBlock of them in a block, no shared memory; then one block sums the images'
// losses, a place of shared memory for each warp.
// Numerics. fp32. The largest logit is subtracted before any exponential: sums lie in [1, classes]. A NaN reaches the
// loss, since it enters the sum. Sums over classes as a butterfly of lanes, over images in a fixed order: the same bits
// always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int kWarpsPerBlock = 4;

__global__ void cross_entropy_forward_kernel(int64_t batch, int64_t classes, const float* logits, const float* target,
                                             float* p, float* losses) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp_index();
  if (b >= batch) return;  // a whole warp
  const float *in = logits + b * classes, *want = target + b * classes;
  float largest = -INFINITY;
  for (int64_t k = lane_index(); k < classes; k += kWarp) largest = fmaxf(largest, in[k]);
  largest = warp_max(largest);
  float sum = 0;
  for (int64_t k = lane_index(); k < classes; k += kWarp) sum += expf(in[k] - largest);
  sum = warp_sum(sum);
  const float normaliser = logf(sum);
  float loss = 0;
  for (int64_t k = lane_index(); k < classes; k += kWarp) {
    const float shifted = in[k] - largest;
    p[b * classes + k] = expf(shifted) / sum;
    loss += want[k] * (normaliser - shifted);
  }
  loss = warp_sum(loss);
  if (lane_index() == 0) losses[b] = loss;
}

__global__ void cross_entropy_mean_kernel(int64_t batch, const float* losses, float* loss) {
  Shared shared;
  const float sum = block_sum_of(batch, losses, shared.take<float>(warps_in_block()));
  if (threadIdx.x == 0) loss[0] = sum / static_cast<float>(batch);
}

__global__ void cross_entropy_backward_kernel(int64_t batch, int64_t classes, const float* target, const float* p,
                                              const float* dloss, float* dlogits, bool add) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp_index();
  if (b >= batch) return;  // a whole warp
  float total = 0;
  for (int64_t k = lane_index(); k < classes; k += kWarp) total += target[b * classes + k];
  total = warp_sum(total);
  const float scale = dloss[0] / static_cast<float>(batch);
  for (int64_t k = lane_index(); k < classes; k += kWarp) {
    const int64_t i = b * classes + k;
    put(dlogits + i, scale * (p[i] * total - target[i]), add);
  }
}

}  // namespace

void cross_entropy_forward(int64_t batch, int64_t classes, const float* logits, const float* target, float* loss,
                           float* p) {
  const Workspace<float> losses(batch);
  LAUNCH(cross_entropy_forward_kernel, blocks_for(batch, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0, stream(), batch,
         classes, logits, target, p, losses.data());
  LAUNCH(cross_entropy_mean_kernel, 1, kThreads, shared_bytes<float>(kThreads / kWarp), stream(), batch, losses.data(),
         loss);
}

void cross_entropy_backward(int64_t batch, int64_t classes, const float* target, const float* p, const float* dloss,
                            float* dlogits, bool add) {
  LAUNCH(cross_entropy_backward_kernel, blocks_for(batch, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0, stream(), batch,
         classes, target, p, dloss, dlogits, add);
}

}  // namespace entangle::gpu
