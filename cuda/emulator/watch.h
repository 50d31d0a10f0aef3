// Watches every load and store of a kernel.
//
// .cu files are compiled with -fsanitize=thread, which puts a call before each load and store. watch.cpp answers these
// calls, in place of that sanitizer's runtime: it knows blocks, barriers and warps. Each access is held against
//   where it goes: a piece of shared memory, an allocation, the thread's own stack, the kernel's arguments; nowhere
//     else, and not a byte behind the end;
//   who was there before: two threads, one of them writing, that no barrier orders are a race. __syncthreads orders the
//     block, __syncwarp the lanes of its mask, shuffles and votes order no memory. Blocks are not ordered at all;
//   whether anybody was: a word that is read must have been written.
// Faults name kernel, block, threads and lines. With AddressSanitizer, which excludes the other sanitizer, nothing is
// watched.
//
// What it cannot see: what compiled libraries touch, a memcpy of many bytes among them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/emulator/block.h"
#include "cuda/emulator/shadow.h"

namespace entangle::emulator {

class SharedMemory;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kWatched = false;
#else
inline constexpr bool kWatched = true;
#endif

// Around kernels and blocks, which run one after another on one thread of the host.
void watch_kernel(const KernelCall& call);
void watch_block(const uint3& index, SharedMemory& shared);
// Between: thread number `thread` of the block goes on, on that stack; it is off again.
void watch_thread(int thread, const char* stack, size_t stack_bytes);
void unwatch_thread();
// Ends the running thread where it is: what its frames own is not freed. In block.cpp.
void stop_thread();
// All threads of the block met; the lanes in `mask` of the warp that begins with thread `first` did.
void watch_barrier();
void watch_warp(int first, unsigned mask);

// What was found since watch_kernel: a fault that stopped its thread, or the first read of a word that nobody had
// written, where no race explains it. Or an empty string.
bool found_fault();
std::string describe_fault();

}  // namespace entangle::emulator
