// The emulated device watches loads and stores of device memory: races, words that nobody wrote and accesses that go
// astray, as emulated_watch_test.cu has them for shared memory.
#if defined(ENTANGLE_CUDA_EMULATED) && !defined(__SANITIZE_ADDRESS__)

#include "cuda/bf16.cuh"
#include "tests/cuda/emulated.h"

namespace entangle::gpu {
namespace {

constexpr int kThreadsHere = 64;

// Every thread adds to the same number.
__global__ void add_to_one_kernel(float* sum) {
  const float before = sum[0];
  __syncwarp();
  sum[0] = before + static_cast<float>(threadIdx.x);
}

TEST_F(Emulator, RaceOnDeviceMemory) {
  const Tensor sum = device_zeros(1);
  expect_words(fault_of([&] { LAUNCH(add_to_one_kernel, 1, kWarp, 0, stream(), sum.data()); }),
               {"kernel 'add_to_one_kernel', block (0, 0, 0), thread (1, 0, 0): race on byte 0 of allocation ",
                " of 4 bytes: writes at tests/cuda/emulated_memory_test.cu:", "; thread (0, 0, 0) writes at"});
}

// Block k writes where block k + 1 does, or reads it.
template <bool kReads>
__global__ void next_block_kernel(float* x, float* y) {
  x[blockIdx.x] = 1;
  if (kReads) {
    y[blockIdx.x] = x[blockIdx.x + 1];
  } else {
    x[blockIdx.x + 1] = 1;
  }
}

TEST_F(Emulator, BlocksAreNotOrdered) {
  const Tensor x = device_zeros(4), y = device_zeros(4);
  const auto run = [&](void (*kernel)(float*, float*)) {
    return fault_of([&] { LAUNCH_AS("next", kernel, 3, 1, 0, stream(), x.data(), y.data()); });
  };
  expect_words(run(next_block_kernel<false>),
               {"kernel 'next', block (1, 0, 0), thread (0, 0, 0): race on byte 4 of", "writes at",
                "; block (0, 0, 0), thread (0, 0, 0) writes at", "no fences and atomic addition order the blocks"});
  expect_words(run(next_block_kernel<true>), {"block (1, 0, 0)", "; block (0, 0, 0), thread (0, 0, 0) reads at"});
  emulator::set_order(emulator::Order::descending);
  expect_words(run(next_block_kernel<true>),
               {"block (1, 0, 0), thread (0, 0, 0): race on byte 8 of", "reads at", "; block (2, 0, 0), thread"});
}

enum class Protocol { right, no_fence_before, no_fence_behind, no_addition, late_store };

// Each block writes a number by its last thread; the one that comes last adds all of them.
template <Protocol kProtocol>
__global__ void last_adds_kernel(float* numbers, unsigned* count, float* sum) {
  Shared shared;
  int* last = shared.take<int>(1);
  if (threadIdx.x == kThreadsHere - 1 && kProtocol != Protocol::late_store) {
    numbers[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    if (kProtocol != Protocol::no_fence_before) __threadfence();
    *last = kProtocol == Protocol::no_addition ? blockIdx.x == 2 : atomicAdd(count, 1u) + 1 == gridDim.x;
    if (kProtocol == Protocol::late_store) numbers[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
    if (kProtocol != Protocol::no_fence_behind) __threadfence();
  }
  __syncthreads();
  if (*last == 0 || threadIdx.x != 1) return;
  *count = 0;
  float total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += numbers[i];
  *sum = total;
}

TEST_F(Emulator, FencesAndAnAtomicAdditionOrderBlocks) {
  const Tensor numbers = device_zeros(3), count = device_zeros(1), sum = device_zeros(1);
  const auto run = [&](void (*kernel)(float*, unsigned*, float*)) {
    copy_floats(1, std::vector<float>(1).data(), DeviceKind::cpu, count.data(), DeviceKind::cuda);
    return fault_of([&] {
      LAUNCH_AS("last_adds", kernel, 3, kThreadsHere, shared_bytes<int>(1), stream(), numbers.data(),
                reinterpret_cast<unsigned*>(count.data()), sum.data());
    });
  };
  for (const emulator::Order order : emulator::kOrders) {
    emulator::set_order(order, 5);
    for (int time = 0; time < 2; ++time) {
      EXPECT_EQ(run(last_adds_kernel<Protocol::right>), "");
      EXPECT_EQ(values_of(sum)[0], 6);
      EXPECT_EQ(values_of(count)[0], 0) << "ready for the next kernel";
    }
    const std::vector<std::string> race = {"kernel 'last_adds', block (",
                                           "thread (1, 0, 0): race on byte ",
                                           " of allocation ",
                                           "reads at",
                                           "writes at",
                                           "no fences and atomic addition order the blocks"};
    expect_words(run(last_adds_kernel<Protocol::no_fence_before>), race);
    expect_words(run(last_adds_kernel<Protocol::no_fence_behind>), race);
    expect_words(run(last_adds_kernel<Protocol::late_store>), race);
  }
  emulator::set_order(emulator::Order::ascending);
  expect_words(run(last_adds_kernel<Protocol::no_addition>), {"block (2, 0, 0), thread (1, 0, 0): race on byte "});
}

// Of four blocks two pass on, in a second count, what the others told them.
__global__ void relay_kernel(float* numbers, unsigned* counts, float* sum) {
  numbers[blockIdx.x] = 1;
  __threadfence();
  const bool second = atomicAdd(counts + blockIdx.x / 2, 1u) == 1;
  __threadfence();
  if (!second) return;
  const bool last = atomicAdd(counts + 2, 1u) == 1;
  __threadfence();
  if (last) *sum = numbers[0] + numbers[1] + numbers[2] + numbers[3];
}

TEST_F(Emulator, ABlockTellsWhatItWasTold) {
  for (const emulator::Order order : emulator::kOrders) {
    emulator::set_order(order, 3);
    const Tensor numbers = device_zeros(4), counts = device_zeros(3), sum = device_zeros(1);
    EXPECT_EQ(fault_of([&] {
                LAUNCH(relay_kernel, 4, 1, 0, stream(), numbers.data(), reinterpret_cast<unsigned*>(counts.data()),
                       sum.data());
              }),
              "");
    EXPECT_EQ(values_of(sum)[0], 4);
  }
}

__global__ void stray_addition_kernel(unsigned* count) { atomicAdd(count + 1, 1u); }

TEST_F(Emulator, AnAtomicAdditionIsWatched) {
  const Tensor count = device_zeros(1);
  expect_words(
      fault_of([&] { LAUNCH(stray_addition_kernel, 1, 1, 0, stream(), reinterpret_cast<unsigned*>(count.data())); }),
      {"kernel 'stray_addition_kernel'", "overrun of device memory", "behind the end of allocation "});
  const Tensor nothing = Tensor::empty({2}, DeviceKind::cuda);
  expect_words(
      fault_of([&] { LAUNCH(stray_addition_kernel, 1, 1, 0, stream(), reinterpret_cast<unsigned*>(nothing.data())); }),
      {"kernel 'stray_addition_kernel'", "reads what nobody has written"});
}

// A word that all threads of all blocks read, then block 2 writes.
__global__ void late_write_kernel(float* x, float* y) {
  y[blockIdx.x * kWarp + threadIdx.x] = x[0];
  if (blockIdx.x == 2 && threadIdx.x == 31) x[0] = 1;
}

TEST_F(Emulator, OneReaderAmongMany) {
  const Tensor x = device_zeros(1), y = device_zeros(3 * kWarp);
  for (const emulator::Order order : emulator::kOrders) {
    emulator::set_order(order, 5);
    expect_words(fault_of([&] { LAUNCH(late_write_kernel, 3, kWarp, 0, stream(), x.data(), y.data()); }),
                 {"kernel 'late_write_kernel'", "race on byte 0 of", "writes at", "reads at"});
  }
}

__global__ void device_overrun_kernel(int64_t n, float* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i <= n) out[i] = 1;
}

__global__ void read_before_kernel(const float* x, float* out) {
  out[threadIdx.x] = x[static_cast<int>(threadIdx.x) - 1];
}

TEST_F(Emulator, OverrunOfDeviceMemory) {
  const Tensor out = device_zeros(100), x = device_zeros(100);
  expect_words(fault_of([&] { LAUNCH(device_overrun_kernel, 2, kThreadsHere, 0, stream(), 100, out.data()); }),
               {"kernel 'device_overrun_kernel', block (1, 0, 0), thread (36, 0, 0): overrun of device memory: ",
                "4 bytes at byte 400, behind the end of allocation ", "of 400 bytes", "emulated_memory_test.cu:"});
  expect_words(fault_of([&] { LAUNCH(read_before_kernel, 1, kThreadsHere, 0, stream(), x.data(), out.data()); }),
               {"thread (0, 0, 0): overrun of device memory: 4 bytes 4 before the start of allocation"});
}

struct Hidden {
  float* to;
};
__global__ void hidden_pointer_kernel(Hidden hidden) { hidden.to[threadIdx.x] = 1; }

TEST_F(Emulator, MemoryOfTheHostInsideOfAnArgument) {
  const Tensor on_host = Tensor::zeros({kWarp}), on_device = device_zeros(kWarp);
  EXPECT_EQ(fault_of([&] { LAUNCH(hidden_pointer_kernel, 1, kWarp, 0, stream(), Hidden{on_device.data()}); }), "");
  expect_words(fault_of([&] { LAUNCH(hidden_pointer_kernel, 1, kWarp, 0, stream(), Hidden{on_host.data()}); }),
               {"kernel 'hidden_pointer_kernel', block (0, 0, 0), thread (0, 0, 0): stray access",
                "memory that is not the device's", "writes at"});
  EXPECT_EQ(values_of(on_host)[0], 0) << "a stray access is not done";
}

__global__ void copy_kernel(int n, const float* from, float* to) {
  if (threadIdx.x < static_cast<unsigned>(n)) to[threadIdx.x] = from[threadIdx.x];
}

TEST_F(Emulator, ReadOfDeviceMemoryThatNobodyWrote) {
  const Tensor nothing = Tensor::empty({8}, DeviceKind::cuda), out = device_zeros(8);
  const auto run = [&] {
    return fault_of([&] { LAUNCH(copy_kernel, 1, kWarp, 0, stream(), 8, nothing.data(), out.data()); });
  };
  expect_words(run(), {"kernel 'copy_kernel', block (0, 0, 0), thread (0, 0, 0): reads what nobody has written: byte 0 "
                       "of allocation ",
                       "of 32 bytes, reads at tests/cuda/emulated_memory_test.cu:"});
  // A copy of nothing is nothing; a part of it may be written.
  CUDA_CHECK(cudaMemcpyAsync(nothing.data(), Tensor::empty({8}, DeviceKind::cuda).data(), 32, cudaMemcpyDeviceToDevice,
                             stream()));
  CUDA_CHECK(cudaMemsetAsync(nothing.data(), 0, 6 * sizeof(float), stream()));
  expect_words(run(), {"thread (6, 0, 0): reads what nobody has written: byte 24 of"});
  const std::vector<float> values(2, 1.0f);
  CUDA_CHECK(cudaMemcpyAsync(nothing.data() + 6, values.data(), 8, cudaMemcpyHostToDevice, stream()));
  EXPECT_EQ(run(), "");
}

__global__ void read_halves_kernel(int n, const bf16* from, float* to) {
  if (static_cast<int>(threadIdx.x) < n) to[threadIdx.x] = to_float(from[threadIdx.x]);
}

TEST_F(Emulator, HalvesOfWordsAreWrittenWithThem) {
  const Tensor words = Tensor::empty({4}, DeviceKind::cuda), out = device_zeros(kWarp);
  CUDA_CHECK(cudaMemsetAsync(words.data(), 0, 2 * sizeof(float), stream()));
  const auto run = [&](int n) {
    return fault_of([&] {
      LAUNCH(read_halves_kernel, 1, kWarp, 0, stream(), n, reinterpret_cast<const bf16*>(words.data()), out.data());
    });
  };
  EXPECT_EQ(run(4), "");
  expect_words(run(5), {"thread (4, 0, 0): reads what nobody has written: byte 8 of allocation"});
}

// What is read too early leads astray: both are told.
__global__ void index_kernel(const int* index, float* out) { out[index[threadIdx.x]] = 1; }

TEST_F(Emulator, AStrayIndexThatNobodyWrote) {
  const Tensor nothing = Tensor::empty({8}, DeviceKind::cuda), out = device_zeros(8);
  expect_words(fault_of([&] {
                 LAUNCH(index_kernel, 1, 8, 0, stream(), reinterpret_cast<const int*>(nothing.data()), out.data());
               }),
               {"reads what nobody has written: byte 0 of allocation", "; then kernel 'index_kernel'", "stray access"});
}

TEST_F(Emulator, ProductsReadWhatWasWritten) {
  const Tensor nothing = Tensor::empty({4}, DeviceKind::cuda), right = device_zeros(4),
               out = Tensor::empty({4}, DeviceKind::cuda);
  const auto multiply = [&](const Tensor& a, float beta) {
    const float one = 1;
    return fault_of([&] {
      CUBLAS_CHECK(cublasGemmStridedBatchedEx(blas(), CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a.data(), CUDA_R_32F, 2,
                                              0, right.data(), CUDA_R_32F, 2, 0, &beta, out.data(), CUDA_R_32F, 2, 0, 1,
                                              CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    });
  };
  expect_words(multiply(nothing, 0), {"cublasGemmStridedBatchedEx: reads what nobody has written: column 0 of A"});
  expect_words(multiply(right, 1), {"column 0 of C"});
  EXPECT_EQ(multiply(right, 0), "");
  EXPECT_EQ(multiply(out, 1), "");
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
