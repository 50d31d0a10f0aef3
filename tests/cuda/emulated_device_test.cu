// The emulated device finds faults of barriers, sizes, streams and events: each is planted here and must be reported
// with kernel, block and thread. What it finds by watching loads and stores is in emulated_watch_test.cu. The device
// functions of cuda/device.cuh have their test in device_test.cu, which a GPU runs too.
#if defined(ENTANGLE_CUDA_EMULATED)

#include "tests/cuda/emulated.h"

#include <algorithm>
#include <cmath>

namespace entangle::gpu {
namespace {

constexpr int kThreadsHere = 64;

// ----------------------------------------------------------------------------------------------- divergent barriers

__global__ void divergent_barrier_kernel(float* out) {
  if (threadIdx.x < 40) __syncthreads();
  out[threadIdx.x] = 1;
}

TEST_F(Emulator, DivergentBarrierSaysWhoArrived) {
  const Tensor out = device_zeros(kThreadsHere);
  const std::string fault =
      fault_of([&] { LAUNCH(divergent_barrier_kernel, 3, kThreadsHere, 0, stream(), out.data()); });
  expect_words(fault,
               {"kernel 'divergent_barrier_kernel'", "block (0, 0, 0)", "barrier divergence",
                "threads 0 to 39 wait at __syncthreads", "emulated_device_test.cu:", "threads 40 to 63 have finished"});
}

__global__ void two_barriers_kernel(float* out) {
  if (threadIdx.x < kWarp) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

TEST_F(Emulator, BarriersOnTwoLinesAreNotOne) {
  const Tensor out = device_zeros(kThreadsHere);
  const std::string fault = fault_of([&] { LAUNCH(two_barriers_kernel, 1, kThreadsHere, 0, stream(), out.data()); });
  expect_words(fault, {"two_barriers_kernel", "barrier divergence", "threads 0 to 31 wait", "threads 32 to 63 wait"});
}

// A sum over the block of which one warp only takes part.
__global__ void one_warp_sum_kernel(const float* x, float* sum) {
  Shared shared;
  float* scratch = shared.take<float>(warps_in_block());
  if (warp_index() == 0) {
    const float total = block_sum(x[threadIdx.x], scratch);
    if (threadIdx.x == 0) sum[0] = total;
  }
}

TEST_F(Emulator, ReductionByOneWarpWhereAllAreNeeded) {
  const Tensor x = device_zeros(kThreadsHere), sum = device_zeros(1);
  const std::string fault = fault_of(
      [&] { LAUNCH(one_warp_sum_kernel, 1, kThreadsHere, shared_bytes<float>(2), stream(), x.data(), sum.data()); });
  expect_words(fault, {"one_warp_sum_kernel", "threads 0 to 31 wait at __syncthreads", "device.cuh",
                       "threads 32 to 63 have finished"});
}

// One warp alone may reduce: the others need not take part in its shuffles.
__global__ void first_warp_kernel(const float* x, float* out) {
  float value = x[threadIdx.x];
  if (warp_index() == 0) value = warp_sum(value);
  __syncthreads();
  out[threadIdx.x] = value;
}

TEST_F(Emulator, WarpReducesWithoutTheOthers) {
  const Tensor x = Tensor::from({kThreadsHere}, std::vector<float>(kThreadsHere, 1.0f), DeviceKind::cuda);
  const Tensor out = device_zeros(kThreadsHere);
  LAUNCH(first_warp_kernel, 1, kThreadsHere, 0, stream(), x.data(), out.data());
  const std::vector<float> values = values_of(out);
  EXPECT_EQ(values[5], 32);
  EXPECT_EQ(values[40], 1);
}

__global__ void half_warp_shuffle_kernel(float* out) {
  float value = 1;
  if (threadIdx.x < 16) value = __shfl_xor_sync(kAllLanes, value, 1);
  out[threadIdx.x] = value;
}

TEST_F(Emulator, ShuffleThatSomeLanesMiss) {
  const Tensor out = device_zeros(kWarp);
  const std::string fault = fault_of([&] { LAUNCH(half_warp_shuffle_kernel, 1, kWarp, 0, stream(), out.data()); });
  expect_words(
      fault, {"half_warp_shuffle_kernel", "threads 0 to 15 wait at __shfl_xor_sync", "threads 16 to 31 have finished"});
}

__global__ void stray_source_kernel(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 16);
}

TEST_F(Emulator, ShuffleFromOutsideOfTheMask) {
  const Tensor out = device_zeros(kWarp);
  const std::string fault = fault_of([&] { LAUNCH(stray_source_kernel, 1, kWarp, 0, stream(), out.data()); });
  expect_words(fault, {"stray_source_kernel", "lane 0 reads from lane 16", "not in the mask"});
}

// ------------------------------------------------------------------------------------------------ sizes and pointers

__global__ void greedy_kernel(float* out) {
  Shared shared;
  float* piece = shared.take<float>(kThreadsHere + 1);
  piece[threadIdx.x] = out[threadIdx.x] = 1;
}

TEST_F(Emulator, MoreSharedMemoryThanWasLaunchedWith) {
  const Tensor out = device_zeros(kThreadsHere);
  const std::string fault = fault_of(
      [&] { LAUNCH(greedy_kernel, 1, kThreadsHere, shared_bytes<float>(kThreadsHere), stream(), out.data()); });
  expect_words(fault, {"greedy_kernel", "takes 272 bytes of shared memory, launched with 256"});
}

TEST_F(Emulator, HostMemoryIsNoDeviceMemory) {
  const Tensor on_host = Tensor::zeros({kThreadsHere});
  const std::string fault = fault_of(
      [&] { LAUNCH(greedy_kernel, 1, kThreadsHere, shared_bytes<float>(kThreadsHere + 1), stream(), on_host.data()); });
  expect_words(fault, {"greedy_kernel", "pointer argument 0 is no device memory"});
  const Tensor on_device = device_zeros(4);
  float host[8] = {};
  expect_words(fault_of([&] {
                 CUDA_CHECK(cudaMemcpyAsync(host, on_device.data(), sizeof host, cudaMemcpyDeviceToHost, stream()));
               }),
               {"32 bytes from byte 0 leave", "16 bytes"});
}

__global__ void copy_kernel(int n, const float* from, float* to) {
  if (threadIdx.x < static_cast<unsigned>(n)) to[threadIdx.x] = from[threadIdx.x];
}

TEST_F(Emulator, LaunchThatTheDeviceRefuses) {
  const Tensor out = device_zeros(8);
  expect_words(fault_of([&] { LAUNCH(copy_kernel, 1, 2048, 0, stream(), 8, out.data(), out.data()); }),
               {"copy_kernel", "2048 threads"});
  expect_words(fault_of([&] { LAUNCH(copy_kernel, 1, 32, 1 << 20, stream(), 8, out.data(), out.data()); }),
               {"copy_kernel", "1048576 bytes of shared memory"});
  expect_words(fault_of([&] { LAUNCH(copy_kernel, dim3(1, 70000), 32, 0, stream(), 8, out.data(), out.data()); }),
               {"copy_kernel", "65535"});
}

// ---------------------------------------------------------------------------------------------------- streams, events

// b is written from a on one stream and read into c on another.
std::string pass_between_streams(bool with_event) {
  const Tensor a = Tensor::from({4}, {1, 2, 3, 4}, DeviceKind::cuda), b = device_zeros(4), c = device_zeros(4);
  synchronize(DeviceKind::cuda);
  const TwoStreams streams;
  return fault_of([&] {
    LAUNCH_AS("produce", copy_kernel, 1, kWarp, 0, streams.first, 4, a.data(), b.data());
    if (with_event) {
      CUDA_CHECK(cudaEventRecord(streams.event, streams.first));
      CUDA_CHECK(cudaStreamWaitEvent(streams.second, streams.event));
    }
    LAUNCH_AS("consume", copy_kernel, 1, kWarp, 0, streams.second, 4, b.data(), c.data());
    CUDA_CHECK(cudaStreamSynchronize(streams.second));
    if (!with_event) return;
    EXPECT_EQ(values_of(c), (std::vector<float>{1, 2, 3, 4}));
  });
}

TEST_F(Emulator, MissingEvent) {
  expect_words(pass_between_streams(false),
               {"'consume', operation 1 of stream ", "and 'produce', operation 1 of stream ", "both touch allocation",
                "no event orders them"});
  EXPECT_EQ(pass_between_streams(true), "");
}

TEST_F(Emulator, StreamsTakeTurnsInDifferentOrders) {
  std::vector<std::string> seen;
  for (uint64_t seed = 1; seed < 20; ++seed) {
    emulator::set_order(emulator::Order::ascending, seed);
    const TwoStreams streams;
    float* pinned = nullptr;
    CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&pinned), sizeof(float)));
    *pinned = 1;
    const Tensor a = device_zeros(1), b = device_zeros(1);
    synchronize(DeviceKind::cuda);
    // Two copies to one pinned number: nothing but turns decides which is last.
    const Tensor two = Tensor::from({1}, {2}, DeviceKind::cuda), three = Tensor::from({1}, {3}, DeviceKind::cuda);
    synchronize(DeviceKind::cuda);
    CUDA_CHECK(cudaMemcpyAsync(pinned, two.data(), sizeof(float), cudaMemcpyDeviceToHost, streams.first));
    CUDA_CHECK(cudaMemcpyAsync(pinned, three.data(), sizeof(float), cudaMemcpyDeviceToHost, streams.second));
    EXPECT_EQ(*pinned, 1) << "a copy to pinned memory has not run before the host waits";
    CUDA_CHECK(cudaDeviceSynchronize());
    seen.push_back(std::to_string(*pinned));
    CUDA_CHECK(cudaFreeHost(pinned));
  }
  EXPECT_NE(std::count(seen.begin(), seen.end(), seen[0]), static_cast<int64_t>(seen.size()));
}

TEST_F(Emulator, NullStreamIsRefused) {
  const Tensor out = device_zeros(4);
  expect_words(fault_of([&] { LAUNCH(copy_kernel, 1, kWarp, 0, nullptr, 4, out.data(), out.data()); }),
               {"copy_kernel", "null stream"});
}

// ------------------------------------------------------------------------------------------------- the device's state

TEST_F(Emulator, UnusableDevicesAreNamed) {
  EXPECT_EQ(why_unusable(0), "");
  expect_words(why_unusable(8), {"no GPU number 8", "8 visible"});
  emulator::device_model().driver_version = 0;
  expect_words(why_unusable(0), {"no NVIDIA driver", "--device cpu"});
  emulator::device_model().driver_version = 12040;
  expect_words(why_unusable(0), {"driver is too old", "CUDA 12.4", "needs 13.0"});
  emulator::device_model() = {};
  emulator::device_model().count = 0;
  expect_words(why_unusable(0), {"no usable GPU", "CUDA_VISIBLE_DEVICES"});
  emulator::device_model() = {};
  emulator::device_model().major = 7;
  emulator::device_model().minor = 5;
  expect_words(why_unusable(0), {"too old", "7.5", "8.0"});
}

TEST_F(Emulator, OutOfMemorySaysWhatWasAskedAndWhatIsFree) {
  device_zeros(1);
  size_t free_bytes = 0, total = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total));
  emulator::device_model().memory = total - free_bytes + 1000;
  std::string message;
  try {
    device_zeros(1000);
  } catch (const Error& error) {
    message = error.what();
  }
  expect_words(message, {"out of memory: 4000 bytes wanted", "1000 free on the GPU", "use a smaller batch"});
  EXPECT_EQ(values_of(device_zeros(2)), (std::vector<float>{0, 0})) << "a refusal must leave the device usable";
}

TEST_F(Emulator, FaultStopsEverythingUntilItIsTaken) {
  const Tensor out = device_zeros(kThreadsHere);
  LAUNCH(divergent_barrier_kernel, 1, kThreadsHere, 0, stream(), out.data());
  EXPECT_EQ(cudaStreamSynchronize(stream()), cudaErrorLaunchFailure);
  EXPECT_THROW(device_zeros(3), Error);
  expect_words(emulator::take_fault(), {"divergent_barrier_kernel"});
  EXPECT_EQ(values_of(device_zeros(1))[0], 0);
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
