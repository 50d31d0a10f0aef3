// What tests of the emulated NCCL are made of.
#pragma once

#if defined(ENTANGLE_CUDA_EMULATED)

#include <memory>
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

// Ranks that this thread drives, each with a stream.
class Ranks {
 public:
  explicit Ranks(int count) : communicators_(static_cast<size_t>(count)), streams_(static_cast<size_t>(count)) {
    const ncclUniqueId id = new_id();
    NCCL_CHECK(ncclGroupStart());
    for (int rank = 0; rank < count; ++rank) {
      NCCL_CHECK(ncclCommInitRank(&communicators_[static_cast<size_t>(rank)], count, id, rank));
      CUDA_CHECK(cudaStreamCreateWithFlags(&streams_[static_cast<size_t>(rank)], cudaStreamNonBlocking));
    }
    NCCL_CHECK(ncclGroupEnd());
  }
  ~Ranks() {
    for (const cudaStream_t stream : streams_) cudaStreamDestroy(stream);
    for (const ncclComm_t comm : communicators_) ncclCommDestroy(comm);
  }
  int count() const { return static_cast<int>(streams_.size()); }
  ncclComm_t comm(int rank) const { return communicators_[static_cast<size_t>(rank)]; }
  cudaStream_t stream_of(int rank) const { return streams_[static_cast<size_t>(rank)]; }
  // Calls call(rank, communicator, stream) for all ranks as one group, and waits.
  template <class F>
  void all(const F& call) const {
    NCCL_CHECK(ncclGroupStart());
    for (int rank = 0; rank < count(); ++rank) NCCL_CHECK(call(rank, comm(rank), stream_of(rank)));
    NCCL_CHECK(ncclGroupEnd());
    CUDA_CHECK(cudaDeviceSynchronize());
  }

 private:
  std::vector<ncclComm_t> communicators_;
  std::vector<cudaStream_t> streams_;
};

// Of each rank.
template <class T>
using Parts = std::vector<std::unique_ptr<Memory<T>>>;

}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
