// The emulated cuBLAS and cuBLASLt: check what the real ones check, and that the matrices lie in device memory; then
// three loops.
#include "cuda/emulator/cublasLt.h"
#include "cuda/emulator/cublas_v2.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/emulator/memory.h"
#include "cuda/emulator/streams.h"
#include "engine/check.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
};
struct cublasLtContext {};
struct cublasLtMatmulDescription {
  cublasOperation_t op_a = CUBLAS_OP_N, op_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const float* bias = nullptr;
  int64_t bias_stride = 0;
};
struct cublasLtMatrixLayout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t ld, stride = 0;
  int32_t batch = 1;
};
struct cublasLtMatmulPreference {
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
  uint64_t workspace = 0;
  uint32_t reduction_schemes = 0;
};

namespace entangle::emulator {

namespace {

// A batch of column-major matrices in device memory: [rows, columns], columns at `ld`, matrices at `stride` elements.
struct Matrix {
  const void* data;
  cudaDataType type;
  int rows, columns, ld;
  long long stride;

  size_t element() const { return type == CUDA_R_16BF ? 2 : 4; }
  const char* address_of(int i, int j, int batch) const {
    return static_cast<const char*>(data) + (batch * stride + static_cast<long long>(j) * ld + i) * element();
  }
  float at(int i, int j, int batch) const {
    const char* address = address_of(i, j, batch);
    uint32_t bits = 0;
    if (type == CUDA_R_16BF) {
      uint16_t half;
      std::memcpy(&half, address, sizeof half);
      bits = static_cast<uint32_t>(half) << 16;
    } else {
      std::memcpy(&bits, address, sizeof bits);
    }
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  void set(int i, int j, int batch, float value) const {
    char* address = const_cast<char*>(address_of(i, j, batch));
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (type == CUDA_R_16BF) {
      const uint16_t half = static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
      std::memcpy(address, &half, sizeof half);
    } else {
      std::memcpy(address, &bits, sizeof bits);
    }
  }
  size_t column_bytes() const { return static_cast<size_t>(rows) * element(); }
  // Tells of an element that it reads though nobody wrote it, or an empty string.
  std::string unwritten(const char* call, const char* name, int batch) const {
    for (int b = 0; b < batch; ++b) {
      for (int j = 0; j < columns; ++j) {
        if (is_written(address_of(0, j, b), column_bytes())) continue;
        return concat(call, ": reads what nobody has written: column ", j, " of ", name, ", matrix ", b, ", in ",
                      find_allocation(data)->str());
      }
    }
    return "";
  }
  // What is wrong with it as one of `batch` matrices, or an empty string.
  std::string fault(const char* call, const char* name, int batch) const {
    if (rows == 0 || columns == 0) return "";
    const Allocation* allocation = find_allocation(data);
    if (allocation == nullptr) return concat(call, ": ", name, " is no device memory");
    const long long last = (batch - 1) * stride + static_cast<long long>(columns - 1) * ld + rows;
    const char* end = static_cast<const char*>(data) + last * static_cast<long long>(element());
    if (end <= allocation->data + allocation->bytes) return "";
    return concat(call, ": ", name, " leaves ", allocation->str());
  }
};

struct Product {
  bool transpose_a, transpose_b;
  int m, n, k, batch;
  float alpha, beta;
  Matrix a, b, c;
  Matrix bias = {};  // [m, 1], or without rows

  std::string unwritten(const char* call) const {
    std::string fault = a.unwritten(call, "A", batch);
    if (fault.empty()) fault = b.unwritten(call, "B", batch);
    if (fault.empty()) fault = bias.unwritten(call, "the bias", batch);
    return fault.empty() && beta != 0 ? c.unwritten(call, "C", batch) : fault;
  }

  // One column of C at a time, with op(A) gathered once so that the inner loop runs over adjacent numbers.
  void run() const {
    std::vector<float> columns(static_cast<size_t>(m) * static_cast<size_t>(k)), sums(static_cast<size_t>(m));
    for (int batch_index = 0; batch_index < batch; ++batch_index) {
      for (int p = 0; p < k; ++p) {
        for (int i = 0; i < m; ++i) {
          columns[static_cast<size_t>(p) * m + i] = transpose_a ? a.at(p, i, batch_index) : a.at(i, p, batch_index);
        }
      }
      for (int j = 0; j < n; ++j) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int p = 0; p < k; ++p) {
          const float factor = transpose_b ? b.at(j, p, batch_index) : b.at(p, j, batch_index);
          const float* column = columns.data() + static_cast<size_t>(p) * m;
          for (int i = 0; i < m; ++i) sums[i] += column[i] * factor;
        }
        for (int i = 0; i < m; ++i) {
          const float before = beta == 0 ? 0 : beta * c.at(i, j, batch_index);
          const float after = bias.rows > 0 ? bias.at(i, 0, batch_index) : 0;
          c.set(i, j, batch_index, alpha * sums[i] + before + after);
        }
        note_written(c.address_of(0, j, batch_index), c.column_bytes());
      }
    }
  }
};

// Queues a product whose sizes are right.
cublasStatus_t queue(const char* call, const Product& product, cudaStream_t stream) {
  if (product.m == 0 || product.n == 0 || product.batch == 0) return CUBLAS_STATUS_SUCCESS;
  std::vector<Access> accesses;
  for (const auto& [name, matrix] : {std::pair("C", product.c), std::pair("A", product.a), std::pair("B", product.b),
                                     std::pair("the bias", product.bias)}) {
    const std::string fault = matrix.fault(call, name, product.batch);
    if (!fault.empty()) {
      report_fault(fault);
      return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    if (matrix.rows > 0 && matrix.columns > 0) {
      accesses.push_back({find_allocation(matrix.data)->id, accesses.empty()});
    }
  }
  const cudaError_t status = enqueue(stream, call, accesses, [product, call] {
    std::string fault = product.unwritten(call);
    if (fault.empty()) product.run();
    return fault;
  });
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

bool valid(const Product& p) {
  return p.m >= 0 && p.n >= 0 && p.k >= 0 && p.batch >= 0 && p.a.ld >= std::max(1, p.a.rows) &&
         p.b.ld >= std::max(1, p.b.rows) && p.c.ld >= std::max(1, p.m) && p.a.type == p.b.type;
}

// Copies an attribute's value; false when its size is another one.
template <class T>
bool take(T& to, const void* value, size_t bytes) {
  if (bytes != sizeof to) return false;
  std::memcpy(&to, value, sizeof to);
  return true;
}

cublasStatus_t status_of(bool taken) { return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE; }

Matrix matrix_of(const void* data, const cublasLtMatrixLayout& l) {
  return {data, l.type, static_cast<int>(l.rows), static_cast<int>(l.columns), static_cast<int>(l.ld), l.stride};
}

bool aligned(const Matrix& matrix, uint32_t alignment) {
  const uint64_t bits = reinterpret_cast<uintptr_t>(matrix.data) | matrix.ld * matrix.element() |
                        static_cast<uint64_t>(matrix.stride) * matrix.element();
  return bits % alignment == 0;
}

}  // namespace
}  // namespace entangle::emulator

using namespace entangle::emulator;

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the functionality is not supported";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return cudaGetErrorString(cudaErrorLaunchFailure);
  }
  return "unknown status";
}

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void* workspace, size_t) {
  return find_allocation(workspace) != nullptr ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                          int n, int k, const void* alpha, const void* a, cudaDataType type_a, int lda,
                                          long long stride_a, const void* b, cudaDataType type_b, int ldb,
                                          long long stride_b, const void* beta, void* c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch, cublasComputeType_t, cublasGemmAlgo_t) {
  const bool ta = op_a == CUBLAS_OP_T, tb = op_b == CUBLAS_OP_T;
  const Product product = {ta,
                           tb,
                           m,
                           n,
                           k,
                           batch,
                           *static_cast<const float*>(alpha),
                           *static_cast<const float*>(beta),
                           {a, type_a, ta ? k : m, ta ? m : k, lda, stride_a},
                           {b, type_b, tb ? n : k, tb ? k : n, ldb, stride_b},
                           {c, type_c, m, n, ldc, stride_c}};
  return valid(product) ? queue("cublasGemmStridedBatchedEx", product, handle->stream) : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t, cudaDataType) {
  *description = new cublasLtMatmulDescription;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return status_of(take(d->op_a, value, bytes));
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return status_of(take(d->op_b, value, bytes));
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return status_of(take(d->epilogue, value, bytes));
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return status_of(take(d->bias, value, bytes));
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return status_of(take(d->bias_stride, value, bytes));
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  *layout = new cublasLtMatrixLayout{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return status_of(take(layout->batch, value, bytes));
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return status_of(take(layout->stride, value, bytes));
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return status_of(take(p->reduction_schemes, value, bytes));
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return status_of(take(p->workspace, value, bytes));
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return status_of(take(p->alignment_a, value, bytes));
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return status_of(take(p->alignment_b, value, bytes));
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return status_of(take(p->alignment_c, value, bytes));
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return status_of(take(p->alignment_d, value, bytes));
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  *count = 0;
  if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const bool tensor_cores = a->type == CUDA_R_16BF || b->type == CUDA_R_16BF;
  if (tensor_cores && std::min(preference->alignment_a, preference->alignment_b) < 16)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0].algo = {
      {preference->alignment_a, preference->alignment_b, std::min(preference->alignment_c, preference->alignment_d)}};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t layout_c, void* result,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t, cudaStream_t stream) {
  const bool ta = d->op_a == CUBLAS_OP_T, tb = d->op_b == CUBLAS_OP_T;
  const int m = static_cast<int>(layout_d->rows), n = static_cast<int>(layout_d->columns);
  Product product = {ta,
                     tb,
                     m,
                     n,
                     static_cast<int>(ta ? layout_a->rows : layout_a->columns),
                     layout_d->batch,
                     *static_cast<const float*>(alpha),
                     *static_cast<const float*>(beta),
                     matrix_of(a, *layout_a),
                     matrix_of(b, *layout_b),
                     matrix_of(result, *layout_d)};
  if (d->epilogue == CUBLASLT_EPILOGUE_BIAS) product.bias = {d->bias, CUDA_R_32F, m, 1, std::max(1, m), d->bias_stride};
  const bool sizes = static_cast<int>(ta ? layout_a->columns : layout_a->rows) == m &&
                     static_cast<int>(tb ? layout_b->rows : layout_b->columns) == n &&
                     static_cast<int>(tb ? layout_b->columns : layout_b->rows) == product.k;
  const bool batches = layout_a->batch == layout_d->batch && layout_b->batch == layout_d->batch;
  if (!sizes || !batches || layout_c != layout_d || c != result || !valid(product) ||
      find_allocation(workspace) == nullptr) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!aligned(product.a, algorithm->alignment[0]) || !aligned(product.b, algorithm->alignment[1]) ||
      !aligned(product.c, algorithm->alignment[2])) {
    report_fault("cublasLtMatmul: a matrix is less aligned than it was promised to be when the algorithm was chosen");
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  return queue("cublasLtMatmul", product, stream);
}
