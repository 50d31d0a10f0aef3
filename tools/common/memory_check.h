// Whether a batch fits into memory, told before the first step.
#pragma once

#include <cstdint>

#include "engine/kernel.h"
#include "nn/architecture.h"
#include "nn/supernet.h"

namespace entangle {

// What training takes beside a step of the largest subnet.
struct TrainingMemory {
  int64_t params;        // of the supernet; each has a value, a gradient and two moments
  int64_t held_batches;  // batches that the loader holds in host memory
};

// Throws Error with the bytes that a batch needs, those available and the largest batch that fits, unless it fits.
// `batch_flag` is what the user changes.
void check_memory(const SupernetConfig& model, const Architecture& largest, int64_t batch,
                  const TrainingMemory& training, DeviceKind device, const char* batch_flag);

}  // namespace entangle
