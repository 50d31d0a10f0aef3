// Layer normalisation of one row by one warp, and the sums over rows: what layer_norm.cu and residual_norm.cu share.
//
// A row is read from device memory once and from the L1 cache after that: a warp's row of a few kilobytes stays there, and
// backward the kRound rows of a block.
#pragma once

#include "cuda/block_sums.cuh"
#include "cuda/runtime.h"

namespace entangle::gpu {

inline constexpr int kRowsPerBlock = 8;  // a warp takes a row

struct RowStatistics {
  float mean, rstd;
};

// The row that this warp of a grid of kRowsPerBlock rows a block takes.
__device__ inline int64_t row_of_warp() { return static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + warp_index(); }

// y = (x - mean) rstd w + b. The variance is that about the mean, in a second pass: no cancellation.
__device__ inline RowStatistics normalise_row(int64_t width, float eps, const float* x, const float* w, const float* b,
                                              float* y) {
  const float n = static_cast<float>(width);
  float sum = 0, squares = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) sum += x[c];
  const float mean = warp_sum(sum) / n;
  for (int64_t c = lane_index(); c < width; c += kWarp) squares += (x[c] - mean) * (x[c] - mean);
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / n + eps);
  for (int64_t c = lane_index(); c < width; c += kWarp) y[c] = (x[c] - mean) * rstd * w[c] + b[c];
  return {mean, rstd};
}

// With h = dy w and xhat = (x - mean) rstd: puts rstd (h - avg(h) - xhat avg(h xhat)) into dx.
__device__ inline void backward_row(int64_t width, const RowStatistics& row, const float* x, const float* w,
                                    const float* dy, float* dx, bool add) {
  const float n = static_cast<float>(width);
  float sum_h = 0, sum_hx = 0;
  for (int64_t c = lane_index(); c < width; c += kWarp) {
    const float h = dy[c] * w[c];
    sum_h += h;
    sum_hx += h * ((x[c] - row.mean) * row.rstd);
  }
  const float average_h = warp_sum(sum_h) / n, average_hx = warp_sum(sum_hx) / n;
  for (int64_t c = lane_index(); c < width; c += kWarp) {
    const float h = dy[c] * w[c], normal = (x[c] - row.mean) * row.rstd;
    put(dx + c, (h - average_h - normal * average_hx) * row.rstd, add);
  }
}

// How the rows are shared out backward: by their number alone.
struct NormBlocks {
  static constexpr int kWarps = 16, kRound = 32;  // rows that the warps take, before their columns are summed
  static constexpr int64_t kMost = 256;           // blocks: two levels of sums
  int64_t rows, width, per_block, count;

  NormBlocks(int64_t rows_of, int64_t width_of)
      : rows(rows_of),
        width(width_of),
        per_block(at_least(kRound, (rows + kMost - 1) / kMost)),
        count((rows + per_block - 1) / per_block) {}

  int64_t places() const { return tree_places(count) * 2 * width; }
  unsigned* counts() const { return arrivals(tree_counts(count)); }
};

// Calls row(r), by a warp, for the block's rows, and adds up what element(r, c, sums) adds to the two sums of column c: those
// of all blocks are added to dw[c] and db[c]. partial null: there are no sums.
template <class Row, class Element>
__device__ void backward_block(const NormBlocks& n, float* partial, unsigned* counts, float* dw, float* db,
                               const Row& row, const Element& element) {
  Shared shared;
  int* flag = shared.take<int>(1);
  const int64_t block = blockIdx.x, begin = block * n.per_block;
  const int64_t end = begin + n.per_block < n.rows ? begin + n.per_block : n.rows;
  for (int64_t first = begin; first < end; first += NormBlocks::kRound) {
    const int64_t last = first + NormBlocks::kRound < end ? first + NormBlocks::kRound : end;
    for (int64_t r = first + warp_index(); r < last; r += NormBlocks::kWarps) row(r);
    if (partial == nullptr) continue;
    float* own = partial + block * 2 * n.width;
    for (int64_t c = threadIdx.x; c < n.width; c += blockDim.x) {
      float sums[2] = {};
      UNROLL_BY(8)
      for (int64_t r = first; r < last; ++r) element(r, c, sums);
      put(own + c, sums[0], first > begin);
      put(own + n.width + c, sums[1], first > begin);
    }
  }
  if (partial == nullptr) return;
  sum_over_blocks(block, n.count, 2 * n.width, partial, counts, flag,
                  [&](int64_t i, float sum) { *(i < n.width ? dw + i : db + (i - n.width)) += sum; });
}

}  // namespace entangle::gpu
