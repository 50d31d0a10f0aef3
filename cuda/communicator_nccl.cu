// The communicator over NCCL: sums of numbers in device memory, on a stream of their own.
//
// Math: sums over the ranks; arrays that two ranks swap. Shapes: arrays of n numbers. Preconditions: each rank has a GPU of
// its own.
// Launch: NCCL's kernels, on a stream that waits for what start_sum() comes after, and that the device's stream waits for in
// finish_sums(). The host waits for none of them but in settle_sums(), with patience: a rank that is lost leaves NCCL's
// kernels waiting without end, and with them whatever is launched behind them, until the communicator is aborted.
// Numerics: fp32, or bf16 of which every addition is rounded (engine/gradient_exchange.h); NCCL chooses the order by size and
// topology: the same bits on all ranks, and on a rerun.
#include "engine/communicator_nccl.h"

#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device.cuh"
#include "engine/check.h"
#include "engine/patience.h"

#if defined(ENTANGLE_NCCL)

#include <nccl.h>

#if defined(ENTANGLE_CUDA_EMULATED)
#include "cuda/emulator/emulator.h"
#endif

namespace entangle {
namespace {

using gpu::raise_cuda;

#define NCCL_CHECK(call)                                                               \
  do {                                                                                 \
    const ncclResult_t nccl_result_ = (call);                                          \
    CHECK(nccl_result_ == ncclSuccess, #call, ": ", ncclGetErrorString(nccl_result_)); \
  } while (false)

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, const CommunicatorOptions& options)
      : Communicator(host->rank(), host->size()), host_(std::move(host)), options_(options) {
    gpu::stream();  // the device is open
    check_own_gpus();
    CUDA_CHECK(cudaStreamCreateWithFlags(&sums_, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
#if defined(ENTANGLE_CUDA_EMULATED)
    emulator::device_model().patience = options_.timeout;
#endif
    ncclUniqueId id = {};
    if (first()) NCCL_CHECK(ncclGetUniqueId(&id));
    id = host_->gather(id)[0];
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;  // so that a rank that is lost now is noticed
    const ncclResult_t begun = ncclCommInitRankConfig(&communicator_, size(), id, rank(), &config);
    finish_call("ncclCommInitRank", begun);
  }

  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() > 0) abort();
    try {
      if (communicator_ != nullptr) finish_call("ncclCommFinalize", ncclCommFinalize(communicator_));
    } catch (const Error&) {
      // Nothing is summed any more.
    }
    if (communicator_ != nullptr) ncclCommDestroy(communicator_);
    cudaStreamDestroy(sums_);
    cudaEventDestroy(ready_);
    cudaEventDestroy(done_);
  }

  DeviceKind device() const override { return DeviceKind::cuda; }

  using Communicator::gather;
  void gather(const void* own, size_t bytes, void* all) override {
#if defined(ENTANGLE_CUDA_EMULATED)
    // An emulated device runs while its host waits for it alone, and other ranks' sums wait for this one's.
    CUDA_CHECK(cudaEventRecord(done_, sums_));
    settle_sums();
#endif
    or_abort([&] { host_->gather(own, bytes, all); });
  }

  void start_sum(float* values, int64_t count) override { start_sum_of(values, count, ncclFloat); }
  void start_sum(uint16_t* values, int64_t count) override { start_sum_of(values, count, ncclBfloat16); }

  void finish_sums() override {
    CUDA_CHECK(cudaEventRecord(done_, sums_));
    CUDA_CHECK(cudaStreamWaitEvent(gpu::stream(), done_, 0));
  }

  void settle_sums() override {
    or_abort([&] {
      Patience patience(options_);
      while (true) {
        const cudaError_t status = cudaEventQuery(done_);
        if (status == cudaSuccess) return;
        if (status != cudaErrorNotReady) raise_cuda("the sum of the gradients", status, __FILE__, __LINE__);
        check_alive();
        CHECK(!patience.over(), "a rank is lost or hangs in the sum of the gradients", no_answer_within(options_));
        patience.rest();
      }
    });
  }

  void swap(int other, const float* own, float* others, int64_t count) override {
    go_after_launches();
    const size_t n = static_cast<size_t>(count);
    NCCL_CHECK(ncclGroupStart());
    NCCL_CHECK(ncclSend(own, n, ncclFloat, other, communicator_, sums_));
    NCCL_CHECK(ncclRecv(others, n, ncclFloat, other, communicator_, sums_));
    finish_call("ncclSend and ncclRecv", ncclGroupEnd());
    finish_sums();
  }

 private:
  // What the stream of sums gets from now on comes after what was launched.
  void go_after_launches() {
    CUDA_CHECK(cudaEventRecord(ready_, gpu::stream()));
    CUDA_CHECK(cudaStreamWaitEvent(sums_, ready_, 0));
  }

  void start_sum_of(void* values, int64_t count, ncclDataType_t type) {
    go_after_launches();
    finish_call("ncclAllReduce",
                ncclAllReduce(values, values, static_cast<size_t>(count), type, ncclSum, communicator_, sums_));
  }

  // NCCL would hang, or say little.
  void check_own_gpus() {
    int index = 0;
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDevice(&index));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
    const auto all = host_->gather(properties.uuid);
    for (int rank = 0; rank < size(); ++rank) {
      for (int other = 0; other < rank; ++other) {
        const bool same =
            std::memcmp(&all[static_cast<size_t>(rank)], &all[static_cast<size_t>(other)], sizeof properties.uuid) == 0;
        CHECK(!same, "ranks ", other, " and ", rank,
              " use the same GPU: start as many processes on a machine as it has "
              "GPUs, with --device cuda");
      }
    }
  }

  // A call that has not ended when it returns ends here.
  void finish_call(const char* what, ncclResult_t result) {
    or_abort([&] {
      Patience patience(options_);
      while (result == ncclInProgress) {
        NCCL_CHECK(ncclCommGetAsyncError(communicator_, &result));
        CHECK(result != ncclInProgress || !patience.over(), "a rank is lost or hangs in ", what,
              no_answer_within(options_));
        if (result == ncclInProgress) patience.rest();
      }
      CHECK(result == ncclSuccess, what, ": ", ncclGetErrorString(result));
    });
  }

  void check_alive() {
    ncclResult_t result = ncclSuccess;
    NCCL_CHECK(ncclCommGetAsyncError(communicator_, &result));
    CHECK(result == ncclSuccess || result == ncclInProgress,
          "a rank is lost in the sum of the gradients: ", ncclGetErrorString(result));
  }

  template <class Action>
  void or_abort(const Action& action) {
    try {
      action();
    } catch (...) {
      abort();
      throw;
    }
  }

  // Ends NCCL's kernels, so that waiting for the device ends, too.
  void abort() {
    if (communicator_ != nullptr) ncclCommAbort(communicator_);
    communicator_ = nullptr;
  }

  const std::unique_ptr<Communicator> host_;
  const CommunicatorOptions options_;
  ncclComm_t communicator_ = nullptr;
  cudaStream_t sums_ = nullptr;
  cudaEvent_t ready_ = nullptr;  // what is to be summed is there
  cudaEvent_t done_ = nullptr;   // the sums are
};

}  // namespace

std::unique_ptr<Communicator> join_gpus(std::unique_ptr<Communicator> host, const CommunicatorOptions& options) {
  return std::make_unique<NcclCommunicator>(std::move(host), options);
}

}  // namespace entangle

#else

namespace entangle {

std::unique_ptr<Communicator> join_gpus(std::unique_ptr<Communicator>, const CommunicatorOptions&) {
  RAISE(
      "this build has no NCCL, over which GPUs train together: install it (libnccl-dev) and build again, or use "
      "--device cpu");
}

}  // namespace entangle

#endif  // ENTANGLE_NCCL
