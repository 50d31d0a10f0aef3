// Layer normalisation, forward and backward.
//
// Math. y = (x - mean) rstd w + b, mean and biased variance over a row, rstd = 1 / sqrt(variance + eps).
//   With xhat = (x - mean) rstd and h = dy w:  dx = rstd (h - avg(h) - xhat avg(h xhat)),
//   dw += sum_r dy xhat,  db += sum_r dy.
// Shapes. x, y, dy, dx [rows, width]; w, b, dw, db [width]; mean, rstd [rows].
// Preconditions. width > 0; dw and db hold gradients; dx does when `add`.
// Launch.
//   forward, dx: a warp per row, kRowsPerBlock rows in a block; a row is read again from the L1 cache.
//   dw, db: grid (tiles of 32 columns, chunks of rows), a block sums its tile of its chunk; a lane owns a column and
//   the warps take rows in turn, then their sums meet in shared memory (two numbers a thread). A last kernel adds the
//   chunks.
// Numerics. fp32. Variance about the mean, in a second pass: no cancellation. dw and db: chunks of rows that depend on
// the shape only, added in ascending order: the same bits always.
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

__global__ void layer_norm_backward_input_kernel(int64_t rows, int64_t width, const float* x, const float* w,
                                                 const float* mean, const float* rstd, const float* dy, float* dx,
                                                 bool add) {
  const int64_t r = row_of_warp();
  if (r >= rows) return;  // a whole warp
  backward_row(width, {mean[r], rstd[r]}, x + r * width, w, dy + r * width, dx + r * width, add);
}

__global__ void layer_norm_partial_kernel(int64_t rows, int64_t width, int64_t per_chunk, const float* x,
                                          const float* mean, const float* rstd, const float* dy, float* partial) {
  sum_chunk<2>(rows, width, per_chunk, partial, [=](int64_t r, int64_t c, float* sums) {
    const float g = dy[r * width + c];
    sums[0] += g * ((x[r * width + c] - mean[r]) * rstd[r]);
    sums[1] += g;
  });
}

__global__ void add_norm_gradients_kernel(int64_t chunks, int64_t width, const float* partial, float* dw, float* db) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= width) return;
  dw[c] += sum_of_chunks(chunks, 2, width, partial, 0, c);
  db[c] += sum_of_chunks(chunks, 2, width, partial, 1, c);
}

}  // namespace

void add_norm_gradients(int64_t chunks, int64_t width, const float* partial, float* dw, float* db) {
  LAUNCH(add_norm_gradients_kernel, blocks_for(width, kThreads), kThreads, 0, stream(), chunks, width, partial, dw, db);
}

void layer_norm_forward(int64_t rows, int64_t width, float eps, const float* x, const float* w, const float* b,
                        float* y, float* mean, float* rstd) {
  LAUNCH(layer_norm_forward_kernel, blocks_for(rows, kRowsPerBlock), kRowsPerBlock * kWarp, 0, stream(), rows, width,
         eps, x, w, b, y, mean, rstd);
}

void layer_norm_backward(int64_t rows, int64_t width, const float* x, const float* w, const float* mean,
                         const float* rstd, const float* dy, float* dx, bool add, float* dw, float* db) {
  if (rows == 0) return;
  LAUNCH(layer_norm_backward_input_kernel, blocks_for(rows, kRowsPerBlock), kRowsPerBlock * kWarp, 0, stream(), rows,
         width, x, w, mean, rstd, dy, dx, add);
  const RowChunks chunks(rows);
  const Workspace<float> partial(chunks.count * 2 * width);
  LAUNCH(layer_norm_partial_kernel, dim3(blocks_for(width, kWarp), chunks.count), kThreads, sum_chunk_bytes<2>(),
         stream(), rows, width, chunks.per_chunk, x, mean, rstd, dy, partial.data());
  add_norm_gradients(chunks.count, width, partial.data(), dw, db);
}

}  // namespace entangle::gpu
