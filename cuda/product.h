// Plain matrix products on the device, by cuBLAS.
#pragma once

#include <cublas_v2.h>
#include <stdint.h>

namespace entangle::gpu {

// A batch of row-major matrices: rows `row` elements apart, matrices `batch` elements apart; read transposed or not.
struct Operand {
  const void* data;
  cudaDataType type;  // CUDA_R_32F or CUDA_R_16BF
  int64_t row, batch;
  bool transposed;

  int64_t element() const { return type == CUDA_R_16BF ? 2 : 4; }
  Operand transpose() const { return {data, type, row, batch, !transposed}; }
  // The same rows from another element on.
  Operand from(int64_t offset) const {
    return {static_cast<const char*>(data) + offset * element(), type, row, batch, transposed};
  }
};

// C_i = op(A_i) op(B_i), or += with `add`, and then + bias_i on every row: op(A) [m, k], op(B) [k, n], C [m, n] in fp32,
// bias [n] or null (then without `add`). A and B have one type. Sums are fp32, products of fp32 are not rounded to TF32.
// `rounded`: C is bf16, to which the sums are rounded at the end; without a bias. Any alignment. The same bits for the same
// shapes and alignments.
struct Product {
  int64_t batch, m, n, k;
  Operand a, b;
  void* c;
  int64_t c_row, c_batch;
  bool add = false;
  const float* bias = nullptr;
  int64_t bias_batch = 0;
  bool rounded = false;

  cudaDataType c_type() const { return rounded ? CUDA_R_16BF : CUDA_R_32F; }
  int64_t c_element() const { return rounded ? 2 : 4; }
};
void multiply(const Product& product);

}  // namespace entangle::gpu
