#include "cuda/emulator/capture.h"

#include <algorithm>

#include "cuda/emulator/memory.h"
#include "engine/check.h"

namespace entangle::emulator {

struct Graph {
  std::vector<Capture::Node> nodes;
};

struct GraphExec {
  std::vector<Capture::Node> nodes;
};

namespace {

// Adds the operations of `other`.
void merge(std::vector<bool>& nodes, const std::vector<bool>& other) {
  if (nodes.size() < other.size()) nodes.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) nodes[i] = nodes[i] || other[i];
}

bool has(const std::vector<bool>& nodes, size_t i) { return i < nodes.size() && nodes[i]; }

bool touch_alike(const Access& a, const Access& b) { return a.allocation == b.allocation && (a.written || b.written); }

std::string name_of(const std::vector<Capture::Node>& nodes, size_t i) {
  return concat("'", nodes[i].operation.name, "', node ", i, " of the graph");
}

cudaError_t refuse(const std::string& text) {
  report_fault(text);
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace

std::string Capture::add(Operation operation, std::vector<bool>& before) {
  nodes_.push_back({std::move(operation), before});
  const size_t own = nodes_.size() - 1;
  before.resize(nodes_.size());
  before[own] = true;
  for (size_t i = 0; i < own; ++i) {
    if (has(nodes_[own].before, i)) continue;
    for (const Access& access : nodes_[own].operation.accesses) {
      for (const Access& other : nodes_[i].operation.accesses) {
        if (!touch_alike(access, other)) continue;
        return concat(name_of(nodes_, own), ", and ", name_of(nodes_, i), ", both touch ",
                      text_of_memory(access.allocation), " and no event orders them");
      }
    }
  }
  return "";
}

std::string Capture::why_open() const {
  const std::vector<bool>& end = tails_.at(origin_);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (has(end, i)) continue;
    return concat("cudaStreamEndCapture: ", name_of(nodes_, i),
                  ", lies on a stream that joined and was not joined back: record an event behind it and wait for it");
  }
  return "";
}

bool refuse_in_capture(const std::string& call, const StreamQueue* stream) {
  for (const StreamQueue* each : all_streams()) {
    if (each->capture == nullptr || (stream != nullptr && each != stream)) continue;
    report_fault(
        concat(call, " cannot be while stream ", each->id, " is captured: nothing runs before the graph does"));
    return true;
  }
  return false;
}

bool refuse_in_strict_capture(const std::string& call) {
  for (const StreamQueue* each : all_streams()) {
    if (each->capture == nullptr || each->capture->mode() == cudaStreamCaptureModeRelaxed) continue;
    report_fault(
        concat(call, " cannot be while stream ", each->id, " is captured, unless cudaStreamCaptureModeRelaxed"));
    return true;
  }
  return false;
}

std::optional<cudaError_t> record_in_capture(EventMark& event, StreamQueue& stream) {
  event.capture = stream.capture;
  if (stream.capture == nullptr) return std::nullopt;
  event.captured = stream.capture->tail(&stream);
  return cudaSuccess;
}

std::optional<cudaError_t> wait_in_capture(StreamQueue& stream, const EventMark& event) {
  if (event.capture == nullptr) {
    if (stream.capture == nullptr) return std::nullopt;
    return refuse(concat("cudaStreamWaitEvent: stream ", stream.id,
                         " is captured and the event was recorded outside: a graph waits for its own operations only"));
  }
  if (event.capture->origin() == nullptr || event.capture->origin()->capture != event.capture) {
    return refuse("cudaStreamWaitEvent: the event was recorded in a capture that has ended");
  }
  if (stream.capture != nullptr && stream.capture != event.capture) {
    return refuse("cudaStreamWaitEvent: the event was recorded in another capture");
  }
  stream.capture = event.capture;
  merge(stream.capture->tail(&stream), event.captured);
  return cudaSuccess;
}

void discard_captures() {
  for (StreamQueue* stream : all_streams()) stream->capture = nullptr;
}

namespace {

// Puts the nodes' steps on the stream in an order that is drawn among the legal ones.
void push_steps(const std::vector<Capture::Node>& nodes, StreamQueue& stream) {
  std::vector<size_t> missing(nodes.size()), ready;
  for (size_t i = 0; i < nodes.size(); ++i) {
    missing[i] = static_cast<size_t>(std::count(nodes[i].before.begin(), nodes[i].before.end(), true));
    if (missing[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    const auto drawn = ready.begin() + static_cast<std::ptrdiff_t>(draw_turn() % ready.size());
    const size_t done = *drawn;
    ready.erase(drawn);
    const std::vector<Step>& steps = nodes[done].operation.steps;
    stream.queue.insert(stream.queue.end(), steps.begin(), steps.end());
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (has(nodes[i].before, done) && --missing[i] == 0) ready.push_back(i);
    }
  }
}

}  // namespace
}  // namespace entangle::emulator

using namespace entangle::emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  if (refuse_in_capture("cudaStreamBeginCapture", stream)) return cudaErrorStreamCaptureUnsupported;
  stream->capture = std::make_shared<Capture>(stream, mode);
  stream->capture->tail(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!is_stream(stream) || stream->capture == nullptr) return cudaErrorInvalidValue;
  const std::shared_ptr<Capture> capture = stream->capture;
  const std::string open =
      capture->origin() == stream ? capture->why_open() : "cudaStreamEndCapture: the capture began on another stream";
  if (!open.empty()) return refuse(open);
  for (StreamQueue* each : all_streams()) {
    if (each->capture == capture) each->capture = nullptr;
  }
  *graph = new Graph{capture->nodes()};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new GraphExec{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (has_fault()) return cudaErrorLaunchFailure;
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  if (refuse_in_capture("cudaGraphLaunch", stream)) return cudaErrorStreamCaptureUnsupported;
  const std::vector<Capture::Node>& nodes = executable->nodes;
  std::vector<std::pair<std::string, Access>> accesses;
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Access& access : nodes[i].operation.accesses) {
      if (access.allocation > 0 && !is_allocated(access.allocation)) {
        return refuse(entangle::concat("cudaGraphLaunch: ", name_of(nodes, i), ", touches allocation ",
                                       access.allocation, ", which was freed after the capture"));
      }
      accesses.emplace_back("graph: " + nodes[i].operation.name, access);
    }
  }
  const std::string fault = note_operation(*stream, accesses);
  if (!fault.empty()) return refuse(fault);
  push_steps(nodes, *stream);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
