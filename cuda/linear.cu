// Linear layers on strided weight slices: plain products (product.cu) of operands made ready in one kernel (operands.cuh).
//
// Math. y[r, g*O + o] = sum_i x[r, i] w[g, o, i] + b[g, o];
//   dx[r, i] = sum_go dy[r, g*O + o] w[g, o, i];  dw[g, o, i] += sum_r dy[r, g*O + o] x[r, i];
//   db[g, o] += sum_r dy[r, g*O + o].
// Shapes. x, dx [rows, in]; w, dw [groups, out, in], rows w_row and groups w_group apart; b, db [groups, out], groups
// b_group apart, or null; y, dy [rows, groups*out].
// Preconditions. w_row >= in. dw and db hold gradients; dx does when `add`; dx may be null, and dw with db. Any alignment.
// Launch. The groups of y and of dw are one strided batch, since they lie out columns, or w_group elements, apart. dx is
// one product with the groups of w below one another, which are copied there unless they lie so. The bias is the product's
// epilogue. fp32: products read the slices in place; db is summed by the kernel that joins w. bf16: x, w and dy are
// rounded into scratch memory first, each once, dy while its columns are summed.
// Numerics. fp32 products and sums (no TF32), or products of operands rounded to bf16 (nearest, ties to even) with fp32
// sums. db: chunks that depend on the shape only, in a fixed order: the same bits always.
#include "cuda/operands.cuh"

namespace entangle::gpu {

void linear_forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  Operands operands(s.precision);
  const Operand left = operands.read(contiguous(x, s.rows, s.in)), right = operands.read(weight_matrix(s, w));
  operands.prepare();
  Product p = {s.groups, s.rows, s.out, s.in, left, right.transpose(), y, s.groups * s.out, s.out};
  p.bias = b;
  p.bias_batch = s.b_group;
  multiply(p);
}

void linear_backward(const LinearShape& s, const float* x, const float* w, const float* dy, float* dx, bool add,
                     float* dw, float* db) {
  if (s.rows == 0) return;
  const int64_t outputs = s.groups * s.out;
  Operands operands(s.precision);
  const Operand gradient = operands.read(contiguous(dy, s.rows, outputs), {db, s.out, s.b_group});
  Operand right = {}, left = {};
  if (dx != nullptr) right = operands.read_joined(weight_matrix(s, w));
  if (dw != nullptr) left = operands.read(contiguous(x, s.rows, s.in));
  operands.prepare();
  if (dx != nullptr) multiply({1, s.rows, s.in, outputs, gradient, right, dx, s.in, 0, add});
  if (dw == nullptr) return;
  Operand groups = gradient.transpose();
  groups.batch = s.out;
  multiply({s.groups, s.out, s.in, s.rows, groups, left, dw, weight_matrix(s, dw).row, s.w_group, true});
}

}  // namespace entangle::gpu
