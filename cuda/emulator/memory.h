// Device memory of the emulator: allocations of host memory, full of NaN, between guard words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace entangle::emulator {

inline constexpr uint32_t kPoison = 0x7fa00000u;  // a signalling NaN as float
inline constexpr size_t kGuardBytes = 256;        // on either side; also what cudaMalloc aligns to

// Fills whole words from `memory` on, and the bytes of the last one.
void poison(void* memory, size_t bytes);

struct Allocation {
  char* data;
  size_t bytes;
  int64_t id;

  std::string str() const;  // "allocation 7 of 4096 bytes"
  // What was written outside of the first `near` bytes of the guards, or an empty string. With AddressSanitizer nothing
  // is looked at: the access itself is reported.
  std::string overrun(size_t near) const;
};

// The allocation that an address belongs to, one past its end included, or null.
const Allocation* find_allocation(const void* address);

// Guard words around other memory.
void write_guard(char* guard, size_t bytes);
bool guard_intact(const char* guard, size_t bytes);

}  // namespace entangle::emulator
