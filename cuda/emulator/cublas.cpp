// The emulated cuBLAS: checks what the real one checks, and that the matrices lie in device memory; then three loops.
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
  std::string unwritten(const char* name, int batch) const {
    for (int b = 0; b < batch; ++b) {
      for (int j = 0; j < columns; ++j) {
        if (is_written(address_of(0, j, b), column_bytes())) continue;
        return concat("cublasGemmStridedBatchedEx: reads what nobody has written: column ", j, " of ", name,
                      ", matrix ", b, ", in ", find_allocation(data)->str());
      }
    }
    return "";
  }
  // What is wrong with it as one of `batch` matrices, or an empty string.
  std::string fault(const char* name, int batch) const {
    if (rows == 0 || columns == 0) return "";
    const Allocation* allocation = find_allocation(data);
    if (allocation == nullptr) return concat("cublasGemmStridedBatchedEx: ", name, " is no device memory");
    const long long last = (batch - 1) * stride + static_cast<long long>(columns - 1) * ld + rows;
    const char* end = static_cast<const char*>(data) + last * static_cast<long long>(element());
    if (end <= allocation->data + allocation->bytes) return "";
    return concat("cublasGemmStridedBatchedEx: ", name, " leaves ", allocation->str());
  }
};

struct Product {
  bool transpose_a, transpose_b;
  int m, n, k, batch;
  float alpha, beta;
  Matrix a, b, c;

  std::string unwritten() const {
    std::string fault = a.unwritten("A", batch);
    if (fault.empty()) fault = b.unwritten("B", batch);
    return fault.empty() && beta != 0 ? c.unwritten("C", batch) : fault;
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
          c.set(i, j, batch_index, alpha * sums[i] + before);
        }
        note_written(c.address_of(0, j, batch_index), c.column_bytes());
      }
    }
  }
};

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
  const bool valid = m >= 0 && n >= 0 && k >= 0 && batch >= 0 && lda >= std::max(1, product.a.rows) &&
                     ldb >= std::max(1, product.b.rows) && ldc >= std::max(1, m) && type_a == type_b;
  if (!valid) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
  for (const auto& [name, matrix] : {std::pair("A", product.a), std::pair("B", product.b), std::pair("C", product.c)}) {
    const std::string fault = matrix.fault(name, batch);
    if (fault.empty()) continue;
    report_fault(fault);
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  std::vector<Access> accesses = {{find_allocation(c)->id, true}};
  for (const Matrix* matrix : {&product.a, &product.b}) {
    if (matrix->rows > 0 && matrix->columns > 0) accesses.push_back({find_allocation(matrix->data)->id, false});
  }
  const cudaError_t status = enqueue(handle->stream, "cublasGemmStridedBatchedEx", accesses, [product] {
    std::string fault = product.unwritten();
    if (fault.empty()) product.run();
    return fault;
  });
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
