// Layer normalisation of one row by one warp, and the sums over rows: what layer_norm.cu and residual_norm.cu share.
//
// A row is read from device memory once and from the L1 cache after that: a warp's row of a few kilobytes stays there, and
// backward the kRound rows of a block: of two blocks, 164 KB at 640 columns.
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
  struct Column {
    float x, w, b;
  };
  for_row(
      width,
      [=](int64_t c) {
        return Column{x[c], w[c], b[c]};
      },
      [=](int64_t c, const Column& at) { y[c] = (at.x - mean) * rstd * at.w + at.b; });
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
  struct Column {
    float h, normal, before;
  };
  for_row(
      width,
      [=](int64_t c) {
        return Column{dy[c] * w[c], (x[c] - row.mean) * row.rstd, add ? dx[c] : 0.0f};
      },
      [=](int64_t c, const Column& at) { dx[c] = at.before + (at.h - average_h - at.normal * average_hx) * row.rstd; });
}

// How the rows are shared out backward: by their number alone.
struct NormBlocks {
  static constexpr int kWarps = 8, kRound = 16;  // rows that the warps take, before their columns are summed
  static constexpr int64_t kMost = 256;          // blocks: two levels of sums
  int64_t rows, width, per_block, count;

  NormBlocks(int64_t rows_of, int64_t width_of)
      : rows(rows_of),
        width(width_of),
        per_block(at_least(kRound, (rows + kMost - 1) / kMost)),
        count((rows + per_block - 1) / per_block) {}

  int64_t places() const { return tree_places(count) * 2 * width; }
  unsigned* counts() const { return arrivals(tree_counts(count)); }
};

// A row of x that was normalised, and the gradient of what it became; dy null: there is none.
struct NormedRow {
  const float *x, *dy;
  RowStatistics statistics;
};
inline size_t norm_bytes() { return shared_bytes<NormedRow>(NormBlocks::kRound) + shared_bytes<int>(1); }

// The sums of a round's rows, by columns, put into or added to sums [2, width].
__device__ inline void sum_round(const NormedRow* normed, int64_t rows, int64_t width, float* sums, bool add) {
  for (int64_t c = threadIdx.x; c < width; c += blockDim.x) {
    float dw = 0, db = 0;
    UNROLL_BY(8)
    for (int64_t r = 0; r < rows; ++r) {
      const NormedRow& row = normed[r];
      const float g = row.dy == nullptr ? 0.0f : row.dy[c];
      dw += row.dy == nullptr ? 0.0f : g * ((row.x[c] - row.statistics.mean) * row.statistics.rstd);
      db += g;
    }
    put(sums + c, dw, add);
    put(sums + width + c, db, add);
  }
}

// Calls row(r), which returns a NormedRow, by a warp, for the block's rows; adds sum dy xhat to dw and sum dy to db, over the
// rows of all blocks. partial null: there are no sums.
template <class Row>
__device__ void backward_block(const NormBlocks& n, float* partial, unsigned* counts, float* dw, float* db,
                               const Row& row) {
  Shared shared;
  NormedRow* normed = shared.take<NormedRow>(NormBlocks::kRound);
  int* flag = shared.take<int>(1);
  const int64_t block = blockIdx.x, begin = block * n.per_block;
  const int64_t end = begin + n.per_block < n.rows ? begin + n.per_block : n.rows;
  for (int64_t first = begin; first < end; first += NormBlocks::kRound) {
    const int64_t last = first + NormBlocks::kRound < end ? first + NormBlocks::kRound : end;
    __syncthreads();  // the round before has been read
    for (int64_t r = first + warp_index(); r < last; r += NormBlocks::kWarps) {
      const NormedRow done = row(r);
      if (lane_index() == 0) normed[r - first] = done;
    }
    __syncthreads();
    if (partial != nullptr) {
      sum_round(normed, last - first, n.width, partial + block * 2 * n.width, first > begin);
    }
  }
  if (partial == nullptr) return;
  sum_over_blocks(block, n.count, 2 * n.width, partial, counts, flag,
                  [&](int64_t i, float sum) { *(i < n.width ? dw + i : db + (i - n.width)) += sum; });
}

}  // namespace entangle::gpu
