// The device in use, for host code: its stream, its cuBLAS handle, scratch memory.
//
// All work goes to one stream, so memory that is given back may be handed out again at once: whoever gets it works
// after whoever had it. Only an Upload (engine/device.h) writes from another stream, into memory that it keeps.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "engine/check.h"
#include "engine/memory.h"

namespace entangle::gpu {

cudaStream_t stream();
cublasHandle_t blas();
cublasLtHandle_t blas_lt();
// Given to both libraries, so that they allocate nothing and stay repeatable.
struct BlasWorkspace {
  void* memory;
  size_t bytes;
};
BlasWorkspace blas_workspace();
// Counts for blocks that wait for none but add up what the others wrote (block_sums.cuh): `count` zeros, which every kernel
// leaves as zeros.
unsigned* arrivals(int64_t count);
// Largest shared memory of a block, in bytes.
size_t shared_memory_limit();

// Device memory for the kernels of one call; holds nothing.
template <class T>
class Workspace {
 public:
  explicit Workspace(int64_t count)
      : data_(static_cast<T*>(allocate(static_cast<size_t>(count) * sizeof(T), DeviceKind::cuda))) {}
  ~Workspace() { deallocate(data_, DeviceKind::cuda); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

// CUBLAS_CHECK(call): throws Error with the library's words unless the call succeeded.
#define CUBLAS_CHECK(call)                                                                          \
  do {                                                                                              \
    const cublasStatus_t blas_status_ = (call);                                                     \
    CHECK(blas_status_ == CUBLAS_STATUS_SUCCESS, #call, ": ", cublasGetStatusString(blas_status_)); \
  } while (false)

}  // namespace entangle::gpu
