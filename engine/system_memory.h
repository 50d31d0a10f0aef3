// What memory a device has left for this process.
#pragma once

#include <cstdint>

#include "engine/kernel.h"

namespace entangle {

// Bytes that allocations can still get. On the CPU the least of what the system calls available, of what the control
// groups (version 1 or 2) of this process leave and of what its address-space limit (ulimit -v) leaves; on a CUDA device
// what is free there. In both cases with what the allocator (engine/memory.h) holds and has not handed out. INT64_MAX
// where the system tells nothing.
int64_t available_memory(DeviceKind device = DeviceKind::cpu);

}  // namespace entangle
