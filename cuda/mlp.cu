// Two linear layers with GELU between them, forward and backward.
//
// Math. h = x w1^T + b1, a = gelu(h), y = a w2^T + b2;
//   da = dy w2,  dh = da gelu'(h),  dx = dh w1,  dw2 += dy^T a,  dw1 += dh^T x,  db2, db1 += column sums of dy, dh.
// Shapes. x, dx [rows, in]; h, a [rows, hidden]; y, dy [rows, out]; weights as in linear.cu.
// Preconditions. Gradients of weights hold gradients; dx does when `add`; dx may be null. Forward, h may be null: it is
// not kept. Backward, h may be overwritten.
// Launch. Products (product.cu), and between them one sweep over the hidden activations, a block for a tile of 32 columns
// of a chunk of rows (row_sums.cuh); a product of this size does not leave them in a cache, so there is nothing to gain
// from smaller pieces. Backward, the sweep makes dh and a of h and da, which `a` holds until then, and sums db1: 16 bytes an
// element, 12 in bf16, where it writes both as the products read them. Its grid also has the blocks that sum db2, which in
// bf16 the kernel that rounds dy has done.
// Numerics. Those of linear.cu and gelu.cu.
#include "cuda/normal.cuh"
#include "cuda/operands.cuh"

namespace entangle::gpu {

namespace {

// A matrix of hidden activations: where a sweep puts its elements.
struct Hidden {
  float* fp32;  // rows next to each other; null: not wanted
  bf16* rounded;
  int64_t row;  // of `rounded`

  __device__ void put(int64_t width, int64_t r, int64_t c, float value) const {
    if (fp32 != nullptr) fp32[r * width + c] = value;
    if (rounded != nullptr) rounded[r * row + c] = to_bf16(value);
  }
};

__global__ void mlp_forward_kernel(RowTiles tiles, const float* h, Hidden a) {
  const auto value = [=](int64_t r, int64_t c) {
    const float x = h[r * tiles.width + c];
    a.put(tiles.width, r, c, x * normal_distribution(x).cumulative);
    return 0.0f;
  };
  for_columns(tiles, blockIdx.x, ColumnSums(), value, [](int64_t, float) {});
}

__global__ void mlp_backward_kernel(RowTiles tiles, const float* h, const float* da, Hidden dh, Hidden a,
                                    ColumnSums sums, float* db, const __grid_constant__ Sweeps others) {
  if (blockIdx.x >= tiles.blocks()) return run_sweeps(others, blockIdx.x - tiles.blocks());
  const auto value = [=](int64_t r, int64_t c) {
    const float x = h[r * tiles.width + c], gradient = da[r * tiles.width + c];
    const NormalDistribution normal = normal_distribution(x);
    const float slope = gradient * (normal.cumulative + x * normal.density);
    dh.put(tiles.width, r, c, slope);
    a.put(tiles.width, r, c, x * normal.cumulative);
    return slope;
  };
  for_columns(tiles, blockIdx.x, sums, value, [=](int64_t c, float sum) { db[c] += sum; });
}

Product product(int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b, float* c, bool add) {
  return {1, m, n, k, a, b, c, n, 0, add};
}

// dw += dy^T x.
void add_weight_gradient(const LinearShape& s, const Operand& dy, const Operand& x, float* dw) {
  multiply({1, s.out, s.in, s.rows, dy.transpose(), x, dw, weight_matrix(s, dw).row, 0, true});
}

}  // namespace

void mlp_forward(const LinearShape& first, const LinearShape& second, const float* x, const float* w1, const float* b1,
                 const float* w2, const float* b2, float* h, float* y) {
  const int64_t rows = first.rows, hidden = first.out;
  const bool rounded = first.precision == Precision::bf16;
  Operands operands(first.precision);
  const Operand in = operands.read(contiguous(x, rows, first.in));
  const Operand one = operands.read(weight_matrix(first, w1)), two = operands.read(weight_matrix(second, w2));
  operands.prepare();
  const Workspace<float> unkept(h == nullptr ? rows * hidden : 0), activations(rounded ? 0 : rows * hidden);
  float* before = h == nullptr ? unkept.data() : h;
  Product p = product(rows, hidden, first.in, in, one.transpose(), before, false);
  p.bias = b1;
  multiply(p);
  const Hidden a = {rounded ? nullptr : activations.data(), rounded ? operands.room(rows, hidden) : nullptr,
                    Operands::padded_row(hidden)};
  const RowTiles tiles(rows, hidden);
  LAUNCH(mlp_forward_kernel, blocks_for(tiles.blocks(), 1), kThreads, for_columns_bytes(), stream(), tiles, before, a);
  const Operand between =
      rounded ? Operands::rounded(a.rounded, hidden) : Operand{a.fp32, CUDA_R_32F, hidden, 0, false};
  p = product(rows, second.out, hidden, between, two.transpose(), y, false);
  p.bias = b2;
  multiply(p);
}

void mlp_backward(const LinearShape& first, const LinearShape& second, bool recompute, const float* x, const float* w1,
                  const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx, bool add,
                  float* dw1, float* db1, float* dw2, float* db2) {
  const int64_t rows = first.rows, hidden = first.out;
  if (rows == 0) return;
  if (recompute) linear_forward(first, x, w1, b1, h);
  const bool rounded = first.precision == Precision::bf16;
  Operands operands(first.precision);
  const Operand gradient = operands.read(contiguous(dy, rows, second.out), {db2, second.out, 0});
  const Operand one = operands.read(weight_matrix(first, w1)), two = operands.read(weight_matrix(second, w2));
  const Operand in = operands.read(contiguous(x, rows, first.in));
  if (rounded) operands.prepare();
  multiply(product(rows, hidden, second.out, gradient, two, a, false));
  const RowTiles tiles(rows, hidden);
  const int64_t row = Operands::padded_row(hidden);
  const Hidden slopes = {rounded ? nullptr : h, rounded ? operands.room(rows, hidden) : nullptr, row};
  const Hidden activations = {rounded ? nullptr : a, rounded ? operands.room(rows, hidden) : nullptr, row};
  const ColumnSums sums = operands.sums(tiles);
  const Sweeps others = operands.take_sweeps();
  LAUNCH(mlp_backward_kernel, blocks_for(tiles.blocks() + others.blocks(), 1), kThreads, for_columns_bytes(), stream(),
         tiles, h, a, slopes, activations, sums, db1, others);
  const auto operand = [&](const Hidden& m) {
    return rounded ? Operands::rounded(m.rounded, hidden) : Operand{m.fp32, CUDA_R_32F, hidden, 0, false};
  };
  add_weight_gradient(second, gradient, operand(activations), dw2);
  if (dx != nullptr) multiply(product(rows, first.in, hidden, operand(slopes), one, dx, add));
  add_weight_gradient(first, operand(slopes), in, dw1);
}

}  // namespace entangle::gpu
