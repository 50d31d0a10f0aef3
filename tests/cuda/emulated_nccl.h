// What tests of the emulated NCCL are made of.
#pragma once

#if defined(ENTANGLE_CUDA_EMULATED)

#include <vector>

#include "cuda/emulator/nccl.h"
#include "tests/cuda/emulated.h"

namespace entangle::gpu {

#define NCCL_CHECK(call)                                                               \
  do {                                                                                 \
    const ncclResult_t nccl_result_ = (call);                                          \
    CHECK(nccl_result_ == ncclSuccess, #call, ": ", ncclGetErrorString(nccl_result_)); \
  } while (false)

inline ncclUniqueId new_id() {
  ncclUniqueId id;
  NCCL_CHECK(ncclGetUniqueId(&id));
  return id;
}

// Device memory of any type.
template <class T>
class Memory {
 public:
  explicit Memory(const std::vector<T>& values) : size_(values.size()) {
    CUDA_CHECK(cudaMalloc(&data_, bytes()));
    CUDA_CHECK(cudaMemcpyAsync(data_, values.data(), bytes(), cudaMemcpyHostToDevice, stream()));
    CUDA_CHECK(cudaStreamSynchronize(stream()));
  }
  explicit Memory(size_t size) : size_(size) { CUDA_CHECK(cudaMalloc(&data_, bytes())); }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  T* data() const { return static_cast<T*>(data_); }
  size_t bytes() const { return size_ * sizeof(T); }
  std::vector<T> values() const {
    std::vector<T> values(size_);
    CUDA_CHECK(cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream()));
    return values;
  }

 private:
  size_t size_;
  void* data_ = nullptr;
};

}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
