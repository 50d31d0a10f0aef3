// Linear layers on strided weight slices: plain products (product.cu) and the gradient of the bias.
//
// Math. y[r, g*O + o] = sum_i x[r, i] w[g, o, i] + b[g, o];
//   dx[r, i] = sum_go dy[r, g*O + o] w[g, o, i];  dw[g, o, i] += sum_r dy[r, g*O + o] x[r, i];
//   db[g, o] += sum_r dy[r, g*O + o].
// Shapes. x, dx [rows, in]; w, dw [groups, out, in], rows w_row and groups w_group apart; b, db [groups, out], groups
// b_group apart, or null; y, dy [rows, groups*out].
// Preconditions. w_row >= in. dw and db hold gradients; dx does when `add`. Any alignment.
// Launch. The groups of y and of dw are one strided batch, since they lie out columns, or w_group elements, apart;
// those of dx are added one after another. The bias is the product's epilogue. db: grid (tiles of 32 columns, chunks of
// rows), a lane owns a column and the warps take rows in turn, then their sums meet in shared memory (one number a
// thread); a last kernel adds the chunks.
//   fp32: products read the slices in place. bf16: x, w and dy are rounded into scratch memory first, a block for
// kPerBlock elements of a row, with rows padded to 16 bytes: the tensor cores' fast kernels want that alignment, and a
// slice 756 columns wide does not have it.
// Numerics. fp32 products and sums (no TF32), or products of operands rounded to bf16 (nearest, ties to even) with fp32
// sums. db: chunks that depend on the shape only, added in ascending order: the same bits always.
#include "cuda/bf16.cuh"
#include "cuda/product.h"
#include "cuda/row_sums.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

// y[m, r, c] = x[m, r, c] in bf16; rows of y `padded` elements apart.
__global__ void round_kernel(int64_t rows, int64_t columns, int64_t row, int64_t batch, int64_t matrices,
                             int64_t padded, const float* x, bf16* y) {
  for (int64_t r = blockIdx.y; r < matrices * rows; r += gridDim.y) {
    const float* in = x + r / rows * batch + r % rows * row;
    for_elements(columns, [=](int64_t c) { y[r * padded + c] = to_bf16(in[c]); });
  }
}

// A batch of matrices as products read it: in place, or rounded.
class Rounded {
 public:
  Rounded(Precision precision, int64_t matrices, int64_t rows, int64_t columns, const float* data, int64_t row,
          int64_t batch)
      : padded_((columns + 7) / 8 * 8),
        memory_(precision == Precision::bf16 ? matrices * rows * padded_ : 0),
        operand_{data, CUDA_R_32F, row, batch, false} {
    if (precision == Precision::fp32) return;
    LAUNCH(round_kernel, image_grid(columns, matrices * rows), kThreads, 0, stream(), rows, columns, row, batch,
           matrices, padded_, data, memory_.data());
    operand_ = {memory_.data(), CUDA_R_16BF, padded_, matrices > 1 ? rows * padded_ : 0, false};
  }
  const Operand& operand() const { return operand_; }

 private:
  int64_t padded_;
  Workspace<bf16> memory_;
  Operand operand_;
};

Rounded rounded_x(const LinearShape& s, const float* x) { return {s.precision, 1, s.rows, s.in, x, s.in, 0}; }
Rounded rounded_dy(const LinearShape& s, const float* dy) {
  return {s.precision, 1, s.rows, s.groups * s.out, dy, s.groups * s.out, 0};
}

// The row stride of w; that of a single row is never used, and cuBLAS wants it to hold a row.
int64_t weight_row(const LinearShape& s) { return s.out == 1 ? at_least(s.in, s.w_row) : s.w_row; }
Rounded rounded_w(const LinearShape& s, const float* w) {
  return {s.precision, s.groups, s.out, s.in, w, weight_row(s), s.w_group};
}

__global__ void linear_bias_partial_kernel(int64_t rows, int64_t columns, int64_t per_chunk, const float* dy,
                                           float* partial) {
  sum_chunk<1>(rows, columns, per_chunk, partial,
               [=](int64_t r, int64_t j, float* sum) { sum[0] += dy[r * columns + j]; });
}

__global__ void linear_bias_reduce_kernel(LinearShape s, int64_t chunks, const float* partial, float* db) {
  const int64_t columns = s.groups * s.out, j = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j < columns) db[j / s.out * s.b_group + j % s.out] += sum_of_chunks(chunks, 1, columns, partial, 0, j);
}

void add_bias_gradient(const LinearShape& s, const float* dy, float* db) {
  const int64_t columns = s.groups * s.out;
  const RowChunks chunks(s.rows);
  const Workspace<float> partial(chunks.count * columns);
  LAUNCH(linear_bias_partial_kernel, dim3(blocks_for(columns, kWarp), chunks.count), kThreads, sum_chunk_bytes<1>(),
         stream(), s.rows, columns, chunks.per_chunk, dy, partial.data());
  LAUNCH(linear_bias_reduce_kernel, blocks_for(columns, kThreads), kThreads, 0, stream(), s, chunks.count,
         partial.data(), db);
}

}  // namespace

void linear_forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  const Rounded rx = rounded_x(s, x), rw = rounded_w(s, w);
  Product p = {s.groups, s.rows, s.out, s.in, rx.operand(), rw.operand().transpose(), y, s.groups * s.out, s.out};
  p.bias = b;
  p.bias_batch = s.b_group;
  multiply(p);
}

void linear_backward_input(const LinearShape& s, const float* dy, const float* w, float* dx, bool add) {
  const Rounded rdy = rounded_dy(s, dy), rw = rounded_w(s, w);
  for (int64_t g = 0; g < s.groups; ++g) {
    multiply({1, s.rows, s.in, s.out, rdy.operand().from(g * s.out), rw.operand().from(g * rw.operand().batch), dx,
              s.in, 0, add || g > 0});
  }
}

void linear_backward_weight(const LinearShape& s, const float* x, const float* dy, float* dw, float* db) {
  if (s.rows == 0) return;
  const Rounded rx = rounded_x(s, x), rdy = rounded_dy(s, dy);
  Operand groups = rdy.operand().transpose();
  groups.batch = s.out;
  multiply({s.groups, s.out, s.in, s.rows, groups, rx.operand(), dw, weight_row(s), s.w_group, true});
  if (db != nullptr) add_bias_gradient(s, dy, db);
}

}  // namespace entangle::gpu
