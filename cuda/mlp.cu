// Two linear layers with GELU between them, forward and backward.
//
// Math. h = x w1^T + b1, a = gelu(h), y = a w2^T + b2;
//   da = dy w2,  dh = da gelu'(h),  dx = dh w1,  dw2 += dy^T a,  dw1 += dh^T x,  db2, db1 += column sums of dy, dh.
// Shapes. x, dx [rows, in]; h, a [rows, hidden]; y, dy [rows, out]; weights as in linear.cu.
// Preconditions. Gradients of weights hold gradients; dx does when `add`; dx may be null. Forward, h may be null: it is
// not kept. In bf16 what h holds is x w1^T, rounded: half of its memory.
// Launch. Products (product.cu), and between them one sweep over the hidden activations, a block for a tile of 32 columns
// of a chunk of rows (row_sums.cuh); a product of this size does not leave them in a cache, so there is nothing to gain
// from smaller pieces. Forward 8 bytes an element. Backward, the sweep makes dh and a of h and da, and sums db1: 16 bytes an
// element. In bf16 all of these are bf16, half of the bytes. Its grid also has the blocks that sum db2, which in bf16 the
// kernel that rounds dy has done.
// Numerics. Those of linear.cu and gelu.cu; in bf16, h and da are rounded, too, where the products leave them. The bias is
// added behind that, in fp32.
#include "cuda/normal.cuh"
#include "cuda/operands.cuh"

namespace entangle::gpu {

namespace {

// A matrix [rows, width] of hidden activations, in one of two forms.
struct Hidden {
  float* fp32;
  bf16* rounded;
  int64_t row;

  __device__ float at(int64_t r, int64_t c) const {
    return fp32 != nullptr ? fp32[r * row + c] : to_float(rounded[r * row + c]);
  }
  __device__ void put(int64_t r, int64_t c, float value) const {
    if (fp32 != nullptr) {
      fp32[r * row + c] = value;
    } else {
      rounded[r * row + c] = to_bf16(value);
    }
  }
  Operand operand() const {
    return fp32 != nullptr ? Operand{fp32, CUDA_R_32F, row, 0, false} : Operand{rounded, CUDA_R_16BF, row, 0, false};
  }
  void* data() const { return fp32 != nullptr ? static_cast<void*>(fp32) : rounded; }
};

// bias: null when h has it.
__global__ void mlp_forward_kernel(RowTiles tiles, Hidden h, const float* bias, Hidden a) {
  const auto value = [=](int64_t r, int64_t c) {
    const float x = h.at(r, c) + (bias == nullptr ? 0.0f : bias[c]);
    a.put(r, c, x * normal_distribution(x).cumulative);
    return 0.0f;
  };
  for_columns(tiles, blockIdx.x, ColumnSums(), value, [](int64_t, float) {});
}

// a may be da, and dh h.
__global__ void mlp_backward_kernel(RowTiles tiles, Hidden h, const float* bias, Hidden da, Hidden dh, Hidden a,
                                    ColumnSums sums, float* db, const __grid_constant__ Sweeps others) {
  if (blockIdx.x >= tiles.blocks()) return run_sweeps(others, blockIdx.x - tiles.blocks());
  const auto value = [=](int64_t r, int64_t c) {
    const float x = h.at(r, c) + (bias == nullptr ? 0.0f : bias[c]), gradient = da.at(r, c);
    const NormalDistribution normal = normal_distribution(x);
    const float slope = gradient * (normal.cumulative + x * normal.density);
    dh.put(r, c, slope);
    a.put(r, c, x * normal.cumulative);
    return slope;
  };
  for_columns(tiles, blockIdx.x, sums, value, [=](int64_t c, float sum) { db[c] += sum; });
}

// C = A B; `rounded` as in Product.
Product product(int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b, void* c, bool rounded) {
  Product p = {1, m, n, k, a, b, c, n, 0};
  p.rounded = rounded;
  return p;
}

// In memory for fp32; what products leave there need not be aligned as what they read.
Hidden hidden_in(float* memory, bool rounded, int64_t width) {
  return rounded ? Hidden{nullptr, reinterpret_cast<bf16*>(memory), width} : Hidden{memory, nullptr, width};
}
Hidden rounded_hidden(Operands& operands, int64_t rows, int64_t width) {
  return {nullptr, operands.room(rows, width), Operands::padded_row(width)};
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
  const Workspace<float> unkept(h == nullptr ? rows * hidden : 0), plain(rounded ? 0 : rows * hidden);
  const Hidden before = hidden_in(h == nullptr ? unkept.data() : h, rounded, hidden);
  Product p = product(rows, hidden, first.in, in, one.transpose(), before.data(), rounded);
  if (!rounded) p.bias = b1;
  multiply(p);
  const Hidden a = rounded ? rounded_hidden(operands, rows, hidden) : hidden_in(plain.data(), false, hidden);
  const RowTiles tiles(rows, hidden);
  LAUNCH(mlp_forward_kernel, blocks_for(tiles.blocks(), 1), kThreads, for_columns_bytes(), stream(), tiles, before,
         rounded ? b1 : nullptr, a);
  p = product(rows, second.out, hidden, a.operand(), two.transpose(), y, false);
  p.bias = b2;
  multiply(p);
}

void mlp_backward(const LinearShape& first, const LinearShape& second, bool recompute, const float* x, const float* w1,
                  const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx, bool add,
                  float* dw1, float* db1, float* dw2, float* db2) {
  const int64_t rows = first.rows, hidden = first.out;
  if (rows == 0) return;
  const bool rounded = first.precision == Precision::bf16;
  Operands operands(first.precision);
  const Operand gradient = operands.read(contiguous(dy, rows, second.out), {db2, second.out, 0});
  const Operand one = operands.read(weight_matrix(first, w1)), two = operands.read(weight_matrix(second, w2));
  const Operand in = operands.read(contiguous(x, rows, first.in));
  if (rounded) operands.prepare();
  const Hidden before = hidden_in(h, rounded, hidden), da = hidden_in(a, rounded, hidden);
  if (recompute) {
    Product p = product(rows, hidden, first.in, in, one.transpose(), before.data(), rounded);
    if (!rounded) p.bias = b1;
    multiply(p);
  }
  multiply(product(rows, hidden, second.out, gradient, two, da.data(), rounded));
  const RowTiles tiles(rows, hidden);
  const Hidden dh = rounded ? rounded_hidden(operands, rows, hidden) : before;
  const Hidden activations = rounded ? rounded_hidden(operands, rows, hidden) : da;
  const ColumnSums sums = operands.sums(tiles);
  const Sweeps others = operands.take_sweeps();
  LAUNCH(mlp_backward_kernel, blocks_for(tiles.blocks() + others.blocks(), 1), kThreads, for_columns_bytes(), stream(),
         tiles, before, rounded ? b1 : nullptr, da, dh, activations, sums, db1, others);
  add_weight_gradient(second, gradient, activations.operand(), dw2);
  if (dx != nullptr) {
    Product p = product(rows, first.in, hidden, dh.operand(), one, dx, false);
    p.add = add;
    multiply(p);
  }
  add_weight_gradient(first, dh.operand(), in, dw1);
}

}  // namespace entangle::gpu
