// Layer normalisation, forward and backward.
//
// Math. y = (x - mean) rstd w + b, mean and biased variance over a row, rstd = 1 / sqrt(variance + eps).
//   With xhat = (x - mean) rstd and h = dy w:  dx = rstd (h - avg(h) - xhat avg(h xhat)),
//   dw += sum_r dy xhat,  db += sum_r dy.
// Shapes. x, y, dy, dx [rows, width]; w, b, dw, db [width]; mean, rstd [rows].
// Preconditions. width > 0; dw and db hold gradients; dx does when `add`.
// Launch.
//   forward, dx: a warp per row, kWarpsPerBlock rows in a block; a row is read again from the L1 cache.
//   dw, db: grid (tiles of 32 columns, chunks of rows), a block sums its tile of its chunk; a lane owns a column and
//   the warps take rows in turn, then their sums meet in shared memory (two numbers a thread). A last kernel adds the
//   chunks.
// Numerics. fp32. Variance about the mean, in a second pass: no cancellation. dw and db: chunks of rows that depend on
// the shape only, added in ascending order: the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int kWarpsPerBlock = 8;
constexpr int64_t kMostChunks = 128, kLeastRows = 32;  // of the sums over rows

__global__ void layer_norm_forward_kernel(int64_t rows, int64_t width, float eps, const float* x, const float* w,
                                          const float* b, float* y, float* mean, float* rstd) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp_index();
  if (r >= rows) return;  // a whole warp
  const float* in = x + r * width;
  float* out = y + r * width;
  const float n = static_cast<float>(width);
  float sum = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) sum += in[c];
  const float m = warp_sum(sum) / n;
  float squares = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) squares += (in[c] - m) * (in[c] - m);
  const float s = 1.0f / sqrtf(warp_sum(squares) / n + eps);
  for (int64_t c = lane_index(); c < width; c += kWarp) out[c] = (in[c] - m) * s * w[c] + b[c];
  if (lane_index() == 0) {
    mean[r] = m;
    rstd[r] = s;
  }
}

__global__ void layer_norm_backward_input_kernel(int64_t rows, int64_t width, const float* x, const float* w,
                                                 const float* mean, const float* rstd, const float* dy, float* dx,
                                                 bool add) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp_index();
  if (r >= rows) return;  // a whole warp
  const float *in = x + r * width, *g = dy + r * width;
  const float m = mean[r], s = rstd[r], n = static_cast<float>(width);
  float sum_h = 0, sum_hx = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) {
    const float h = g[c] * w[c];
    sum_h += h;
    sum_hx += h * ((in[c] - m) * s);
  }
  const float average_h = warp_sum(sum_h) / n, average_hx = warp_sum(sum_hx) / n;
  for (int64_t c = lane_index(); c < width; c += kWarp) {
    const float h = g[c] * w[c], normal = (in[c] - m) * s;
    put(dx + r * width + c, (h - average_h - normal * average_hx) * s, add);
  }
}

// partial[chunk] holds the sums of dy xhat of its rows, then those of dy: [2, width].
__global__ void layer_norm_partial_kernel(int64_t rows, int64_t width, int64_t per_chunk, const float* x,
                                          const float* mean, const float* rstd, const float* dy, float* partial) {
  Shared shared;
  float *sums_w = shared.take<float>(kThreads), *sums_b = shared.take<float>(kThreads);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarp + lane_index();
  const int64_t first = blockIdx.y * per_chunk, last = first + per_chunk < rows ? first + per_chunk : rows;
  float w = 0, b = 0;
  for (int64_t r = first + warp_index(); r < last && c < width; r += warps_in_block()) {
    const float g = dy[r * width + c];
    w += g * ((x[r * width + c] - mean[r]) * rstd[r]);
    b += g;
  }
  sums_w[threadIdx.x] = w;
  sums_b[threadIdx.x] = b;
  __syncthreads();
  if (warp_index() > 0 || c >= width) return;
  for (int warp = 1; warp < warps_in_block(); ++warp) {
    w += sums_w[warp * kWarp + lane_index()];
    b += sums_b[warp * kWarp + lane_index()];
  }
  partial[(blockIdx.y * 2 + 0) * width + c] = w;
  partial[(blockIdx.y * 2 + 1) * width + c] = b;
}

__global__ void layer_norm_reduce_kernel(int64_t chunks, int64_t width, const float* partial, float* dw, float* db) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= width) return;
  float w = 0, b = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    w += partial[(chunk * 2 + 0) * width + c];
    b += partial[(chunk * 2 + 1) * width + c];
  }
  dw[c] += w;
  db[c] += b;
}

}  // namespace

void layer_norm_forward(int64_t rows, int64_t width, float eps, const float* x, const float* w, const float* b,
                        float* y, float* mean, float* rstd) {
  LAUNCH(layer_norm_forward_kernel, blocks_for(rows, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0, stream(), rows, width,
         eps, x, w, b, y, mean, rstd);
}

void layer_norm_backward(int64_t rows, int64_t width, const float* x, const float* w, const float* mean,
                         const float* rstd, const float* dy, float* dx, bool add, float* dw, float* db) {
  if (rows == 0) return;
  LAUNCH(layer_norm_backward_input_kernel, blocks_for(rows, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0, stream(), rows,
         width, x, w, mean, rstd, dy, dx, add);
  const int64_t per_chunk = at_least(kLeastRows, (rows + kMostChunks - 1) / kMostChunks);
  const unsigned chunks = blocks_for(rows, per_chunk);
  const Workspace<float> partial(chunks * 2 * width);
  LAUNCH(layer_norm_partial_kernel, dim3(blocks_for(width, kWarp), chunks), kThreads, 2 * shared_bytes<float>(kThreads),
         stream(), rows, width, per_chunk, x, mean, rstd, dy, partial.data());
  LAUNCH(layer_norm_reduce_kernel, blocks_for(width, kThreads), kThreads, 0, stream(), chunks, width, partial.data(),
         dw, db);
}

}  // namespace entangle::gpu
