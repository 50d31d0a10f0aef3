// The emulated NCCL: communicators that do not block, and what ends them when a rank is lost.
#if defined(ENTANGLE_CUDA_EMULATED)

#include "tests/cuda/emulated_nccl.h"

namespace entangle::gpu {
namespace {

TEST_F(Emulator, ACommunicatorThatDoesNotBlock) {
  ncclComm_t first = nullptr, second = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclUniqueId id = new_id();
  ncclResult_t state = ncclSuccess;
  EXPECT_EQ(ncclCommInitRankConfig(&first, 2, id, 0, &config), ncclInProgress);
  EXPECT_EQ(ncclCommGetAsyncError(first, &state), ncclSuccess);
  EXPECT_EQ(state, ncclInProgress);
  EXPECT_EQ(ncclCommInitRankConfig(&second, 2, id, 1, &config), ncclSuccess);
  EXPECT_EQ(ncclCommGetAsyncError(first, &state), ncclSuccess);
  EXPECT_EQ(state, ncclSuccess);
  EXPECT_EQ(ncclCommDestroy(first), ncclSuccess);
  EXPECT_EQ(ncclCommDestroy(second), ncclSuccess);
}

TEST_F(Emulator, AbortEndsWhatWaitsForOthers) {
  ncclComm_t first = nullptr, second = nullptr;
  const ncclUniqueId id = new_id();
  NCCL_CHECK(ncclGroupStart());
  NCCL_CHECK(ncclCommInitRank(&first, 2, id, 0));
  NCCL_CHECK(ncclCommInitRank(&second, 2, id, 1));
  NCCL_CHECK(ncclGroupEnd());
  const Memory<float> own({1, 2});
  cudaEvent_t event = nullptr;
  CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  NCCL_CHECK(ncclGroupStart());
  NCCL_CHECK(ncclAllReduce(own.data(), own.data(), 2, ncclFloat, ncclSum, first, stream()));
  NCCL_CHECK(ncclGroupEnd());
  CUDA_CHECK(cudaEventRecord(event, stream()));
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(ncclCommAbort(first), ncclSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(own.values(), (std::vector<float>{1, 2}));
  EXPECT_EQ(ncclCommAbort(first), ncclInvalidArgument);
  EXPECT_EQ(ncclCommDestroy(second), ncclSuccess);
  cudaEventDestroy(event);
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
