// Watches every load and store of a kernel.
//
// .cu files are compiled with -fsanitize=thread, which puts a call before each load and store. watch.cpp answers these
// calls, in place of that sanitizer's runtime: it knows blocks, barriers and warps. Each access is held against
//   where it goes: a piece of shared memory, an allocation, the thread's own stack, the kernel's arguments; nowhere
//     else, and not a byte behind the end;
//   who was there before: two threads, one of them writing, that no barrier orders are a race. __syncthreads orders the
//     block, __syncwarp the lanes of its mask, shuffles and votes order no memory. Blocks are ordered by an atomic
//     addition alone, between fences (block.h);
//   whether anybody was: a word that is read must have been written.
// Faults name kernel, block, threads and lines. With AddressSanitizer, which excludes the other sanitizer, nothing is
// watched.
//
// What it cannot see: what compiled libraries touch, a memcpy of many bytes among them; a store to a number that another
// block adds to at that time.
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
// The running thread loads or stores, at that place in the code. An atomic one is held against the others, which are not
// held against it.
enum class Touch { read, write, atomic };
void touch(const void* memory, size_t bytes, Touch kind, void* from);
// The running thread has a fence; it is about to add to a number, from that place in the code.
void watch_fence();
void watch_atomic(const unsigned* address, void* from);

// What was found since watch_kernel: a fault that stopped its thread, or the first read of a word that nobody had
// written, where no race explains it. Or an empty string.
bool found_fault();
std::string describe_fault();

}  // namespace entangle::emulator
