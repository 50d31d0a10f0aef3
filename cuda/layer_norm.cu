// Layer normalisation, forward and backward.
//
// Math. y = (x - mean) rstd w + b, mean and biased variance over a row, rstd = 1 / sqrt(variance + eps).
//   With xhat = (x - mean) rstd and h = dy w:  dx = rstd (h - avg(h) - xhat avg(h xhat)),
//   dw += sum_r dy xhat,  db += sum_r dy.
// Shapes. x, y, dy, dx [rows, width]; w, b, dw, db [width]; mean, rstd [rows].
// Preconditions. width > 0; dw and db hold gradients; dx does when `add`.
// Launch. A warp per row, which is read again from the L1 cache.
//   forward: kRowsPerBlock rows in a block.
//   backward: 8 warps, at most 256 blocks of neighbouring rows. 16 rows at a time, the warps make dx of a row each, then
//   the threads sum a column each from the L1 cache; the blocks' sums are added as in block_sums.cuh.
// Numerics. fp32. Variance about the mean, in a second pass: no cancellation. dw and db: blocks of rows that depend on
// the shape only, added in a fixed order: the same bits always.
#include "cuda/layer_norm.cuh"

#include "engine/ops.h"

namespace entangle::gpu {

namespace {

__global__ void layer_norm_forward_kernel(int64_t rows, int64_t width, float eps, const float* x, const float* w,
                                          const float* b, float* y, float* mean, float* rstd) {
  const int64_t r = row_of_warp();
  if (r >= rows) return;  // a whole warp
  const RowStatistics row = normalise_row(width, eps, x + r * width, w, b, y + r * width);
  if (lane_index() == 0) {
    mean[r] = row.mean;
    rstd[r] = row.rstd;
  }
}

__global__ void __launch_bounds__(NormBlocks::kWarps* kWarp, 2)
    layer_norm_backward_kernel(NormBlocks blocks, const float* x, const float* w, const float* mean, const float* rstd,
                               const float* dy, float* dx, bool add, float* partial, unsigned* counts, float* dw,
                               float* db) {
  const int64_t width = blocks.width;
  backward_block(blocks, partial, counts, dw, db, [=](int64_t r) {
    const NormedRow row = {x + r * width, dy + r * width, {mean[r], rstd[r]}};
    backward_row(width, row.statistics, row.x, w, row.dy, dx + r * width, add);
    return row;
  });
}

}  // namespace

void layer_norm_forward(int64_t rows, int64_t width, float eps, const float* x, const float* w, const float* b,
                        float* y, float* mean, float* rstd) {
  LAUNCH(layer_norm_forward_kernel, blocks_for(rows, kRowsPerBlock), kRowsPerBlock * kWarp, 0, stream(), rows, width,
         eps, x, w, b, y, mean, rstd);
}

void layer_norm_backward(int64_t rows, int64_t width, const float* x, const float* w, const float* mean,
                         const float* rstd, const float* dy, float* dx, bool add, float* dw, float* db) {
  if (rows == 0) return;
  const NormBlocks blocks(rows, width);
  const Workspace<float> partial(blocks.places());
  LAUNCH(layer_norm_backward_kernel, blocks_for(blocks.count, 1), NormBlocks::kWarps * kWarp, norm_bytes(), stream(),
         blocks, x, w, mean, rstd, dy, dx, add, partial.data(), blocks.counts(), dw, db);
}

}  // namespace entangle::gpu
