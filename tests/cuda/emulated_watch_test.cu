// The emulated device watches loads and stores: races, words that nobody wrote and accesses that go astray are planted
// in kernels here, on shared memory, and must be reported with kernel, block, threads and lines; those on device memory are
// in emulated_memory_test.cu. AddressSanitizer has its own reports,
// and what is left to the emulator beside it is tested at the end.
#if defined(ENTANGLE_CUDA_EMULATED)

#include <cmath>

#include "cuda/bf16.cuh"
#include "tests/cuda/emulated.h"

namespace entangle::gpu {
namespace {

constexpr int kThreadsHere = 64;

constexpr int kReverse = __LINE__;
// Reverses 64 numbers through shared memory.
template <bool kBarrier>
__global__ void reverse_kernel(const float* x, float* y) {
  Shared shared;
  float* copy = shared.take<float>(kThreadsHere);
  copy[threadIdx.x] = x[blockIdx.x * kThreadsHere + threadIdx.x];
  if (kBarrier) __syncthreads();
  y[blockIdx.x * kThreadsHere + threadIdx.x] = copy[kThreadsHere - 1 - threadIdx.x];
}

std::vector<float> reversed(void (*kernel)(const float*, float*)) {
  std::vector<float> x(2 * kThreadsHere);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const Tensor in = Tensor::from({2 * kThreadsHere}, x, DeviceKind::cuda), out = device_zeros(2 * kThreadsHere);
  LAUNCH_AS("reverse", kernel, 2, kThreadsHere, shared_bytes<float>(kThreadsHere), stream(), in.data(), out.data());
  return values_of(out);
}

#if !defined(__SANITIZE_ADDRESS__)

std::string line(int number) { return concat(" at tests/cuda/emulated_watch_test.cu:", number); }

// ------------------------------------------------------------------------------------------------------ shared memory

TEST_F(Emulator, MissingBarrierIsARaceInEveryOrder) {
  const std::string block[] = {"block (0, 0, 0)", "block (1, 0, 0)", "block ("};
  for (const emulator::Order order : emulator::kOrders) {
    emulator::set_order(order, 7);
    const std::string fault = fault_of([] { reversed(reverse_kernel<false>); });
    expect_words(fault, {"kernel 'reverse', " + block[static_cast<int>(order)], "thread (", ": race on byte ",
                         "of piece 0 of 256 bytes of shared memory", " writes" + line(kReverse + 6),
                         " reads" + line(kReverse + 8), "no barrier orders them"});
  }
  EXPECT_EQ(reversed(reverse_kernel<true>)[0], 63);
}

TEST_F(Emulator, RaceNamesBothThreads) {
  expect_words(fault_of([] { reversed(reverse_kernel<false>); }),
               {"block (0, 0, 0), thread (32, 0, 0): race on byte 128 of", "; thread (31, 0, 0) reads at"});
}

constexpr int kReuse = __LINE__;
// A place of shared memory is used again without a barrier between the last reader and the next writer.
template <bool kBarrier>
__global__ void reuse_kernel(float* out) {
  Shared shared;
  float* scratch = shared.take<float>(1);
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    if (static_cast<int>(threadIdx.x) == 40 * (round % 2)) scratch[0] = static_cast<float>(round);
    __syncthreads();
    sum += scratch[0];
    if (kBarrier) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

TEST_F(Emulator, WriteAfterReadsIsARace) {
  const Tensor out = device_zeros(kThreadsHere);
  const auto run = [&](void (*kernel)(float*)) {
    return fault_of([&] { LAUNCH_AS("reuse", kernel, 1, kThreadsHere, shared_bytes<float>(1), stream(), out.data()); });
  };
  EXPECT_EQ(run(reuse_kernel<true>), "");
  for (const emulator::Order order : emulator::kOrders) {
    emulator::set_order(order, 3);
    expect_words(run(reuse_kernel<false>), {"kernel 'reuse'", "race on byte 0 of piece 0 of 4 bytes",
                                            " writes" + line(kReuse + 8), " reads" + line(kReuse + 10)});
  }
}

// The lanes of a warp hand numbers to their neighbours through shared memory, ordered by what `order` does.
template <class Order>
__global__ void neighbour_kernel(float* out, Order order) {
  Shared shared;
  float* copy = shared.take<float>(kWarp);
  copy[lane_index()] = static_cast<float>(lane_index());
  order();
  out[lane_index()] = copy[(lane_index() + 1) % kWarp];
}

template <class Order>
std::string fault_of_neighbours(Order order) {
  const Tensor out = device_zeros(kWarp);
  return fault_of([&] {
    LAUNCH_AS("neighbour", neighbour_kernel<Order>, 1, kWarp, shared_bytes<float>(kWarp), stream(), out.data(), order);
  });
}

TEST_F(Emulator, LanesAreOrderedBySyncwarpAlone) {
  EXPECT_EQ(fault_of_neighbours([] { __syncwarp(); }), "");
  const std::vector<std::string> race = {"kernel 'neighbour', block (0, 0, 0), thread (", ": race on byte "};
  expect_words(fault_of_neighbours([] {}), race);
  // A shuffle waits for all lanes, but promises nothing about memory.
  expect_words(fault_of_neighbours([] { warp_sum(1.0f); }), race);
  expect_words(fault_of_neighbours([] { static_cast<void>(__any_sync(kAllLanes, true)); }), race);
}

TEST_F(Emulator, SyncwarpOrdersTheLanesOfItsMask) {
  // Halves: lane 15 reads what lane 16 wrote, lane 31 what lane 0 did.
  const std::string halves = fault_of_neighbours([] { __syncwarp(lane_index() < 16 ? 0xffffu : 0xffff0000u); });
  expect_words(halves, {"race on byte 64 of piece 0", "thread (16, 0, 0)", "thread (15, 0, 0)"});
  // All lanes meet, in two steps: the upper half with lane 0, then the lower half with it.
  EXPECT_EQ(fault_of_neighbours([] {
              if (lane_index() >= 16 || lane_index() == 0) __syncwarp(0xffff0001u);
              if (lane_index() < 16) __syncwarp(0x0000ffffu);
              if (lane_index() >= 16 || lane_index() == 0) __syncwarp(0xffff0001u);
            }),
            "");
}

// Every warp meets, but not the block, before one reads what the other wrote.
__global__ void two_warps_kernel(float* out) {
  Shared shared;
  float* copy = shared.take<float>(kThreadsHere);
  copy[threadIdx.x] = 1;
  __syncwarp();
  out[threadIdx.x] = copy[threadIdx.x ^ kWarp];
}

TEST_F(Emulator, SyncwarpOrdersNoOtherWarp) {
  const Tensor out = device_zeros(kThreadsHere);
  expect_words(fault_of([&] {
                 LAUNCH(two_warps_kernel, 1, kThreadsHere, shared_bytes<float>(kThreadsHere), stream(), out.data());
               }),
               {"kernel 'two_warps_kernel', block (0, 0, 0), thread (32, 0, 0): race on byte 128", "reads at"});
  emulator::set_order(emulator::Order::descending);
  expect_words(fault_of([&] {
                 LAUNCH(two_warps_kernel, 1, kThreadsHere, shared_bytes<float>(kThreadsHere), stream(), out.data());
               }),
               {"race on byte", "no barrier orders them"});
}

// One lane writes again what the lanes of two warps read; only the other warp's reads are not ordered before it.
__global__ void other_warp_reads_kernel(float* out) {
  Shared shared;
  float* one = shared.take<float>(1);
  if (threadIdx.x == 0) one[0] = 1;
  __syncthreads();
  out[threadIdx.x] = one[0];
  __syncwarp();
  if (threadIdx.x == kThreadsHere - 1) one[0] = 2;
}

TEST_F(Emulator, ReadersOfTheOtherWarpAreNotForgotten) {
  const Tensor out = device_zeros(kThreadsHere);
  for (const emulator::Order order : emulator::kOrders) {
    emulator::set_order(order);
    expect_words(
        fault_of(
            [&] { LAUNCH(other_warp_reads_kernel, 1, kThreadsHere, shared_bytes<float>(1), stream(), out.data()); }),
        {"kernel 'other_warp_reads_kernel', block (0, 0, 0)", "race on byte 0 of piece 0", "writes at", "reads at"});
  }
}

// Neighbours write halves of one word; then each reads a word of two halves.
template <bool kBarrier>
__global__ void halves_kernel(float* out) {
  Shared shared;
  bf16* halves = shared.take<bf16>(2 * kWarp);
  halves[threadIdx.x] = to_bf16(static_cast<float>(threadIdx.x));
  if (kBarrier) __syncthreads();
  const uint32_t word = reinterpret_cast<const uint32_t*>(halves)[threadIdx.x / 2];
  out[threadIdx.x] = to_float({static_cast<uint16_t>(threadIdx.x % 2 == 0 ? word : word >> 16)});
}

TEST_F(Emulator, NeighboursMayWriteHalvesOfAWord) {
  const Tensor out = device_zeros(kThreadsHere);
  const auto run = [&](void (*kernel)(float*)) {
    LAUNCH_AS("halves", kernel, 1, kThreadsHere, shared_bytes<bf16>(2 * kWarp), stream(), out.data());
  };
  run(halves_kernel<true>);
  EXPECT_EQ(values_of(out)[37], 37);
  expect_words(fault_of([&] { run(halves_kernel<false>); }),
               {"kernel 'halves', block (0, 0, 0), thread (1, 0, 0): race on byte 2 of piece 0 of 128 bytes",
                "thread (0, 0, 0) reads at"});
}

__global__ void unwritten_shared_kernel(float* out) {
  Shared shared;
  float* copy = shared.take<float>(kThreadsHere);
  if (threadIdx.x != 5) copy[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = copy[threadIdx.x];
}

TEST_F(Emulator, ReadOfSharedMemoryThatNobodyWrote) {
  const Tensor out = device_zeros(kThreadsHere);
  const std::string fault = fault_of([&] {
    LAUNCH(unwritten_shared_kernel, 1, kThreadsHere, shared_bytes<float>(kThreadsHere), stream(), out.data());
  });
  expect_words(fault, {"kernel 'unwritten_shared_kernel', block (0, 0, 0), thread (5, 0, 0): reads what nobody has "
                       "written: byte 20 of piece 0 of 256 bytes of shared memory",
                       "emulated_watch_test.cu:"});
}

// What one block wrote, the next does not find.
__global__ void left_over_kernel(float* out) {
  Shared shared;
  float* copy = shared.take<float>(1);
  if (blockIdx.x == 0) copy[0] = 1;
  out[blockIdx.x] = copy[0];
}

TEST_F(Emulator, SharedMemoryOfAnotherBlockIsNotWritten) {
  const Tensor out = device_zeros(2);
  expect_words(fault_of([&] { LAUNCH(left_over_kernel, 2, 1, shared_bytes<float>(1), stream(), out.data()); }),
               {"block (1, 0, 0), thread (0, 0, 0): reads what nobody has written"});
}

constexpr int kOverrun = __LINE__;
__global__ void shared_overrun_kernel(float* out) {
  Shared shared;
  float* first = shared.take<float>(kThreadsHere);
  float* second = shared.take<float>(kThreadsHere);
  first[threadIdx.x] = 1;
  second[threadIdx.x] = 2;
  if (threadIdx.x == 33 && blockIdx.x == 1) first[kThreadsHere] = 3;
  __syncthreads();
  out[threadIdx.x + blockIdx.x * kThreadsHere] = first[threadIdx.x] + second[threadIdx.x];
}

TEST_F(Emulator, OverrunOfSharedMemory) {
  const Tensor out = device_zeros(2 * kThreadsHere);
  const std::string fault = fault_of([&] {
    LAUNCH(shared_overrun_kernel, 2, kThreadsHere, 2 * shared_bytes<float>(kThreadsHere), stream(), out.data());
  });
  expect_words(fault, {"kernel 'shared_overrun_kernel', block (1, 0, 0), thread (33, 0, 0): overrun of shared memory: ",
                       "4 bytes at byte 256, behind the end of piece 0 of 256 bytes", "writes" + line(kOverrun + 7)});
}

#else

// --------------------------------------------------------------------------------------- with AddressSanitizer instead

// Every thread adds to the same number.
__global__ void add_to_one_kernel(float* sum) {
  const float before = sum[0];
  __syncwarp();
  sum[0] = before + static_cast<float>(threadIdx.x);
}

std::vector<float> added_to_one() {
  const Tensor sum = device_zeros(1);
  LAUNCH(add_to_one_kernel, 1, kWarp, 0, stream(), sum.data());
  return values_of(sum);
}

TEST_F(Emulator, MissingBarrierShowsAsNaNAndAsOrderDependence) {
  const std::vector<float> wrong = reversed(reverse_kernel<false>);
  EXPECT_TRUE(std::isnan(wrong[0])) << "thread 0 reads what thread 63 has not written: shared memory is poisoned";
  const std::string difference = emulator::compare_orders("reverse", [] { return reversed(reverse_kernel<false>); });
  expect_words(difference, {"reverse: element ", "ascending"});
  EXPECT_EQ(emulator::compare_orders("reverse", [] { return reversed(reverse_kernel<true>); }), "");
}

TEST_F(Emulator, RaceIsOrderDependent) {
  expect_words(emulator::compare_orders("race", added_to_one), {"race: element 0 is 31 with threads ascending"});
}

#endif

TEST_F(Emulator, OrdersAreCompared) {
  const auto run = [] { return std::vector<float>{1, emulator::order() == emulator::Order::shuffled ? 2.0f : 3.0f}; };
  EXPECT_EQ(emulator::compare_orders("f", run), "f: element 1 is 3 with threads ascending, 2 with threads shuffled");
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
