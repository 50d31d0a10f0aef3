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

// A matrix of hidden activations, fp32 or bf16.
template <class T>
struct Hidden {
  T* data;
  int64_t row;

  __device__ float at(int64_t r, int64_t c) const { return load_number(data + r * row + c); }
  __device__ void put(int64_t r, int64_t c, float value) const { store_number(value, data + r * row + c); }
  Operand operand() const { return {data, sizeof(T) == 2 ? CUDA_R_16BF : CUDA_R_32F, row, 0, false}; }
};

// Loads in flight: 32 bytes' worth a lane.
template <class T>
constexpr int kInFlight = static_cast<int>(32 / sizeof(T));

// What is missing in the column of h that the lane has; bias: null when h has it.
__device__ inline float missing_bias(const RowTiles& tiles, const float* bias) {
  const int64_t c = column_of(tiles, blockIdx.x);
  return bias != nullptr && c < tiles.width ? bias[c] : 0.0f;
}

template <class T>
__global__ void mlp_forward_kernel(RowTiles tiles, Hidden<T> h, const float* bias, Hidden<T> a) {
  const float missing = missing_bias(tiles, bias);
  for_columns<kInFlight<T>>(
      tiles, blockIdx.x, ColumnSums(), [=](int64_t r, int64_t c) { return h.at(r, c); },
      [=](int64_t r, int64_t c, float before) {
        const float x = before + missing;
        a.put(r, c, x * normal_distribution(x).cumulative);
        return 0.0f;
      },
      [](int64_t, float) {});
}

// a may be da, and dh h.
template <class T>
__global__ void mlp_backward_kernel(RowTiles tiles, Hidden<T> h, const float* bias, Hidden<T> da, Hidden<T> dh,
                                    Hidden<T> a, ColumnSums sums, float* db, const __grid_constant__ Sweeps others) {
  if (blockIdx.x >= tiles.blocks()) return run_sweeps(others, blockIdx.x - tiles.blocks());
  const float missing = missing_bias(tiles, bias);
  struct Pair {
    float h, da;
  };
  for_columns<kInFlight<T> / 2>(
      tiles, blockIdx.x, sums,
      [=](int64_t r, int64_t c) {
        return Pair{h.at(r, c), da.at(r, c)};
      },
      [=](int64_t r, int64_t c, const Pair& before) {
        const float x = before.h + missing;
        const NormalDistribution normal = normal_distribution(x);
        const float slope = before.da * (normal.cumulative + x * normal.density);
        dh.put(r, c, slope);
        a.put(r, c, x * normal.cumulative);
        return slope;
      },
      [=](int64_t c, float sum) { db[c] += sum; });
}

// C = A B.
Product product(int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b, float* c) {
  return {1, m, n, k, a, b, c, n, 0};
}
template <class T>
Product product(int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b, const Hidden<T>& c) {
  Product p = {1, m, n, k, a, b, c.data, c.row, 0};
  p.rounded = sizeof(T) == 2;
  return p;
}

// dw += dy^T x.
void add_weight_gradient(const LinearShape& s, const Operand& dy, const Operand& x, float* dw) {
  multiply({1, s.out, s.in, s.rows, dy.transpose(), x, dw, weight_matrix(s, dw).row, 0, true});
}

// In memory for fp32, which has room for padded rows of bf16 unless they are very short.
template <class T>
Hidden<T> hidden_in(float* memory, int64_t width) {
  const int64_t padded = sizeof(T) == 2 ? Operands::padded_row(width) : width;
  return {reinterpret_cast<T*>(memory), padded <= 2 * width ? padded : width};
}
// As products read it.
Hidden<bf16> room_for(Operands& operands, int64_t rows, int64_t width) {
  return {operands.room(rows, width), Operands::padded_row(width)};
}

// x w1^T, with its bias in fp32.
template <class T>
void multiply_first(const LinearShape& s, const Operand& x, const Operand& w1, const float* b1, const Hidden<T>& h) {
  Product p = product(s.rows, s.out, s.in, x, w1.transpose(), h);
  if (sizeof(T) == 4) p.bias = b1;
  multiply(p);
}

template <class T>
void launch_forward(int64_t rows, int64_t width, const Hidden<T>& h, const float* b1, const Hidden<T>& a) {
  const RowTiles tiles(rows, width);
  LAUNCH_AS("mlp_forward_kernel", mlp_forward_kernel<T>, blocks_for(tiles.blocks(), 1), kThreads, for_columns_bytes(),
            stream(), tiles, h, sizeof(T) == 2 ? b1 : nullptr, a);
}

template <class T>
void launch_backward(Operands& operands, int64_t rows, int64_t width, const Hidden<T>& h, const float* b1,
                     const Hidden<T>& da, const Hidden<T>& dh, const Hidden<T>& a, float* db1) {
  const RowTiles tiles(rows, width);
  const ColumnSums sums = operands.sums(tiles);
  const Sweeps others = operands.take_sweeps();
  LAUNCH_AS("mlp_backward_kernel", mlp_backward_kernel<T>, blocks_for(tiles.blocks() + others.blocks(), 1), kThreads,
            for_columns_bytes(), stream(), tiles, h, sizeof(T) == 2 ? b1 : nullptr, da, dh, a, sums, db1, others);
}

}  // namespace

void mlp_forward(const LinearShape& first, const LinearShape& second, const float* x, const float* w1, const float* b1,
                 const float* w2, const float* b2, float* h, float* y) {
  const int64_t rows = first.rows, hidden = first.out;
  Operands operands(first.precision);
  const Operand in = operands.read(contiguous(x, rows, first.in));
  const Operand one = operands.read(weight_matrix(first, w1)), two = operands.read(weight_matrix(second, w2));
  operands.prepare();
  const bool rounded = first.precision == Precision::bf16;
  const Workspace<float> unkept(h == nullptr ? rows * hidden : 0), plain(rounded ? 0 : rows * hidden);
  float* const before = h == nullptr ? unkept.data() : h;
  Operand activations = {};
  const auto between = [&](auto hidden_before, auto a) {
    multiply_first(first, in, one, b1, hidden_before);
    launch_forward(rows, hidden, hidden_before, b1, a);
    activations = a.operand();
  };
  if (rounded) {
    between(hidden_in<bf16>(before, hidden), room_for(operands, rows, hidden));
  } else {
    between(hidden_in<float>(before, hidden), hidden_in<float>(plain.data(), hidden));
  }
  Product p = product(rows, second.out, hidden, activations, two.transpose(), y);
  p.bias = b2;
  multiply(p);
}

void mlp_backward(const LinearShape& first, const LinearShape& second, bool recompute, const float* x, const float* w1,
                  const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx, bool add,
                  float* dw1, float* db1, float* dw2, float* db2) {
  const int64_t rows = first.rows, hidden = first.out;
  if (rows == 0) return;
  Operands operands(first.precision);
  const Operand gradient = operands.read(contiguous(dy, rows, second.out), {db2, second.out, 0});
  const Operand one = operands.read(weight_matrix(first, w1)), two = operands.read(weight_matrix(second, w2));
  const Operand in = operands.read(contiguous(x, rows, first.in));
  const bool rounded = first.precision == Precision::bf16;
  if (rounded) operands.prepare();
  Operand slopes = {}, activations = {};
  const auto between = [&](auto before, auto da, auto dh, auto after) {
    if (recompute) multiply_first(first, in, one, b1, before);
    multiply(product(rows, hidden, second.out, gradient, two, da));
    launch_backward(operands, rows, hidden, before, b1, da, dh, after, db1);
    slopes = dh.operand();
    activations = after.operand();
  };
  if (rounded) {
    between(hidden_in<bf16>(h, hidden), hidden_in<bf16>(a, hidden), room_for(operands, rows, hidden),
            room_for(operands, rows, hidden));
  } else {
    const Hidden<float> before = hidden_in<float>(h, hidden), da = hidden_in<float>(a, hidden);
    between(before, da, before, da);
  }
  add_weight_gradient(second, gradient, activations, dw2);
  if (dx != nullptr) {
    Product p = product(rows, first.in, hidden, slopes, one, dx);
    p.add = add;
    multiply(p);
  }
  add_weight_gradient(first, slopes, in, dw1);
}

}  // namespace entangle::gpu
