// What a kernel sees: its indices, barriers, warp collectives and shared memory; and how the host launches it.
//
// A block's threads run one at a time, warp by warp: a warp runs on until all of its threads wait for the block or have
// finished. So one warp is as far ahead of the others as the kernel's barriers allow, and which one depends on the
// order (emulator.h): a barrier that is missing changes the result.
//
// Barriers and collectives know who arrived, where in the source. When nobody can go on, that is a fault, told with the
// kernel, the block, and which threads wait where. What threads load and store is watched (watch.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace entangle::emulator {

inline constexpr int kWarp = 32;

// A place in a kernel's source: a kind of barrier or collective, and the line.
struct Site {
  const char* what;
  const char* file;
  int line;
};

void block_barrier(const Site& site);

// Waits until every lane in `mask` has arrived with the same mask at the same site. The last one calls `complete` with
// the frames of all lanes in the mask (null for others), in which it leaves each lane's result.
using Complete = void (*)(unsigned mask, void* const* frames);
void warp_collective(unsigned mask, void* frame, Complete complete, const Site& site);
// The same, and what the lanes wrote before is to be seen by the others after.
void warp_barrier(unsigned mask, const Site& site);

// A fence between what the thread did and does to device memory, and an addition that no other thread interrupts; returns
// what was there before. Together they order blocks: what a block wrote before its barrier, a fence and its addition is
// seen by one that adds to the same number later and has a fence behind that.
void memory_fence();
unsigned atomic_add(unsigned* address, unsigned value);

// Reports a fault of the running thread; it and its block do not go on.
[[noreturn]] void fail(const std::string& text);

// Piece number `index` of the block's shared memory: poisoned, between guard words, the same for every thread.
void* take_shared(int index, size_t bytes);

// ------------------------------------------------------------------------------------------------------- collectives

template <class T>
struct Shuffle {
  T value;
  int source;  // lane; its own when the source is outside of the warp
};

template <class T>
void complete_shuffle(unsigned mask, void* const* frames) {
  T values[kWarp] = {};
  for (int lane = 0; lane < kWarp; ++lane) {
    if (mask >> lane & 1) values[lane] = static_cast<const Shuffle<T>*>(frames[lane])->value;
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(mask >> lane & 1)) continue;
    Shuffle<T>& shuffle = *static_cast<Shuffle<T>*>(frames[lane]);
    if (!(mask >> shuffle.source & 1)) {
      fail("lane " + std::to_string(lane) + " reads from lane " + std::to_string(shuffle.source) +
           ", which is not in the mask");
    }
    shuffle.value = values[shuffle.source];
  }
}

// This thread's lane: of a one-dimensional block, which is all that the project uses.
inline int lane_of_thread() { return static_cast<int>(threadIdx.x % kWarp); }

template <class T>
T shuffle(unsigned mask, T value, int source, const Site& site) {
  Shuffle<T> frame = {value, source >= 0 && source < kWarp ? source : lane_of_thread()};
  warp_collective(mask, &frame, complete_shuffle<T>, site);
  return frame.value;
}

struct Vote {
  bool vote;
  unsigned result;
};

inline void complete_ballot(unsigned mask, void* const* frames) {
  unsigned result = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (mask >> lane & 1) result |= static_cast<unsigned>(static_cast<const Vote*>(frames[lane])->vote) << lane;
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    if (mask >> lane & 1) static_cast<Vote*>(frames[lane])->result = result;
  }
}

inline unsigned ballot(unsigned mask, bool vote, const Site& site) {
  Vote frame = {vote, 0};
  warp_collective(mask, &frame, complete_ballot, site);
  return frame.result;
}

// ------------------------------------------------------------------------------------------------------------ launch

struct PointerArgument {
  const void* pointer;
  bool written;
};

struct KernelCall {
  std::string name;
  dim3 grid, block;
  size_t shared_bytes;
  void (*invoke)(const void* arguments);  // calls the kernel
  std::shared_ptr<const void> arguments;  // the kernel and its arguments, by value
  size_t argument_bytes;
  std::vector<PointerArgument> pointers;
};

// Runs every block. Returns the fault, or an empty string.
std::string run_kernel(const KernelCall& call);
// Runs it, or queues it, on a stream.
cudaError_t enqueue_kernel(KernelCall call, cudaStream_t stream);

template <class T>
void note_pointer([[maybe_unused]] std::vector<PointerArgument>& pointers, [[maybe_unused]] const T& argument) {
  if constexpr (std::is_pointer_v<T>) {
    pointers.push_back({argument, !std::is_const_v<std::remove_pointer_t<T>>});
  }
}

template <class... Parameters, class... Arguments>
cudaError_t launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Arguments&&... arguments) {
  using Values = std::tuple<void (*)(Parameters...), std::decay_t<Parameters>...>;
  const auto values = std::make_shared<const Values>(kernel, static_cast<Parameters>(arguments)...);
  const auto invoke = [](const void* all) {
    std::apply([](auto function, const auto&... own) { function(own...); }, *static_cast<const Values*>(all));
  };
  KernelCall call = {name, grid, block, shared_bytes, invoke, values, sizeof(Values), {}};
  std::apply([&](auto, const auto&... value) { (note_pointer(call.pointers, value), ...); }, *values);
  return enqueue_kernel(std::move(call), stream);
}

}  // namespace entangle::emulator

#define ENTANGLE_SITE(what) \
  ::entangle::emulator::Site { what, __FILE__, __LINE__ }
#define __syncthreads() ::entangle::emulator::block_barrier(ENTANGLE_SITE("__syncthreads"))
#define __syncwarp(...) \
  ::entangle::emulator::warp_barrier(::entangle::emulator::mask_or_all(__VA_ARGS__), ENTANGLE_SITE("__syncwarp"))
#define __shfl_sync(mask, value, lane) ::entangle::emulator::shuffle(mask, value, lane, ENTANGLE_SITE("__shfl_sync"))
#define __shfl_xor_sync(mask, value, bits)                                                       \
  ::entangle::emulator::shuffle(mask, value, ::entangle::emulator::lane_of_thread() ^ int(bits), \
                                ENTANGLE_SITE("__shfl_xor_sync"))
#define __shfl_down_sync(mask, value, by)                                                      \
  ::entangle::emulator::shuffle(mask, value, ::entangle::emulator::lane_of_thread() + int(by), \
                                ENTANGLE_SITE("__shfl_down_sync"))
#define __shfl_up_sync(mask, value, by)                                                        \
  ::entangle::emulator::shuffle(mask, value, ::entangle::emulator::lane_of_thread() - int(by), \
                                ENTANGLE_SITE("__shfl_up_sync"))
#define __ballot_sync(mask, vote) ::entangle::emulator::ballot(mask, vote, ENTANGLE_SITE("__ballot_sync"))
#define __any_sync(mask, vote) (::entangle::emulator::ballot(mask, vote, ENTANGLE_SITE("__any_sync")) != 0)
#define __all_sync(mask, vote) (::entangle::emulator::ballot(mask, vote, ENTANGLE_SITE("__all_sync")) == (mask))
#define __threadfence() ::entangle::emulator::memory_fence()
#define atomicAdd(address, value) ::entangle::emulator::atomic_add(address, value)

namespace entangle::emulator {
inline unsigned mask_or_all(unsigned mask = 0xffffffffu) { return mask; }
}  // namespace entangle::emulator
