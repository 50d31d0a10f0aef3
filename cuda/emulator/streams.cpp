// Streams, events, and the order that they promise.
//
// Two operations are ordered when a chain of stream order, recorded and awaited events, and waiting by the host leads
// from one to the other. That is kept as a vector clock: entry t of an operation's clock is the number of operations of
// stream t known to be finished before it. Two operations that touch the same allocation, at least one of them writing,
// and that no chain orders, are a fault, whether or not this run's order of execution shows it. A kernel is taken to
// touch every allocation that it is given a pointer into, to write it when the pointer is not to const.
#include "cuda/emulator/streams.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cuda/emulator/capture.h"
#include "cuda/emulator/emulator.h"
#include "cuda/emulator/memory.h"
#include "engine/check.h"
#include "engine/rng.h"

namespace entangle::emulator {

namespace {

void advance(Clock& clock, const Clock& other) {
  for (const auto& [stream, time] : other) clock[stream] = std::max(clock[stream], time);
}

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

}  // namespace

std::string text_of_memory(int64_t id) { return id > 0 ? concat("allocation ", id) : concat("communicator ", -id); }

namespace {

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
  return concat(text_of_operation(name, stream.clock.at(stream.id), stream.id), " and ", other, " both touch ",
                text_of_memory(access.allocation), " and no event orders them");
}

// The streams whose first step may run.
std::vector<StreamQueue*> runnable() {
  std::vector<StreamQueue*> streams;
  for (StreamQueue* stream : runtime().streams) {
    if (!stream->queue.empty() && (!stream->queue.front().ready || stream->queue.front().ready())) {
      streams.push_back(stream);
    }
  }
  return streams;
}

// Nothing can run: whether another process may change that, or what is wrong.
bool may_wait(std::chrono::steady_clock::time_point since) {
  std::string waits_for;
  for (const StreamQueue* stream : runtime().streams) {
    if (!stream->queue.empty() && stream->queue.front().waits_for) waits_for = stream->queue.front().waits_for();
  }
  if (waits_for.empty()) {
    report_fault("a stream waits for an event that is recorded behind what waits for it");
    return false;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
  if (seconds < device_model().patience) return true;
  report_fault(concat(waits_for, ": nothing came in ", device_model().patience, " s"));
  return false;
}

// Runs a step of a stream drawn at random; false when none can run.
bool run_one() {
  const std::vector<StreamQueue*> streams = runnable();
  if (streams.empty()) return false;
  StreamQueue& stream = *streams[draw_turn() % streams.size()];
  const Step step = stream.queue.front();
  stream.queue.pop_front();
  const std::string fault = step.run ? step.run() : "";
  if (!fault.empty()) report_fault(fault);
  return true;
}

// Runs steps until `done`.
template <class Done>
cudaError_t run_until(const Done& done) {
  auto last = std::chrono::steady_clock::now();
  while (!has_fault() && !done()) {
    if (run_one()) {
      last = std::chrono::steady_clock::now();
      continue;
    }
    if (!may_wait(last)) break;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return has_fault() ? cudaErrorLaunchFailure : cudaSuccess;
}

}  // namespace

const std::vector<StreamQueue*>& all_streams() { return runtime().streams; }

bool is_stream(const StreamQueue* stream) {
  const auto& all = runtime().streams;
  return std::find(all.begin(), all.end(), stream) != all.end();
}

uint64_t draw_turn() { return rng_word(rng_key(order_seed(), Stream::synthetic, 4), runtime().turn++); }

void discard_queues() {
  for (StreamQueue* stream : runtime().streams) {
    stream->queue.clear();
    advance(runtime().host, stream->clock);  // nothing is under way
  }
  discard_captures();
}

void forget_accesses(int64_t allocation) { runtime().histories.erase(allocation); }

std::string note_operation(StreamQueue& stream, const std::vector<std::pair<std::string, Access>>& accesses) {
  advance(stream.clock, runtime().host);
  ++stream.clock[stream.id];
  for (const auto& [name, access] : accesses) {
    const std::string fault = note_access(stream, name, access);
    if (!fault.empty()) return fault;
  }
  return "";
}

cudaError_t enqueue(cudaStream_t stream, Operation operation) {
  if (has_fault()) return cudaErrorLaunchFailure;
  std::string fault;
  if (!is_stream(stream)) {
    fault = "'" + operation.name +
            "' is launched on the null stream, or on one that was destroyed; use a stream of your own";
  } else if (stream->capture != nullptr) {
    fault = stream->capture->add(std::move(operation), stream->capture->tail(stream));
  } else {
    std::vector<std::pair<std::string, Access>> accesses;
    for (const Access& access : operation.accesses) accesses.emplace_back(operation.name, access);
    fault = note_operation(*stream, accesses);
    for (Step& step : operation.steps) stream->queue.push_back(std::move(step));
  }
  if (fault.empty()) return cudaSuccess;
  report_fault(fault);
  return cudaErrorLaunchFailure;
}

cudaError_t enqueue(cudaStream_t stream, const std::string& name, const std::vector<Access>& accesses,
                    std::function<std::string()> run) {
  return enqueue(stream, Operation{name, accesses, {{std::move(run), nullptr, nullptr}}});
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
  if (refuse_in_capture("cudaStreamDestroy", stream)) return cudaErrorStreamCaptureUnsupported;
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  const cudaError_t status = cudaStreamSynchronize(stream);
  auto& all = runtime().streams;
  all.erase(std::find(all.begin(), all.end(), stream));
  delete stream;
  return status;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (refuse_in_capture("cudaStreamSynchronize", stream)) return cudaErrorStreamCaptureUnsupported;
  if (!is_stream(stream)) return has_fault() ? cudaErrorLaunchFailure : cudaErrorInvalidValue;
  const cudaError_t status = run_until([&] { return stream->queue.empty(); });
  advance(runtime().host, stream->clock);
  return status;
}

cudaError_t cudaDeviceSynchronize() {
  if (refuse_in_capture("cudaDeviceSynchronize")) return cudaErrorStreamCaptureUnsupported;
  const cudaError_t status = run_until([] {
    const auto& all = runtime().streams;
    return std::all_of(all.begin(), all.end(), [](const StreamQueue* stream) { return stream->queue.empty(); });
  });
  for (const StreamQueue* stream : runtime().streams) advance(runtime().host, stream->clock);
  return status;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new EventMark;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  if (const auto captured = record_in_capture(*event, *stream)) return *captured;
  advance(stream->clock, runtime().host);
  event->clock = stream->clock;
  event->reached = std::make_shared<bool>(false);
  const auto reach = [reached = event->reached, seconds = event->seconds] {
    *reached = true;
    *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    return std::string();
  };
  stream->queue.push_back({reach, nullptr, nullptr});
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  if (const auto captured = wait_in_capture(*stream, *event)) return *captured;
  if (event->reached == nullptr) return cudaSuccess;  // never recorded: nothing to wait for
  advance(stream->clock, event->clock);
  stream->queue.push_back({nullptr, [reached = event->reached] { return *reached; }, nullptr});
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  for (const EventMark* event : {start, end}) {
    if (!event->timed || event->reached == nullptr) return cudaErrorInvalidValue;
    if (!*event->reached) return cudaErrorNotReady;
  }
  *milliseconds = static_cast<float>(1e3 * (*end->seconds - *start->seconds));
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->capture != nullptr) {
    report_fault("cudaEventSynchronize: the event was recorded while its stream was captured; nothing will reach it");
    return cudaErrorStreamCaptureUnsupported;
  }
  if (event->reached == nullptr) return cudaSuccess;
  const cudaError_t status = run_until([&] { return *event->reached; });
  advance(runtime().host, event->clock);
  return status;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->capture != nullptr) return cudaEventSynchronize(event);  // a fault
  while (event->reached != nullptr && !*event->reached && !has_fault() && run_one()) {
  }
  if (has_fault()) return cudaErrorLaunchFailure;
  if (event->reached != nullptr && !*event->reached) return cudaErrorNotReady;
  advance(runtime().host, event->clock);
  return cudaSuccess;
}
