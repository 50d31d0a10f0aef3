// Linear layers on strided weight slices: plain products by cuBLAS, bias and its gradient by hand.
//
// Math. y[r, g*O + o] = sum_i x[r, i] w[g, o, i] + b[g, o];
//   dx[r, i] = sum_go dy[r, g*O + o] w[g, o, i];  dw[g, o, i] += sum_r dy[r, g*O + o] x[r, i];
//   db[g, o] += sum_r dy[r, g*O + o].
// Shapes. x, dx [rows, in]; w, dw [groups, out, in], rows w_row and groups w_group apart; b, db [groups, out], groups
// b_group apart, or null; y, dy [rows, groups*out].
// Preconditions. w_row >= in. dw and db hold gradients; dx does when `add`. Any alignment.
// Launch. The groups of y and of dw are one strided batch, since they lie out columns, or w_group elements, apart;
// those of dx are added one after another. The bias is written into y first and the product added to it. db: grid
// (tiles of 32 columns, chunks of rows), a lane owns a column and the warps take rows in turn, then their sums meet in
// shared memory (one number a thread); a last kernel adds the chunks.
// Numerics. fp32 products and sums (no TF32); cuBLAS gives the same bits for the same shapes on one stream with a
// workspace of its own. db: chunks that depend on the shape only, added in ascending order: the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

constexpr int64_t kMostChunks = 128, kLeastRows = 32;  // of the sums over rows

// A batch of row-major matrices: rows `row` elements apart, matrices `batch` elements apart; read transposed or not.
struct Operand {
  const float* data;
  int64_t row, batch;
  bool transposed;
};

int to_int(int64_t size) {
  CHECK(size <= 0x7fffffff, "a matrix product with a size of ", size,
        " is more than cuBLAS takes; use a smaller batch");
  return static_cast<int>(size);
}

// C_i = op(A_i) op(B_i), or += with `add`; op(A) [m, k], op(B) [k, n], C [m, n], all row-major. cuBLAS is column-major,
// and a row-major matrix read so is its transpose: it computes C^T = op(B)^T op(A)^T.
void multiply(int64_t batch, int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b, float* c,
              int64_t c_row, int64_t c_batch, bool add) {
  if (m == 0 || n == 0) return;
  const float one = 1, beta = add ? 1 : 0;
  const auto operation = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  CUBLAS_CHECK(cublasGemmStridedBatchedEx(
      blas(), operation(b.transposed), operation(a.transposed), to_int(n), to_int(m), to_int(k), &one, b.data,
      CUDA_R_32F, to_int(b.row), b.batch, a.data, CUDA_R_32F, to_int(a.row), a.batch, &beta, c, CUDA_R_32F,
      to_int(c_row), c_batch, to_int(batch), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

// The row stride of w; that of a single row is never used, and cuBLAS wants it to hold a row.
int64_t weight_row(const LinearShape& s) { return s.out == 1 ? at_least(s.in, s.w_row) : s.w_row; }

__global__ void linear_bias_kernel(LinearShape s, const float* b, float* y) {
  const int64_t columns = s.groups * s.out;
  for (int64_t r = blockIdx.y; r < s.rows; r += gridDim.y) {
    for_elements(columns, [=](int64_t j) { y[r * columns + j] = b[j / s.out * s.b_group + j % s.out]; });
  }
}

__global__ void linear_bias_partial_kernel(int64_t rows, int64_t columns, int64_t per_chunk, const float* dy,
                                           float* partial) {
  Shared shared;
  float* sums = shared.take<float>(kThreads);
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kWarp + lane_index();
  const int64_t first = blockIdx.y * per_chunk, last = first + per_chunk < rows ? first + per_chunk : rows;
  float sum = 0;
  for (int64_t r = first + warp_index(); r < last && j < columns; r += warps_in_block()) sum += dy[r * columns + j];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp_index() > 0 || j >= columns) return;
  for (int warp = 1; warp < warps_in_block(); ++warp) sum += sums[warp * kWarp + lane_index()];
  partial[blockIdx.y * columns + j] = sum;
}

__global__ void linear_bias_reduce_kernel(LinearShape s, int64_t chunks, const float* partial, float* db) {
  const int64_t columns = s.groups * s.out, j = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j >= columns) return;
  float sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[chunk * columns + j];
  db[j / s.out * s.b_group + j % s.out] += sum;
}

void add_bias_gradient(const LinearShape& s, const float* dy, float* db) {
  const int64_t columns = s.groups * s.out, per_chunk = at_least(kLeastRows, (s.rows + kMostChunks - 1) / kMostChunks);
  const unsigned chunks = blocks_for(s.rows, per_chunk);
  const Workspace<float> partial(chunks * columns);
  LAUNCH(linear_bias_partial_kernel, dim3(blocks_for(columns, kWarp), chunks), kThreads, shared_bytes<float>(kThreads),
         stream(), s.rows, columns, per_chunk, dy, partial.data());
  LAUNCH(linear_bias_reduce_kernel, blocks_for(columns, kThreads), kThreads, 0, stream(), s, chunks, partial.data(),
         db);
}

}  // namespace

void linear_forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  const int64_t columns = s.groups * s.out;
  if (b != nullptr) {
    LAUNCH(linear_bias_kernel, image_grid(columns, s.rows), kThreads, 0, stream(), s, b, y);
  }
  multiply(s.groups, s.rows, s.out, s.in, {x, s.in, 0, false}, {w, weight_row(s), s.w_group, true}, y, columns, s.out,
           b != nullptr);
}

void linear_backward_input(const LinearShape& s, const float* dy, const float* w, float* dx, bool add) {
  const int64_t columns = s.groups * s.out;
  for (int64_t g = 0; g < s.groups; ++g) {
    multiply(1, s.rows, s.in, s.out, {dy + g * s.out, columns, 0, false}, {w + g * s.w_group, weight_row(s), 0, false},
             dx, s.in, 0, add || g > 0);
  }
}

void linear_backward_weight(const LinearShape& s, const float* x, const float* dy, float* dw, float* db) {
  if (s.rows == 0) return;
  const int64_t columns = s.groups * s.out;
  multiply(s.groups, s.out, s.in, s.rows, {dy, columns, s.out, true}, {x, s.in, 0, false}, dw, weight_row(s), s.w_group,
           true);
  if (db != nullptr) add_bias_gradient(s, dy, db);
}

}  // namespace entangle::gpu
