#include "engine/device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "engine/check.h"
#include "engine/memory.h"

namespace entangle {

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::shared_ptr<unsigned char> host_memory(size_t bytes) {
  return {static_cast<unsigned char*>(::operator new(bytes)), [](unsigned char* memory) { ::operator delete(memory); }};
}

}  // namespace

const char* name_of(DeviceKind device) { return device == DeviceKind::cpu ? "cpu" : "cuda"; }

bool has_gpu() {
#if defined(ENTANGLE_CUDA_EMULATED)
  return false;
#else
  return why_no_cuda().empty();
#endif
}

void select_cuda([[maybe_unused]] int index) {
  const std::string reason = why_no_cuda(index);
  CHECK(reason.empty(), reason);
#if defined(ENTANGLE_CUDA)
  gpu::select_device(index);
#endif
}

#if defined(ENTANGLE_CUDA)

std::shared_ptr<unsigned char> host_memory(size_t bytes, DeviceKind device) {
  if (device == DeviceKind::cpu) return host_memory(bytes);
  return {static_cast<unsigned char*>(gpu::allocate_pinned(bytes)), gpu::free_pinned};
}

Readback::Readback(size_t bytes, DeviceKind device)
    : device_(device),
      memory_(host_memory(bytes, device)),
      event_(device == DeviceKind::cpu ? nullptr : gpu::create_event(false)) {}

Readback::~Readback() {
  if (device_ == DeviceKind::cuda) gpu::destroy_event(event_);
}

void Readback::start(const void* from, size_t bytes, size_t offset) {
  if (device_ == DeviceKind::cpu) {
    std::memcpy(memory_.get() + offset, from, bytes);
    return;
  }
  gpu::copy_to_pinned(from, memory_.get() + offset, bytes);
  gpu::record_event(event_);
}

const unsigned char* Readback::wait() {
  if (device_ == DeviceKind::cuda) gpu::wait_for_event(event_);
  return memory_.get();
}

Upload::Upload(size_t bytes, DeviceKind device) : device_(device), bytes_(bytes) {
  if (device == DeviceKind::cpu) return;
  data_ = memory_ = static_cast<unsigned char*>(allocate(bytes, device));
  copied_ = gpu::create_event(false);
  released_ = gpu::create_event(false);
  release();  // whoever had this memory before has launched its last use of it
}

Upload::~Upload() {
  if (device_ == DeviceKind::cpu) return;
  try {
    wait();  // the next owner of the memory writes to it without asking the stream of uploads
  } catch (const Error&) {
    // A device that has failed copies nothing any more.
  }
  gpu::destroy_event(copied_);
  gpu::destroy_event(released_);
  deallocate(memory_, device_);
}

void Upload::start(const unsigned char* from, size_t bytes) {
  CHECK(bytes <= bytes_, "an upload of ", bytes, " bytes into ", bytes_);
  if (device_ == DeviceKind::cpu) {
    data_ = from;
    return;
  }
  gpu::upload_after_event(released_);
  gpu::upload_from_pinned(from, memory_, bytes);
  gpu::record_upload(copied_);
}

void Upload::arrive() {
  if (device_ == DeviceKind::cuda) gpu::launch_after_event(copied_);
}

void Upload::release() {
  if (device_ == DeviceKind::cuda) gpu::record_event(released_);
}

void Upload::wait() {
  if (device_ == DeviceKind::cuda) gpu::wait_for_event(copied_);
}

LaunchGraph::LaunchGraph(const std::function<void()>& launches) : memory_(DeviceKind::cuda) {
  const UnwatchedLaunches recorded;
  gpu::begin_recording();
  try {
    launches();
  } catch (...) {
    gpu::abandon_recording();
    throw;
  }
  graph_ = gpu::end_recording();
  memory_.close();
}

LaunchGraph::~LaunchGraph() { gpu::destroy_recording(graph_); }

void LaunchGraph::launch() { gpu::launch_recording(graph_); }

DeviceTimer::DeviceTimer(DeviceKind device) : device_(device), start_(now()) {
  if (device == DeviceKind::cpu) return;
  first_ = gpu::create_event(true);
  second_ = gpu::create_event(true);
  gpu::record_event(first_);
}

DeviceTimer::~DeviceTimer() {
  if (device_ == DeviceKind::cpu) return;
  gpu::destroy_event(first_);
  gpu::destroy_event(second_);
}

double DeviceTimer::stop() {
  if (device_ == DeviceKind::cpu) return now() - start_;
  gpu::record_event(second_);
  gpu::wait_for_event(second_);
  return gpu::seconds_between(first_, second_);
}

std::string why_no_cuda(int index) { return gpu::why_unusable(index); }

int visible_gpus() { return gpu::visible(); }

int64_t device_memory_free() { return static_cast<int64_t>(gpu::free_memory()); }

void synchronize(DeviceKind device) {
  if (device == DeviceKind::cuda) gpu::synchronize();
}

void copy_bytes(size_t bytes, const void* from, DeviceKind from_device, void* to, DeviceKind to_device) {
  if (bytes == 0) return;
  if (from_device == DeviceKind::cuda && to_device == DeviceKind::cuda) return gpu::copy_on_device(from, to, bytes);
  if (from_device == DeviceKind::cuda) return gpu::copy_to_host(from, to, bytes);
  if (to_device == DeviceKind::cuda) return gpu::copy_to_device(from, to, bytes);
  std::memcpy(to, from, bytes);
}

void fill_floats(int64_t count, float value, float* to, DeviceKind device) {
  if (device == DeviceKind::cpu) {
    std::fill_n(to, count, value);
    return;
  }
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  gpu::fill(count, word, to);
}

void add_floats(int64_t count, const float* from, float* to, DeviceKind device) {
  if (device == DeviceKind::cuda) return gpu::add(count, from, to);
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

#else

namespace {

constexpr const char* kNoCuda = "this build has no CUDA device; build it where nvcc is found, or use --device cpu";

}  // namespace

std::string why_no_cuda(int) { return kNoCuda; }

int visible_gpus() { return 0; }

int64_t device_memory_free() { RAISE(kNoCuda); }

void synchronize(DeviceKind) {}

void copy_bytes(size_t bytes, const void* from, DeviceKind from_device, void* to, DeviceKind to_device) {
  CHECK(from_device == DeviceKind::cpu && to_device == DeviceKind::cpu, kNoCuda);
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void fill_floats(int64_t count, float value, float* to, DeviceKind) { std::fill_n(to, count, value); }

void add_floats(int64_t count, const float* from, float* to, DeviceKind) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

LaunchGraph::LaunchGraph(const std::function<void()>&) : memory_(DeviceKind::cuda) {}  // which throws
LaunchGraph::~LaunchGraph() = default;
void LaunchGraph::launch() {}

DeviceTimer::DeviceTimer(DeviceKind device) : device_(device), start_(now()) {
  CHECK(device == DeviceKind::cpu, kNoCuda);
}
DeviceTimer::~DeviceTimer() = default;
double DeviceTimer::stop() { return now() - start_; }

std::shared_ptr<unsigned char> host_memory(size_t bytes, DeviceKind device) {
  CHECK(device == DeviceKind::cpu, kNoCuda);
  return host_memory(bytes);
}

Readback::Readback(size_t bytes, DeviceKind device) : device_(device), memory_(host_memory(bytes, device)) {}
Readback::~Readback() = default;
void Readback::start(const void* from, size_t bytes, size_t offset) {
  std::memcpy(memory_.get() + offset, from, bytes);
}
const unsigned char* Readback::wait() { return memory_.get(); }

Upload::Upload(size_t bytes, DeviceKind device) : device_(device), bytes_(bytes) {
  CHECK(device == DeviceKind::cpu, kNoCuda);
}
Upload::~Upload() = default;
void Upload::start(const unsigned char* from, size_t bytes) {
  CHECK(bytes <= bytes_, "an upload of ", bytes, " bytes into ", bytes_);
  data_ = from;
}
void Upload::arrive() {}
void Upload::release() {}
void Upload::wait() {}

#endif

void copy_floats(int64_t count, const float* from, DeviceKind from_device, float* to, DeviceKind to_device) {
  copy_bytes(static_cast<size_t>(count) * sizeof(float), from, from_device, to, to_device);
}

}  // namespace entangle
