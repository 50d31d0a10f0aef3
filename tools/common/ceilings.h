// What this machine can do at most, measured by the program that is about to be judged by it: on shared machines the
// ceilings move from one minute to the next.
#pragma once

#include "engine/ops.h"

namespace entangle {

// Multiply-adds in registers on all threads, fused ones or in bf16 those of pairs, with the instruction-set path in use.
// The best of the many short runs of 0.25 s, so that a short disturbance does not lower the ceiling.
// On a CUDA device it is the rate of a large plain product in that precision, through cuBLAS.
double measure_gflops_ceiling(DeviceKind device = DeviceKind::cpu, Precision precision = Precision::fp32);

// Copying between buffers much larger than the last-level cache, on all threads; bytes read and bytes written are
// counted. About 0.3 s.
double measure_copy_ceiling(DeviceKind device = DeviceKind::cpu);  // GB/s

}  // namespace entangle
