// Residual connection with drop-path and the layer norm behind it, row by row in the L1 cache.
#include "engine/cpu/layer_norm.h"
#include "engine/ops.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// The row among the kept images' rows that belongs to row r of the batch, or -1.
static inline int64_t kept_row(const int64_t* slot, int64_t r, int64_t tokens) {
  if (slot == nullptr) return r;
  const int64_t place = slot[r / tokens];
  return place < 0 ? -1 : place * tokens + r % tokens;
}

void residual_norm_forward(const ResidualNormShape& s, const int64_t* from, const int64_t* to, const float* x,
                           const float* branch, const float* w, const float* b, float* sum, float* norm, float* mean,
                           float* rstd) {
  const int64_t rows = s.batch * s.tokens, width = s.width;
  parallel_for(chunks_of(rows, kNormRows), [&](int64_t chunk) {
    for (int64_t r = chunk * kNormRows; r < min_of(rows, (chunk + 1) * kNormRows); ++r) {
      const int64_t added = kept_row(from, r, s.tokens), normed = kept_row(to, r, s.tokens);
      for_vectors(width, [&](int64_t i, int64_t n) {
        const vec in = load_some(x + r * width + i, n);
        store_some(sum + r * width + i, added < 0 ? in : in + load_some(branch + added * width + i, n) * s.scale, n);
      });
      if (normed < 0) continue;
      normalise_row(width, s.eps, sum + r * width, w, b, norm + normed * width, mean + normed, rstd + normed);
    }
  });
}

void residual_norm_backward(const ResidualNormShape& s, const int64_t* from, const int64_t* to, const float* sum,
                            const float* w, const float* mean, const float* rstd, const float* dnorm, float* dsum,
                            bool add, float* dbranch, bool add_branch, float* dw, float* db) {
  const int64_t width = s.width;
  sum_over_rows(s.batch * s.tokens, width, dw, db, [&](int64_t r, float* own_dw, float* own_db) {
    const int64_t added = kept_row(from, r, s.tokens), normed = kept_row(to, r, s.tokens);
    float* row = dsum + r * width;
    if (dnorm != nullptr && normed >= 0) {
      backward_row(width, sum + r * width, w, mean[normed], rstd[normed], dnorm + normed * width, row, add, own_dw,
                   own_db);
    } else if (!add) {
      memset(row, 0, static_cast<size_t>(width) * sizeof(float));
    }
    if (dbranch == nullptr || added < 0) return;
    for_vectors(width, [&](int64_t i, int64_t n) {
      put(dbranch + added * width + i, load_some(row + i, n) * s.scale, n, add_branch);
    });
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
