// Device memory of the emulator: allocations of host memory, full of NaN, between guard words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "cuda/emulator/shadow.h"

namespace entangle::emulator {

inline constexpr uint32_t kPoison = 0x7fa00000u;  // a signalling NaN as float
inline constexpr size_t kGuardBytes = 256;        // on either side; also what cudaMalloc aligns to
inline constexpr size_t kNearGuard = 64;          // of a guard, what is looked at often

// Fills whole words from `memory` on, and the bytes of the last one.
void poison(void* memory, size_t bytes);

struct Allocation {
  char* data;
  size_t bytes;
  int64_t id;
  std::shared_ptr<Shadow> shadow;  // null when nothing is watched

  std::string str() const;  // "allocation 7 of 4096 bytes"
  // What was written outside, or an empty string. With AddressSanitizer nothing is looked at: the access itself is
  // reported.
  std::string overrun() const;
};

// The allocation that an address belongs to, one past its end included, or null.
const Allocation* find_allocation(const void* address);
// Likewise, but up to a guard's width before it or behind its end, too.
const Allocation* nearest_allocation(const void* address);
// Whether the allocation with that id has not been freed.
bool is_allocated(int64_t id);

// The host, or a library, wrote those bytes of device memory; or copied them.
void note_written(const void* memory, size_t bytes);
// Whether anybody wrote all of them; true when nothing is watched.
bool is_written(const void* memory, size_t bytes);
void note_copied(const void* to, const void* from, size_t bytes);

// Guard words around other memory.
void write_guard(char* guard, size_t bytes);
bool guard_intact(const char* guard, size_t bytes);

}  // namespace entangle::emulator
