// What every .cu file is written with: checked calls and launches, shared memory, reductions, bf16, tensor-core tiles.
//
// The same source runs on a GPU and, built with CUDA=emulated, on the CPU (cuda/emulator). Shared memory, bf16 and
// tensor-core tiles are used through this header only, since that is where the two differ.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include "cuda/runtime.h"
#include "engine/check.h"
#include "engine/launch_facts.h"

namespace entangle::gpu {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// --------------------------------------------------------------------------------------------------- calls, launches

[[noreturn]] inline void raise_cuda(const char* what, cudaError_t status, const char* file, int line) {
  throw Error(concat(what, ": ", cudaGetErrorString(status)), file, line);
}

// CUDA_CHECK(call): throws Error with the runtime's words unless the call succeeded.
#define CUDA_CHECK(call)                                                                                   \
  do {                                                                                                     \
    const cudaError_t cuda_status_ = (call);                                                               \
    if (cuda_status_ != cudaSuccess) ::entangle::gpu::raise_cuda(#call, cuda_status_, __FILE__, __LINE__); \
  } while (false)

// LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...): a kernel launch with its check. An empty grid
// launches nothing. LAUNCH_AS names a kernel that is chosen at run time.
#define LAUNCH(kernel, ...) LAUNCH_AS(#kernel, kernel, __VA_ARGS__)
#define LAUNCH_AS(name, kernel, ...) ::entangle::gpu::launch(name, __FILE__, __LINE__, kernel, __VA_ARGS__)

template <class Kernel>
void note_launch(const char* name, Kernel kernel, dim3 block, size_t shared_bytes) {
  LaunchFacts facts = {name, int64_t{block.x} * block.y * block.z, static_cast<int64_t>(shared_bytes)};
#if defined(ENTANGLE_CUDA_EMULATED)
  static_cast<void>(kernel);
#else
  cudaFuncAttributes compiled = {};
  CUDA_CHECK(cudaFuncGetAttributes(&compiled, kernel));
  facts.shared_bytes += static_cast<int64_t>(compiled.sharedSizeBytes);
  facts.registers = compiled.numRegs;
  facts.local_bytes = static_cast<int64_t>(compiled.localSizeBytes);
#endif
  launch_facts->push_back(facts);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, const char* file, int line, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (launch_facts != nullptr) note_launch(name, kernel, block, shared_bytes);
#if defined(ENTANGLE_CUDA_EMULATED)
  const cudaError_t status = emulator::launch(name, kernel, grid, block, shared_bytes, stream, arguments...);
#else
  if (shared_bytes > 48 * 1024) {  // more than that has to be asked for
    CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  const cudaError_t status = cudaGetLastError();
#endif
  if (status == cudaSuccess) return;
  throw Error(
      concat("launch of ", name, ", grid (", grid.x, ", ", grid.y, ", ", grid.z, "), block (", block.x, ", ", block.y,
             ", ", block.z, "), ", shared_bytes, " bytes of shared memory: ", cudaGetErrorString(status)),
      file, line);
}

// A grid dimension: how many blocks of `per_block` cover n.
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  CHECK(blocks <= 0x7fffffff, "a grid of ", blocks, " blocks is more than a device takes; use a smaller batch");
  return static_cast<unsigned>(blocks);
}

inline int64_t at_least(int64_t least, int64_t n) { return n < least ? least : n; }
inline int64_t at_most(int64_t most, int64_t n) { return n > most ? most : n; }

// ----------------------------------------------------------------------------------------------------- shared memory

// Bytes that Shared::take<T>(n) uses: what a launch adds up for its shared memory.
template <class T>
__host__ __device__ constexpr size_t shared_bytes(int64_t n) {
  return (static_cast<size_t>(n) * sizeof(T) + 15) / 16 * 16;
}

// A block's shared memory, taken piece by piece; every thread takes the same pieces in the same order. Pieces start at
// multiples of 16 bytes and hold nothing.
class Shared {
 public:
  template <class T>
  __device__ T* take(int64_t n) {
#if defined(ENTANGLE_CUDA_EMULATED)
    return static_cast<T*>(emulator::take_shared(pieces_++, static_cast<size_t>(n) * sizeof(T)));
#else
    extern __shared__ __align__(16) unsigned char arena[];
    T* piece = reinterpret_cast<T*>(arena + used_);
    used_ += shared_bytes<T>(n);
    return piece;
#endif
  }

 private:
#if defined(ENTANGLE_CUDA_EMULATED)
  int pieces_ = 0;
#else
  size_t used_ = 0;
#endif
};

// ------------------------------------------------------------------------------------------------------------ loops

// A large parameter of a kernel that is passed on by reference is `const __grid_constant__`: it stays where it is.
// Before a loop: unrolled as a whole, which keeps arrays that it indexes in registers, or n times.
#if defined(ENTANGLE_CUDA_EMULATED)
#define __grid_constant__
#define UNROLL
#define UNROLL_BY(n)
#else
#define UNROLL _Pragma("unroll")
#define ENTANGLE_PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) ENTANGLE_PRAGMA(unroll n)
#endif

// ---------------------------------------------------------------------------------------------------------- indices

// Blocks are one-dimensional throughout.
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ inline int warps_in_block() { return static_cast<int>(blockDim.x) / kWarp; }

// Brings the line at an address into the L2 cache, and waits for nothing.
__device__ inline void prefetch_line([[maybe_unused]] const void* address) {
#if defined(__CUDA_ARCH__)
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// Calls use(i, load(i)) for i = begin, begin + step, ... below end. The loads of kBatch elements come ahead of what `use`
// stores, and are in flight together: a compiler must not move a load past a store that may be to the same place, and the
// processor waits at the first use of what is not there yet.
template <int kBatch, class Index, class Load, class Use>
__device__ inline void walk(Index begin, Index end, Index step, const Load& load, const Use& use) {
  for (Index first = begin; first < end; first += kBatch * step) {
    decltype(load(first)) values[kBatch];
    UNROLL
    for (int k = 0; k < kBatch; ++k) {
      if (first + k * step < end) values[k] = load(first + k * step);
    }
    UNROLL
    for (int k = 0; k < kBatch; ++k) {
      if (first + k * step < end) use(first + k * step, values[k]);
    }
  }
}

// Elementwise kernels: a block covers kPerBlock adjacent elements, a thread every kThreads-th of them: coalesced at any
// alignment. For this thread's elements of 0 .. n-1: f(i), which loads nothing, or use(i, load(i)).
inline constexpr int kThreads = 256, kPerBlock = 4 * kThreads;

__device__ inline int64_t first_element() { return static_cast<int64_t>(blockIdx.x) * kPerBlock + threadIdx.x; }
__device__ inline int64_t end_of_elements(int64_t n) {
  const int64_t end = (static_cast<int64_t>(blockIdx.x) + 1) * kPerBlock;
  return end < n ? end : n;
}

template <class F>
__device__ inline void for_elements(int64_t n, const F& f) {
  for (int64_t i = first_element(), end = end_of_elements(n); i < end; i += kThreads) f(i);
}
template <class Load, class Use>
__device__ inline void for_elements(int64_t n, const Load& load, const Use& use) {
  walk<kPerBlock / kThreads>(first_element(), end_of_elements(n), int64_t{kThreads}, load, use);
}

// A warp walks a row: use(c, load(c)) for this lane's columns, every kWarp-th of them.
template <class Load, class Use>
__device__ inline void for_row(int64_t width, const Load& load, const Use& use) {
  walk<8>(static_cast<int64_t>(lane_index()), width, int64_t{kWarp}, load, use);
}

// Grid (tiles of n elements, images): a kernel walks images gridDim.y apart, which has a bound of its own.
inline dim3 image_grid(int64_t n, int64_t images) {
  return dim3(blocks_for(n, kPerBlock), static_cast<unsigned>(at_most(65535, images)));
}

// -------------------------------------------------------------------------------------------------------- reductions

// Over the 32 lanes, as a butterfly: every lane gets the same bits, in an order that depends on nothing.
template <class T>
__device__ inline T warp_sum(T value) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}

__device__ inline float warp_max(float value) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, bits));
  return value;
}

// Over the block: each warp as above, then the warps in their order. Every thread gets the sum. `scratch` has a place
// for each warp; the second barrier lets the caller use it again.
template <class T>
__device__ inline T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  if (lane_index() == 0) scratch[warp_index()] = value;
  __syncthreads();
  T sum = scratch[0];
  for (int warp = 1; warp < warps_in_block(); ++warp) sum += scratch[warp];
  __syncthreads();
  return sum;
}

// to = value or to += value.
__device__ inline void put(float* to, float value, bool add) { *to = add ? *to + value : value; }

}  // namespace entangle::gpu
