// The emulated runtime: errors, the device that is played, memory, and the controls of emulator.h. Streams and events
// are in streams.cpp.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "cuda/emulator/capture.h"
#include "cuda/emulator/emulator.h"
#include "cuda/emulator/memory.h"
#include "cuda/emulator/streams.h"
#include "cuda/emulator/watch.h"
#include "engine/check.h"
#include "engine/rng.h"

namespace entangle::emulator {

namespace {

constexpr uint32_t kGuardWord = 0xdeadbeefu;

struct State {
  std::map<const char*, Allocation> allocations;  // by address
  std::set<int64_t> living;                       // their ids
  std::map<const char*, size_t> pinned;
  size_t in_use = 0;
  int64_t next_id = 1;
  std::string fault;
  cudaError_t last_error = cudaSuccess;
  Order order = Order::ascending;
  uint64_t seed = 1;
  DeviceModel device;
  int current = 0;
};

Order initial_order() {
  const char* wanted = std::getenv("ENTANGLE_EMULATOR_ORDER");
  if (wanted == nullptr || *wanted == '\0') return Order::ascending;
  for (const Order order : kOrders) {
    if (std::string(wanted) == name_of(order)) return order;
  }
  RAISE("ENTANGLE_EMULATOR_ORDER=", wanted, " is no order of threads; known are ascending, descending, shuffled");
}

// Never destroyed: tensors in static storage may free device memory at the very end.
State& state() {
  static State* const instance = [] {
    State* s = new State;
    s->order = initial_order();
    return s;
  }();
  return *instance;
}

cudaError_t finish(cudaError_t error) {
  if (error != cudaSuccess) state().last_error = error;
  return error;
}

}  // namespace

const char* name_of(Order order) {
  static const char* const names[] = {"ascending", "descending", "shuffled"};
  return names[static_cast<int>(order)];
}

void set_order(Order order, uint64_t seed) {
  state().order = order;
  state().seed = seed;
}
Order order() { return state().order; }
uint64_t order_seed() { return state().seed; }

DeviceModel& device_model() { return state().device; }

void report_fault(const std::string& text) {
  if (state().fault.empty()) state().fault = text;
  discard_queues();
}
bool has_fault() { return !state().fault.empty(); }

std::string take_fault() {
  std::string fault;
  fault.swap(state().fault);
  state().last_error = cudaSuccess;
  return fault;
}

std::string compare_orders(const std::string& name, const std::function<std::vector<float>()>& run) {
  const Order before = order();
  const uint64_t seed = order_seed();
  std::vector<float> first;
  std::string difference;
  for (const Order each : kOrders) {
    set_order(each, seed);
    const std::vector<float> result = run();
    if (each == kOrders[0]) first = result;
    for (size_t i = 0; i < std::min(first.size(), result.size()) && difference.empty(); ++i) {
      if (std::memcmp(&first[i], &result[i], sizeof(float)) == 0) continue;
      difference = concat(name, ": element ", i, " is ", first[i], " with threads ", name_of(kOrders[0]), ", ",
                          result[i], " with threads ", name_of(each));
    }
    if (difference.empty() && first.size() != result.size()) difference = name + ": the number of results differs";
  }
  set_order(before, seed);
  return difference;
}

// ------------------------------------------------------------------------------------------------------------- memory

void poison(void* memory, size_t bytes) {
  char* to = static_cast<char*>(memory);
  for (size_t i = 0; i < bytes; i += sizeof kPoison) std::memcpy(to + i, &kPoison, std::min(sizeof kPoison, bytes - i));
}

void write_guard(char* guard, size_t bytes) {
  for (size_t i = 0; i < bytes; i += sizeof kGuardWord) std::memcpy(guard + i, &kGuardWord, sizeof kGuardWord);
}

bool guard_intact(const char* guard, size_t bytes) {
  for (size_t i = 0; i < bytes; i += sizeof kGuardWord) {
    if (std::memcmp(guard + i, &kGuardWord, sizeof kGuardWord) != 0) return false;
  }
  return true;
}

std::string Allocation::str() const { return concat("allocation ", id, " of ", bytes, " bytes"); }

std::string Allocation::overrun() const {
#if !defined(__SANITIZE_ADDRESS__)
  if (!guard_intact(data + bytes, kGuardBytes)) return "behind the end of " + str();
  if (!guard_intact(data - kGuardBytes, kGuardBytes)) return "before the start of " + str();
#endif
  return "";
}

const Allocation* find_allocation(const void* address) {
  const char* at = static_cast<const char*>(address);
  auto next = state().allocations.upper_bound(at);
  if (next == state().allocations.begin()) return nullptr;
  const Allocation& allocation = std::prev(next)->second;
  return at <= allocation.data + allocation.bytes ? &allocation : nullptr;
}

const Allocation* nearest_allocation(const void* address) {
  const char* at = static_cast<const char*>(address);
  const auto next = state().allocations.upper_bound(at);
  if (next != state().allocations.begin()) {
    const Allocation& before = std::prev(next)->second;
    if (at < before.data + before.bytes + kGuardBytes) return &before;
  }
  return next != state().allocations.end() && at >= next->second.data - kGuardBytes ? &next->second : nullptr;
}

void note_written(const void* memory, size_t bytes) {
  const Allocation* allocation = find_allocation(memory);
  if (bytes == 0 || allocation == nullptr || allocation->shadow == nullptr) return;
  allocation->shadow->written_by_host(static_cast<size_t>(static_cast<const char*>(memory) - allocation->data), bytes);
}

bool is_written(const void* memory, size_t bytes) {
  const Allocation* allocation = find_allocation(memory);
  if (bytes == 0 || allocation == nullptr || allocation->shadow == nullptr) return true;
  return allocation->shadow->written(static_cast<size_t>(static_cast<const char*>(memory) - allocation->data), bytes);
}

void note_copied(const void* to, const void* from, size_t bytes) {
  const Allocation *target = find_allocation(to), *source = find_allocation(from);
  if (bytes == 0 || target == nullptr || source == nullptr || target->shadow == nullptr) return;
  target->shadow->copied(static_cast<size_t>(static_cast<const char*>(to) - target->data), *source->shadow,
                         static_cast<size_t>(static_cast<const char*>(from) - source->data), bytes);
}

bool is_allocated(int64_t id) { return state().living.count(id) > 0; }

bool is_pinned(const void* memory) {
  const char* at = static_cast<const char*>(memory);
  auto next = state().pinned.upper_bound(at);
  return next != state().pinned.begin() && at < std::prev(next)->first + std::prev(next)->second;
}

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kFence = 0;  // the sanitizer has red zones of its own
#else
constexpr size_t kFence = kGuardBytes;
#endif

cudaError_t allocate_device(void** memory, size_t bytes) {
  State& s = state();
  *memory = nullptr;
  if (bytes > s.device.memory - std::min(s.in_use, s.device.memory)) return cudaErrorMemoryAllocation;
  void* block = nullptr;
  if (posix_memalign(&block, kGuardBytes, std::max<size_t>(bytes, 1) + 2 * kFence) != 0)
    return cudaErrorMemoryAllocation;
  const Allocation allocation = {static_cast<char*>(block) + kFence, bytes, s.next_id++,
                                 kWatched ? std::make_shared<Shadow>(bytes) : nullptr};
  write_guard(allocation.data - kFence, kFence);
  write_guard(allocation.data + bytes, kFence);
  poison(allocation.data, bytes);
  s.allocations[allocation.data] = allocation;
  s.living.insert(allocation.id);
  s.in_use += bytes;
  *memory = allocation.data;
  return cudaSuccess;
}

cudaError_t free_device(void* memory) {
  State& s = state();
  if (memory == nullptr) return cudaSuccess;
  const auto found = s.allocations.find(static_cast<char*>(memory));
  if (found == s.allocations.end()) return cudaErrorInvalidValue;
  s.in_use -= found->second.bytes;
  s.living.erase(found->second.id);
  forget_accesses(found->second.id);
  std::free(found->second.data - kFence);
  s.allocations.erase(found);
  return cudaSuccess;
}

}  // namespace
}  // namespace entangle::emulator

using namespace entangle::emulator;

const char* cudaGetErrorString(cudaError_t error) {
  const bool told = error == cudaErrorLaunchFailure || error == cudaErrorStreamCaptureUnsupported;
  if (told && has_fault()) return state().fault.c_str();
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "unknown error";
}

cudaError_t cudaGetLastError() {
  if (has_fault()) return cudaErrorLaunchFailure;
  const cudaError_t error = state().last_error;
  state().last_error = cudaSuccess;
  return error;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = state().device.driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = state().device.runtime_version;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const DeviceModel& device = state().device;
  *count = 0;
  if (device.driver_version == 0) return finish(cudaErrorInsufficientDriver);
  if (device.driver_version / 1000 < device.runtime_version / 1000) return finish(cudaErrorInsufficientDriver);
  *count = device.count;
  return device.count > 0 ? cudaSuccess : finish(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= state().device.count) return finish(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "emulated device");
  properties->uuid.bytes[0] = static_cast<char>(device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const DeviceModel& model = state().device;
  if (device < 0 || device >= model.count) return finish(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 132;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = model.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = model.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(model.shared_memory);
      return cudaSuccess;
  }
  return finish(cudaErrorInvalidValue);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= state().device.count) return finish(cudaErrorInvalidDevice);
  state().current = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = state().current;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (refuse_in_strict_capture("cudaMalloc")) return cudaErrorStreamCaptureUnsupported;
  return finish(allocate_device(memory, bytes));
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (refuse_in_capture("cudaFree, which waits for every stream,")) return cudaErrorStreamCaptureUnsupported;
  const cudaError_t status = cudaDeviceSynchronize();
  const cudaError_t freed = free_device(memory);
  return finish(status != cudaSuccess ? status : freed);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (refuse_in_strict_capture("cudaMallocHost")) return cudaErrorStreamCaptureUnsupported;
  *memory = std::malloc(std::max<size_t>(bytes, 1));
  if (*memory == nullptr) return finish(cudaErrorMemoryAllocation);
  poison(*memory, bytes);
  state().pinned[static_cast<char*>(*memory)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  if (refuse_in_capture("cudaFreeHost, which waits for every stream,")) return cudaErrorStreamCaptureUnsupported;
  const cudaError_t status = cudaDeviceSynchronize();
  if (memory != nullptr && state().pinned.erase(static_cast<char*>(memory)) == 0) return finish(cudaErrorInvalidValue);
  std::free(memory);
  return status;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = state().device.memory;
  *free_bytes = *total_bytes - std::min(state().in_use, *total_bytes);
  return cudaSuccess;
}
