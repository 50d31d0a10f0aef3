// Residual connection with drop-path and the layer norm behind it, forward and backward.
//
// Math. sum[b] = x[b] + scale branch[from[b]], or x[b] where from[b] < 0;
//   norm[to[b]] = layer_norm(sum[b]) where to[b] >= 0.
//   dsum[b] += layer_norm's dx for dnorm[to[b]];  dbranch[from[b]] = scale dsum[b];
//   dw += sum over the rows of norm of dnorm xhat,  db += sum of dnorm, with xhat = (sum - mean) rstd.
// Shapes. x, sum, dsum [batch, tokens, width]; branch, dbranch [added, tokens, width]; norm, dnorm [normed, tokens,
// width]; w, b, dw, db [width]; mean, rstd [normed * tokens]; from, to [batch] in device memory, or null: all are kept.
// Preconditions. from and to ascend over the images kept. dsum holds a gradient when `add`, dbranch when `add_branch`,
// dw and db always. dnorm null: nothing used the norm; dbranch null: the branch needs no gradient.
// Launch. Forward, a warp per row, kRowsPerBlock rows in a block: the row just summed is normalised from the L1 cache.
// Backward as in layer_norm.cu; a row of the batch that has no norm adds nothing to dw and db.
// Numerics. fp32; variance about the mean. Fixed blocks of rows, added in a fixed order: the same bits always.
#include "cuda/layer_norm.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

// The row among the kept images' rows that belongs to row r of the batch, or -1.
__device__ inline int64_t kept_row(const int64_t* slot, int64_t r, int64_t tokens) {
  if (slot == nullptr) return r;
  const int64_t place = slot[r / tokens];
  return place < 0 ? -1 : place * tokens + r % tokens;
}

__global__ void residual_norm_forward_kernel(ResidualNormShape s, const int64_t* from, const int64_t* to,
                                             const float* x, const float* branch, const float* w, const float* b,
                                             float* sum, float* norm, float* mean, float* rstd) {
  const int64_t r = row_of_warp(), width = s.width;
  if (r >= s.batch * s.tokens) return;  // a whole warp
  const int64_t added = kept_row(from, r, s.tokens), normed = kept_row(to, r, s.tokens);
  struct Column {
    float x, branch;
  };
  for_row(
      width,
      [=](int64_t c) {
        return Column{x[r * width + c], added < 0 ? 0.0f : branch[added * width + c]};
      },
      [=](int64_t c, const Column& at) { sum[r * width + c] = at.x + s.scale * at.branch; });
  if (normed < 0) return;
  // Each lane reads what it wrote itself.
  const RowStatistics row = normalise_row(width, s.eps, sum + r * width, w, b, norm + normed * width);
  if (lane_index() == 0) {
    mean[normed] = row.mean;
    rstd[normed] = row.rstd;
  }
}

__global__ void __launch_bounds__(NormBlocks::kWarps* kWarp, 2)
    residual_norm_backward_kernel(ResidualNormShape s, NormBlocks blocks, const int64_t* from, const int64_t* to,
                                  const float* sum, const float* w, const float* mean, const float* rstd,
                                  const float* dnorm, float* dsum, bool add, float* dbranch, bool add_branch,
                                  float* partial, unsigned* counts, float* dw, float* db) {
  const int64_t width = s.width;
  backward_block(blocks, partial, counts, dw, db, [=](int64_t r) {
    const int64_t added = kept_row(from, r, s.tokens), normed = kept_row(to, r, s.tokens);
    NormedRow row = {sum + r * width, nullptr, {0, 0}};
    float* const own = dsum + r * width;
    if (dnorm != nullptr && normed >= 0) {
      row.dy = dnorm + normed * width;
      row.statistics = {mean[normed], rstd[normed]};
      backward_row(width, row.statistics, row.x, w, row.dy, own, add);
    } else if (!add) {
      for (int64_t c = lane_index(); c < width; c += kWarp) own[c] = 0;
    }
    if (dbranch == nullptr || added < 0) return row;
    float* const branch = dbranch + added * width;
    struct Column {
      float own, before;
    };
    for_row(
        width,
        [=](int64_t c) {
          return Column{own[c], add_branch ? branch[c] : 0.0f};
        },
        [=](int64_t c, const Column& at) { branch[c] = at.before + s.scale * at.own; });
    return row;
  });
}

}  // namespace

void residual_norm_forward(const ResidualNormShape& s, const int64_t* from, const int64_t* to, const float* x,
                           const float* branch, const float* w, const float* b, float* sum, float* norm, float* mean,
                           float* rstd) {
  LAUNCH(residual_norm_forward_kernel, blocks_for(s.batch * s.tokens, kRowsPerBlock), kRowsPerBlock * kWarp, 0,
         stream(), s, from, to, x, branch, w, b, sum, norm, mean, rstd);
}

void residual_norm_backward(const ResidualNormShape& s, const int64_t* from, const int64_t* to, const float* sum,
                            const float* w, const float* mean, const float* rstd, const float* dnorm, float* dsum,
                            bool add, float* dbranch, bool add_branch, float* dw, float* db) {
  const NormBlocks blocks(s.batch * s.tokens, s.width);
  const Workspace<float> partial(dnorm == nullptr ? 0 : blocks.places());
  LAUNCH(residual_norm_backward_kernel, blocks_for(blocks.count, 1), NormBlocks::kWarps * kWarp, norm_bytes(), stream(),
         s, blocks, from, to, sum, w, mean, rstd, dnorm, dsum, add, dbranch, add_branch,
         dnorm == nullptr ? nullptr : partial.data(), blocks.counts(), dw, db);
}

}  // namespace entangle::gpu
