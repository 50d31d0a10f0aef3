// Where tensors live, and what the engine itself does with memory there; everything else is done by kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/kernel.h"
#include "engine/memory.h"

namespace entangle {

const char* name_of(DeviceKind device);  // "cpu", "cuda"

// Why tensors cannot live on a CUDA device (not in the build, no driver, driver or GPU too old, no such GPU), with what
// to do about it; empty when they can.
std::string why_no_cuda(int index = 0);
// Whether a real GPU can be used; an emulated one is used only when it is named.
bool has_gpu();
// How many GPUs can be seen; 0 where none can be used.
int visible_gpus();
// Chooses the GPU before its first use. Throws Error with the reason when it cannot be used.
void select_cuda(int index);

// Bytes that are free on the GPU in use. Throws Error without one.
int64_t device_memory_free();

// Waits for what was launched on the device.
void synchronize(DeviceKind device);
void copy_bytes(size_t bytes, const void* from, DeviceKind from_device, void* to, DeviceKind to_device);
void copy_floats(int64_t count, const float* from, DeviceKind from_device, float* to, DeviceKind to_device);
void fill_floats(int64_t count, float value, float* to, DeviceKind device);
void add_floats(int64_t count, const float* from, float* to, DeviceKind device);  // to += from

// Host memory that a device copies from and to while the host goes on: pinned, for a GPU. Holds nothing.
std::shared_ptr<unsigned char> host_memory(size_t bytes, DeviceKind device);

// Bytes on their way from a device to the host, so that the host can read a step's numbers while the next step runs:
//   Readback loss(sizeof(float), device);  loss.start(tensor.data(), sizeof(float), 0);  ...  loss.wait();
class Readback {
 public:
  Readback(size_t bytes, DeviceKind device);
  ~Readback();
  Readback(const Readback&) = delete;
  Readback& operator=(const Readback&) = delete;
  // Copies after what was launched so far, into place `offset`; returns at once.
  void start(const void* from, size_t bytes, size_t offset);
  // Waits for the copies; then they are here until the next start().
  const unsigned char* wait();

 private:
  DeviceKind device_;
  std::shared_ptr<unsigned char> memory_;
  void* event_ = nullptr;
};

// The time that a device spends on what is launched from the construction to stop().
class DeviceTimer {
 public:
  explicit DeviceTimer(DeviceKind device);
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;
  double stop();  // seconds; waits for the device

 private:
  DeviceKind device_;
  double start_ = 0;
  void *first_ = nullptr, *second_ = nullptr;  // events
};

// Launches on a GPU, recorded once and then launched again and again by one call of the driver (a CUDA graph):
//   Tensor y;  LaunchGraph graph([&] { y = f(x); });  graph.launch();
// Recording runs nothing. Later launches read and write the same memory: tensors from outside must outlive the graph, and so must
// those that come out of it; what is allocated and given back in between belongs to the graph. Nothing recorded may wait for the
// device. Run the launches once before, so that libraries have chosen their kernels.
class LaunchGraph {
 public:
  explicit LaunchGraph(const std::function<void()>& launches);
  ~LaunchGraph();
  LaunchGraph(const LaunchGraph&) = delete;
  LaunchGraph& operator=(const LaunchGraph&) = delete;
  void launch();

 private:
  MemoryHold memory_;
  void* graph_ = nullptr;
};

// Bytes on their way to a device, copied by a stream of their own while kernels run:
//   Upload batch(bytes, device);
//   batch.start(from, bytes);  batch.arrive();  ... launches that read batch.data() ...;  batch.release();
// A GPU has memory for them; on the processor data() is `from` itself.
class Upload {
 public:
  Upload(size_t bytes, DeviceKind device);
  ~Upload();  // waits for the copy
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;
  // Copies from host_memory() once what was launched before the last release() is done; returns at once.
  void start(const unsigned char* from, size_t bytes);
  void arrive();   // what is launched from here on finds the bytes
  void release();  // what was launched so far was the last to read them
  void wait();     // then `from` may change
  const unsigned char* data() const { return data_; }

 private:
  DeviceKind device_;
  size_t bytes_;
  const unsigned char* data_ = nullptr;
  unsigned char* memory_ = nullptr;  // of a GPU
  void *copied_ = nullptr, *released_ = nullptr;
};

#if defined(ENTANGLE_CUDA)
// cuda/runtime.cu. Host memory is read, or written, when a copy returns.
namespace gpu {
std::string why_unusable(int index);
int visible();
void select_device(int index);
void* system_allocate(size_t bytes);  // null when there is no more
void system_free(void* memory);
size_t free_memory();
void synchronize();
void copy_to_device(const void* from, void* to, size_t bytes);
void copy_to_host(const void* from, void* to, size_t bytes);
void* allocate_pinned(size_t bytes);
void free_pinned(void* memory);
void copy_to_pinned(const void* from, void* to, size_t bytes);  // written when the stream gets there
void* create_event(bool timed);
void destroy_event(void* event);
void record_event(void* event);
void wait_for_event(void* event);                   // the host waits
double seconds_between(void* first, void* second);  // timed events that have been reached
void launch_after_event(void* event);               // what is launched from here on waits
// Uploads have a stream of their own.
void upload_after_event(void* event);                               // what is uploaded from here on waits
void upload_from_pinned(const void* from, void* to, size_t bytes);  // read when that stream gets there
void record_upload(void* event);
// Of the stream, between begin and end.
void begin_recording();
void* end_recording();
void abandon_recording();
void launch_recording(void* graph);
void destroy_recording(void* graph);
void copy_on_device(const void* from, void* to, size_t bytes);
void fill(int64_t count, uint32_t word, void* to);  // 32-bit words
void add(int64_t count, const float* from, float* to);
}  // namespace gpu
#endif

}  // namespace entangle
