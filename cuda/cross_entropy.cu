// Softmax cross-entropy with soft targets, forward and backward.
//
// Math. p[b] = softmax(logits[b]);  loss = 1/B sum_b sum_k target[b, k] (log sum_j exp(logits[b, j]) - logits[b, k]);
//   dlogits[b, k] = dloss/B (p[b, k] sum_j target[b, j] - target[b, k]).
// Shapes. logits, target, p, dlogits [batch, classes]; loss, dloss [1].
// Preconditions. batch, classes > 0; dlogits holds a gradient when `add`.
// Launch. A warp per image, kWarpsPerBlock of them in a block. Forward, a place of shared memory for each; the blocks'
// losses are added as in block_sums.cuh.
// Numerics. fp32. The largest logit is subtracted before any exponential: sums lie in [1, classes]. A NaN reaches the
// loss, since it enters the sum. Sums over classes as a butterfly of lanes, over images in a fixed order: the same bits
// always.
#include "cuda/block_sums.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int kWarpsPerBlock = 4;

// The loss of an image, by one warp, and its probabilities.
__device__ float image_loss(int64_t classes, const float* logits, const float* target, float* p) {
  float largest = -INFINITY;
  for (int64_t k = lane_index(); k < classes; k += kWarp) largest = fmaxf(largest, logits[k]);
  largest = warp_max(largest);
  float sum = 0;
  for (int64_t k = lane_index(); k < classes; k += kWarp) sum += expf(logits[k] - largest);
  sum = warp_sum(sum);
  const float normaliser = logf(sum);
  float loss = 0;
  for (int64_t k = lane_index(); k < classes; k += kWarp) {
    const float shifted = logits[k] - largest;
    p[k] = expf(shifted) / sum;
    loss += target[k] * (normaliser - shifted);
  }
  return warp_sum(loss);
}

__global__ void cross_entropy_forward_kernel(int64_t batch, int64_t classes, const float* logits, const float* target,
                                             float* p, float* partial, unsigned* counts, float* loss) {
  Shared shared;
  float* losses = shared.take<float>(kWarpsPerBlock);
  int* flag = shared.take<int>(1);
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp_index();
  const float own = b < batch ? image_loss(classes, logits + b * classes, target + b * classes, p + b * classes) : 0;
  if (lane_index() == 0) losses[warp_index()] = own;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int warp = 0; warp < kWarpsPerBlock; ++warp) sum += losses[warp];
    partial[blockIdx.x] = sum;
  }
  sum_over_blocks(blockIdx.x, gridDim.x, 1, partial, counts, flag,
                  [=](int64_t, float sum) { *loss = sum / static_cast<float>(batch); });
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
  const unsigned blocks = blocks_for(batch, kWarpsPerBlock);
  const Workspace<float> partial(tree_places(blocks));
  LAUNCH(cross_entropy_forward_kernel, blocks, kWarpsPerBlock * kWarp,
         shared_bytes<float>(kWarpsPerBlock) + shared_bytes<int>(1), stream(), batch, classes, logits, target, p,
         partial.data(), arrivals(tree_counts(blocks)), loss);
}

void cross_entropy_backward(int64_t batch, int64_t classes, const float* target, const float* p, const float* dloss,
                            float* dlogits, bool add) {
  LAUNCH(cross_entropy_backward_kernel, blocks_for(batch, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0, stream(), batch,
         classes, target, p, dloss, dlogits, add);
}

}  // namespace entangle::gpu
