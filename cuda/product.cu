// Plain matrix products by cuBLASLt, with the bias in their epilogue; by cuBLAS where cuBLASLt has no kernel.
//
// Math. C_i = op(A_i) op(B_i), or +=, then + bias_i on every row.
// Shapes. op(A) [m, k], op(B) [k, n], C [m, n], bias [n]; row-major, any row stride.
// Preconditions. A and B of one type, fp32 or bf16; bias fp32, C too or rounded to bf16. No bias when adding or rounding.
// Launch. One kernel of the library's choice. cuBLAS is column-major, and a row-major matrix read so is its transpose:
// it computes C^T = op(B)^T op(A)^T, in which a bias for each column of C is one for each row. The library's GELU
// epilogue is of no use here: it computes the tanh approximation. The choice depends on the shapes and on the alignment
// of all addresses and strides; it is made once for each combination and kept. Without a kernel for them (odd bf16
// strides), the bias is written into C first, blocks of kThreads over kPerBlock elements of a row, and cuBLAS adds.
// Numerics. fp32 sums, no TF32. Reductions of a split k go through the workspace in a fixed order.
#include "cuda/product.h"

#include <cublasLt.h>

#include <array>
#include <map>

#include "cuda/device.cuh"

namespace entangle::gpu {

namespace {

int to_int(int64_t size) {
  CHECK(size <= 0x7fffffff, "a matrix product with a size of ", size,
        " is more than cuBLAS takes; use a smaller batch");
  return static_cast<int>(size);
}

// The largest power of two up to 256 that divides an address and the strides behind it, in bytes.
uint32_t alignment_of(const void* data, int64_t row_bytes, int64_t batch_bytes) {
  const uint64_t bits =
      reinterpret_cast<uintptr_t>(data) | static_cast<uint64_t>(row_bytes) | static_cast<uint64_t>(batch_bytes) | 256;
  return static_cast<uint32_t>(bits & (~bits + 1));
}
uint32_t alignment_of(const Operand& o) { return alignment_of(o.data, o.row * o.element(), o.batch * o.element()); }

uint32_t alignment_of_result(const Product& p) {
  return alignment_of(p.c, p.c_row * p.c_element(), p.c_batch * p.c_element());
}

// The largest when there is none.
uint32_t alignment_of_bias(const Product& p) { return alignment_of(p.bias, 0, p.bias_batch * 4); }

// Everything that the choice of a kernel depends on.
using Key = std::array<int64_t, 20>;
Key key_of(const Product& p) {
  return {p.batch,
          p.m,
          p.n,
          p.k,
          p.a.type,
          p.a.row,
          p.a.batch,
          p.a.transposed,
          p.b.row,
          p.b.batch,
          p.b.transposed,
          p.c_row,
          p.c_batch,
          p.add,
          p.rounded,
          p.bias != nullptr ? p.bias_batch : -1,
          alignment_of(p.a),
          alignment_of(p.b),
          alignment_of_result(p),
          alignment_of_bias(p)};
}

template <class T>
void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, T value) {
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value));
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

// A column-major batch of matrices [rows, columns].
cublasLtMatrixLayout_t layout(cudaDataType type, int64_t rows, int64_t columns, int64_t stride, int64_t batch,
                              int64_t batch_stride) {
  cublasLtMatrixLayout_t made;
  CUBLAS_CHECK(
      cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), stride));
  const int32_t count = to_int(batch);
  CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
  CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride,
                                                sizeof batch_stride));
  return made;
}
// A row-major operand [rows, columns] before transposing, so a column-major one [columns, rows].
cublasLtMatrixLayout_t layout(const Operand& o, int64_t rows, int64_t columns, int64_t batch) {
  return o.transposed ? layout(o.type, rows, columns, o.row, batch, o.batch)
                      : layout(o.type, columns, rows, o.row, batch, o.batch);
}

// cuBLASLt's descriptions of one product and the kernel it chose; kept until the process ends.
struct Plan {
  cublasLtMatmulDesc_t description;
  cublasLtMatrixLayout_t first, second, result;  // B^T, A^T and C^T
  cublasLtMatmulAlgo_t algorithm;
  bool found;
};

bool choose_algorithm(const Product& p, Plan& plan) {
  cublasLtMatmulPreference_t preference;
  CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
  // The bias is promised to be as aligned as the result: there is no attribute of its own.
  const uint32_t result = alignment_of_result(p), bias = alignment_of_bias(p);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(blas_workspace().bytes));
  // Parts of a sum that is cut are kept in fp32, in the workspace, and added in order; not in C, which may be bf16.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, result);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bias < result ? bias : result);
  cublasLtMatmulHeuristicResult_t choice = {};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      blas_lt(), plan.description, plan.first, plan.second, plan.result, plan.result, preference, 1, &choice, &count);
  CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
  plan.algorithm = choice.algo;
  return status == CUBLAS_STATUS_SUCCESS && count > 0;
}

Plan make_plan(const Product& p) {
  Plan plan;
  CUBLAS_CHECK(cublasLtMatmulDescCreate(&plan.description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const auto operation = [](const Operand& o) { return o.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set(plan.description, CUBLASLT_MATMUL_DESC_TRANSA, operation(p.b));
  set(plan.description, CUBLASLT_MATMUL_DESC_TRANSB, operation(p.a));
  if (p.bias != nullptr) {
    set(plan.description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, p.bias_batch);
  }
  plan.first = layout(p.b, p.k, p.n, p.batch);
  plan.second = layout(p.a, p.m, p.k, p.batch);
  plan.result = layout(p.c_type(), p.n, p.m, p.c_row, p.batch, p.c_batch);
  plan.found = choose_algorithm(p, plan);
  return plan;
}

const Plan& plan_of(const Product& p) {
  static std::map<Key, Plan>* const plans = new std::map<Key, Plan>;
  const Key key = key_of(p);
  const auto found = plans->find(key);
  return found != plans->end() ? found->second : plans->emplace(key, make_plan(p)).first->second;
}

__global__ void bias_kernel(int64_t rows, int64_t columns, const float* bias, float* c, int64_t c_row) {
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    for_elements(columns, [=](int64_t j) { c[r * c_row + j] = bias[j]; });
  }
}

void multiply_by_cublas(const Product& p) {
  for (int64_t i = 0; p.bias != nullptr && i < p.batch; ++i) {
    LAUNCH(bias_kernel, image_grid(p.n, p.m), kThreads, 0, stream(), p.m, p.n, p.bias + i * p.bias_batch,
           static_cast<float*>(p.c) + i * p.c_batch, p.c_row);
  }
  const float one = 1, beta = p.add || p.bias != nullptr ? 1 : 0;
  const auto operation = [](const Operand& o) { return o.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  CUBLAS_CHECK(cublasGemmStridedBatchedEx(blas(), operation(p.b), operation(p.a), to_int(p.n), to_int(p.m), to_int(p.k),
                                          &one, p.b.data, p.b.type, to_int(p.b.row), p.b.batch, p.a.data, p.a.type,
                                          to_int(p.a.row), p.a.batch, &beta, p.c, p.c_type(), to_int(p.c_row),
                                          p.c_batch, to_int(p.batch), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

}  // namespace

void multiply(const Product& p) {
  if (p.m == 0 || p.n == 0) return;
  CHECK(p.bias == nullptr || !p.add, "a product is added to what has its bias already");
  CHECK(p.bias == nullptr || !p.rounded, "a product with a bias is fp32");
  if (launch_facts != nullptr) launch_facts->push_back({"product by cuBLAS", 0, 0});
  const Plan& plan = plan_of(p);
  if (!plan.found) return multiply_by_cublas(p);
  if (p.bias != nullptr) set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  const float one = 1, beta = p.add ? 1 : 0;
  CUBLAS_CHECK(cublasLtMatmul(blas_lt(), plan.description, &one, p.b.data, plan.first, p.a.data, plan.second, &beta,
                              p.c, plan.result, p.c, plan.result, &plan.algorithm, blas_workspace().memory,
                              blas_workspace().bytes, stream()));
}

}  // namespace entangle::gpu
