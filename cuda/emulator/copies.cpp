// Copies and fills: which memory they may touch, and when they do it.
#include <cstring>

#include "cuda/emulator/capture.h"
#include "cuda/emulator/memory.h"
#include "cuda/emulator/streams.h"
#include "engine/check.h"

using namespace entangle::emulator;

namespace {

// Whether [memory, memory + bytes) lies in one allocation; else reports it.
bool inside(const char* what, const void* memory, size_t bytes) {
  const Allocation* allocation = find_allocation(memory);
  const char* at = static_cast<const char*>(memory);
  if (bytes == 0 || (allocation != nullptr && at + bytes <= allocation->data + allocation->bytes)) return true;
  report_fault(allocation == nullptr ? entangle::concat(what, ": no device memory (host memory, or freed)")
                                     : entangle::concat(what, ": ", bytes, " bytes from byte ", at - allocation->data,
                                                        " leave ", allocation->str()));
  return false;
}

std::string copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
  note_written(to, bytes);
  return "";
}

cudaError_t copy_to_device(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  if (!inside("cudaMemcpyAsync, the destination", to, bytes)) return cudaErrorLaunchFailure;
  const std::vector<Access> accesses = {{find_allocation(to)->id, true}};
  if (is_pinned(from)) return enqueue(stream, "copy to the device", accesses, [=] { return copy(to, from, bytes); });
  if (refuse_in_capture("cudaMemcpyAsync from pageable memory of the host, which may be gone when it runs,", stream)) {
    return cudaErrorStreamCaptureUnsupported;
  }
  const char* bytes_of_host = static_cast<const char*>(from);
  return enqueue(stream, "copy to the device", accesses,
                 [to, staged = std::vector<char>(bytes_of_host, bytes_of_host + bytes)] {
                   return copy(to, staged.data(), staged.size());
                 });
}

cudaError_t copy_to_host(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  if (!inside("cudaMemcpyAsync, the source", from, bytes)) return cudaErrorLaunchFailure;
  if (!is_pinned(to) && refuse_in_capture("cudaMemcpyAsync to pageable memory of the host, which waits,", stream)) {
    return cudaErrorStreamCaptureUnsupported;
  }
  const cudaError_t status =
      enqueue(stream, "copy to the host", {{find_allocation(from)->id, false}}, [=] { return copy(to, from, bytes); });
  return status != cudaSuccess || is_pinned(to) ? status : cudaStreamSynchronize(stream);
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (bytes == 0) return has_fault() ? cudaErrorLaunchFailure : cudaSuccess;
  if (kind == cudaMemcpyHostToDevice) return copy_to_device(to, from, bytes, stream);
  if (kind == cudaMemcpyDeviceToHost) return copy_to_host(to, from, bytes, stream);
  if (!inside("cudaMemcpyAsync, the destination", to, bytes) || !inside("cudaMemcpyAsync, the source", from, bytes)) {
    return cudaErrorLaunchFailure;
  }
  return enqueue(stream, "copy on the device", {{find_allocation(to)->id, true}, {find_allocation(from)->id, false}},
                 [=] {
                   copy(to, from, bytes);
                   note_copied(to, from, bytes);
                   return std::string();
                 });
}

cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return has_fault() ? cudaErrorLaunchFailure : cudaSuccess;
  if (!inside("cudaMemsetAsync", memory, bytes)) return cudaErrorLaunchFailure;
  return enqueue(stream, "cudaMemsetAsync", {{find_allocation(memory)->id, true}}, [=] {
    std::memset(memory, byte, bytes);
    note_written(memory, bytes);
    return std::string();
  });
}
