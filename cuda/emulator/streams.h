// Between the parts of the emulated runtime.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"

namespace entangle::emulator {

// Part of device memory that an operation reads or writes.
struct Access {
  int64_t allocation;
  bool written;
};

// Queues an operation that touches those allocations; `run` returns its fault or an empty string.
cudaError_t enqueue(cudaStream_t stream, const std::string& name, const std::vector<Access>& accesses,
                    std::function<std::string()> run);

// Notes a fault, the first one wins, and drops what is queued.
void report_fault(const std::string& text);
bool has_fault();
void discard_queues();
// An allocation is gone; its next user is another one.
void forget_accesses(int64_t allocation);
bool is_pinned(const void* memory);

}  // namespace entangle::emulator
