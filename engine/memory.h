// The allocators behind every tensor, one for each kind of device, and their counters.
//
// Blocks come from a few large regions obtained from the system and are cut, returned and joined again in order of
// address (first fit), so a training step whose subnet changes every time settles in the same regions: once the
// largest subnet has been seen, the system is not asked again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "engine/kernel.h"

namespace entangle {

// What an allocator has done so far.
struct MemoryCounters {
  int64_t in_use;              // bytes handed out now
  int64_t peak;                // largest in_use since reset_peak_memory()
  int64_t reserved;            // bytes obtained from the system
  int64_t system_allocations;  // how often the system was asked
};

// Aligned to 64 bytes, on a GPU to 256. Throws Error naming the bytes wanted, in use and reserved when the system
// refuses, on a GPU also what is free.
void* allocate(size_t bytes, DeviceKind device = DeviceKind::cpu);
void deallocate(void* block, DeviceKind device = DeviceKind::cpu);

MemoryCounters memory_counters(DeviceKind device = DeviceKind::cpu);
void reset_peak_memory(DeviceKind device = DeviceKind::cpu);
// Obtains a region of at least `bytes` now, so that later allocations up to it do not ask the system.
void reserve_memory(size_t bytes, DeviceKind device = DeviceKind::cpu);

// Keeps for itself what is given back while it is open: such memory is handed out again until close(), and after that to
// nobody until the hold is destroyed. One at a time per device.
class MemoryHold {
 public:
  explicit MemoryHold(DeviceKind device);
  ~MemoryHold();
  MemoryHold(const MemoryHold&) = delete;
  MemoryHold& operator=(const MemoryHold&) = delete;
  void close();

 private:
  DeviceKind device_;
  bool open_ = true;
  std::map<char*, size_t> blocks_;  // once closed
};

// Fills every block with a signalling pattern (NaN as float) when it is handed out: reads before writes show up.
void set_poison(bool on);

}  // namespace entangle
