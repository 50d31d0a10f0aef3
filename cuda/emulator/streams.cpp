// Streams, events, and the order that they promise.
//
// Two operations are ordered when a chain of stream order, recorded and awaited events, and waiting by the host leads
// from one to the other. That is kept as a vector clock: entry t of an operation's clock is the number of operations of
// stream t known to be finished before it. Two operations that touch the same allocation, at least one of them writing,
// and that no chain orders, are a fault, whether or not this run's order of execution shows it. A kernel is taken to
// touch every allocation that it is given a pointer into, to write it when the pointer is not to const.
#include "cuda/emulator/streams.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/memory.h"
#include "engine/check.h"
#include "engine/rng.h"

namespace entangle::emulator {

using Clock = std::map<int64_t, int64_t>;  // stream -> operations of it that come before

namespace {

void advance(Clock& clock, const Clock& other) {
  for (const auto& [stream, time] : other) clock[stream] = std::max(clock[stream], time);
}

// A step of a queue: work, or waiting until an event is reached.
struct Step {
  std::function<std::string()> run;
  std::shared_ptr<bool> awaits;  // may run once this is true
};

}  // namespace

struct StreamQueue {
  int64_t id = 0;
  Clock clock;  // of the last operation
  std::deque<Step> queue;
};

struct EventMark {
  Clock clock;
  std::shared_ptr<bool> reached;  // of the last record; null: never recorded
};

namespace {

struct LastAccess {
  int64_t time;
  std::string name;
};
struct History {
  std::map<int64_t, LastAccess> reads, writes;  // by stream
};

struct Runtime {
  std::vector<StreamQueue*> streams;
  std::map<int64_t, History> histories;  // by allocation
  Clock host;                            // what the host has waited for
  int64_t next_stream = 1;
  uint64_t turn = 0;
};

Runtime& runtime() {
  static Runtime* const instance = new Runtime;
  return *instance;
}

bool known(const StreamQueue* stream) {
  const auto& all = runtime().streams;
  return std::find(all.begin(), all.end(), stream) != all.end();
}

std::string text_of_operation(const std::string& name, int64_t time, int64_t stream) {
  return concat("'", name, "', operation ", time, " of stream ", stream);
}

// The first earlier access that nothing orders before `clock`.
std::string conflict(const std::map<int64_t, LastAccess>& accesses, const StreamQueue& stream) {
  for (const auto& [id, access] : accesses) {
    const auto seen = stream.clock.find(id);
    if (id != stream.id && (seen == stream.clock.end() || seen->second < access.time)) {
      return text_of_operation(access.name, access.time, id);
    }
  }
  return "";
}

std::string note_access(const StreamQueue& stream, const std::string& name, const Access& access) {
  History& history = runtime().histories[access.allocation];
  std::string other = conflict(history.writes, stream);
  if (other.empty() && access.written) other = conflict(history.reads, stream);
  (access.written ? history.writes : history.reads)[stream.id] = {stream.clock.at(stream.id), name};
  if (other.empty()) return "";
  return concat(text_of_operation(name, stream.clock.at(stream.id), stream.id), " and ", other,
                " both touch allocation ", access.allocation, " and no event orders them");
}

// The streams whose first step may run.
std::vector<StreamQueue*> runnable() {
  std::vector<StreamQueue*> streams;
  for (StreamQueue* stream : runtime().streams) {
    if (!stream->queue.empty() && (stream->queue.front().awaits == nullptr || *stream->queue.front().awaits)) {
      streams.push_back(stream);
    }
  }
  return streams;
}

// Runs steps, a stream drawn at random each time, until `done`.
template <class Done>
cudaError_t run_until(const Done& done) {
  while (!has_fault() && !done()) {
    const std::vector<StreamQueue*> streams = runnable();
    if (streams.empty()) {
      report_fault("a stream waits for an event that is recorded behind what waits for it");
      break;
    }
    const RngKey key = rng_key(order_seed(), Stream::synthetic, 4);
    StreamQueue& stream = *streams[rng_word(key, runtime().turn++) % streams.size()];
    const Step step = stream.queue.front();
    stream.queue.pop_front();
    const std::string fault = step.run ? step.run() : "";
    if (!fault.empty()) report_fault(fault);
  }
  return has_fault() ? cudaErrorLaunchFailure : cudaSuccess;
}

}  // namespace

void discard_queues() {
  for (StreamQueue* stream : runtime().streams) stream->queue.clear();
}

void forget_accesses(int64_t allocation) { runtime().histories.erase(allocation); }

cudaError_t enqueue(cudaStream_t stream, const std::string& name, const std::vector<Access>& accesses,
                    std::function<std::string()> run) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!known(stream)) {
    report_fault("'" + name +
                 "' is launched on the null stream, or on one that was destroyed; use a stream of your own");
    return cudaErrorLaunchFailure;
  }
  advance(stream->clock, runtime().host);
  ++stream->clock[stream->id];
  for (const Access& access : accesses) {
    const std::string fault = note_access(*stream, name, access);
    if (fault.empty()) continue;
    report_fault(fault);
    return cudaErrorLaunchFailure;
  }
  stream->queue.push_back({std::move(run), nullptr});
  return cudaSuccess;
}

cudaError_t enqueue_kernel(KernelCall call, cudaStream_t stream) {
  std::map<int64_t, bool> touched;
  for (const PointerArgument& argument : call.pointers) {
    const Allocation* allocation = argument.pointer == nullptr ? nullptr : find_allocation(argument.pointer);
    if (allocation != nullptr) touched[allocation->id] |= argument.written;
  }
  std::vector<Access> accesses;
  for (const auto& [id, written] : touched) accesses.push_back({id, written});
  const std::string name = call.name;
  return enqueue(stream, name, accesses, [call = std::move(call)] { return run_kernel(call); });
}

}  // namespace entangle::emulator

using namespace entangle::emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new StreamQueue;
  (*stream)->id = runtime().next_stream++;
  runtime().streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!known(stream)) return cudaErrorInvalidValue;
  const cudaError_t status = cudaStreamSynchronize(stream);
  auto& all = runtime().streams;
  all.erase(std::find(all.begin(), all.end(), stream));
  delete stream;
  return status;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!known(stream)) return has_fault() ? cudaErrorLaunchFailure : cudaErrorInvalidValue;
  const cudaError_t status = run_until([&] { return stream->queue.empty(); });
  advance(runtime().host, stream->clock);
  return status;
}

cudaError_t cudaDeviceSynchronize() {
  const cudaError_t status = run_until([] {
    const auto& all = runtime().streams;
    return std::all_of(all.begin(), all.end(), [](const StreamQueue* stream) { return stream->queue.empty(); });
  });
  for (const StreamQueue* stream : runtime().streams) advance(runtime().host, stream->clock);
  return status;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EventMark;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!known(stream)) return cudaErrorInvalidValue;
  advance(stream->clock, runtime().host);
  event->clock = stream->clock;
  event->reached = std::make_shared<bool>(false);
  stream->queue.push_back({[reached = event->reached] {
                             *reached = true;
                             return std::string();
                           },
                           nullptr});
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!known(stream)) return cudaErrorInvalidValue;
  if (event->reached == nullptr) return cudaSuccess;  // never recorded: nothing to wait for
  advance(stream->clock, event->clock);
  stream->queue.push_back({nullptr, event->reached});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->reached == nullptr) return cudaSuccess;
  const cudaError_t status = run_until([&] { return *event->reached; });
  advance(runtime().host, event->clock);
  return status;
}

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
  const char* bytes_of_host = static_cast<const char*>(from);
  return enqueue(stream, "copy to the device", accesses,
                 [to, staged = std::vector<char>(bytes_of_host, bytes_of_host + bytes)] {
                   return copy(to, staged.data(), staged.size());
                 });
}

cudaError_t copy_to_host(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  if (!inside("cudaMemcpyAsync, the source", from, bytes)) return cudaErrorLaunchFailure;
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
