// Where tensors live, and what the engine itself does with memory there; everything else is done by kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/kernel.h"

namespace entangle {

const char* name_of(DeviceKind device);  // "cpu", "cuda"

// Why tensors cannot live on a CUDA device (not in the build, no driver, driver or GPU too old, no such GPU), with what
// to do about it; empty when they can.
std::string why_no_cuda(int index = 0);
// Chooses the GPU before its first use. Throws Error with the reason when it cannot be used.
void select_cuda(int index);

// Waits for what was launched on the device.
void synchronize(DeviceKind device);
void copy_floats(int64_t count, const float* from, DeviceKind from_device, float* to, DeviceKind to_device);
void fill_floats(int64_t count, float value, float* to, DeviceKind device);
void add_floats(int64_t count, const float* from, float* to, DeviceKind device);  // to += from

#if defined(ENTANGLE_CUDA)
// cuda/runtime.cu. Host memory is read, or written, when a copy returns.
namespace gpu {
std::string why_unusable(int index);
void select_device(int index);
void* system_allocate(size_t bytes);  // null when there is no more
void system_free(void* memory);
std::string free_memory_text();
void synchronize();
void copy_to_device(const void* from, void* to, size_t bytes);
void copy_to_host(const void* from, void* to, size_t bytes);
void copy_on_device(const void* from, void* to, size_t bytes);
void fill(int64_t count, uint32_t word, void* to);  // 32-bit words
void add(int64_t count, const float* from, float* to);
}  // namespace gpu
#endif

}  // namespace entangle
