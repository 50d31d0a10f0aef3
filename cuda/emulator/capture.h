// Recording the operations of streams as a graph, in place of running them.
//
// A capture begins on one stream; another one joins by waiting for an event recorded on a stream of the capture, and is
// joined back by an event that the first one awaits. For each operation the capture knows all that come before it. Two
// that touch the same memory, one writing, with neither before the other, are a fault. So is everything by which the
// host, or a stream outside, would wait for what is only recorded.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cuda/emulator/streams.h"

namespace entangle::emulator {

class Capture {
 public:
  Capture(StreamQueue* origin, cudaStreamCaptureMode mode) : origin_(origin), mode_(mode) {}

  // Adds an operation behind those in `before`, and itself to them. Returns the fault, or an empty string.
  std::string add(Operation operation, std::vector<bool>& before);
  // Why the capture cannot end as it is, or an empty string.
  std::string why_open() const;

  struct Node {
    Operation operation;
    std::vector<bool> before;
  };
  const std::vector<Node>& nodes() const { return nodes_; }
  StreamQueue* origin() const { return origin_; }
  cudaStreamCaptureMode mode() const { return mode_; }
  // Where a stream of the capture stands.
  std::vector<bool>& tail(const StreamQueue* stream) { return tails_[stream]; }

 private:
  StreamQueue* origin_;
  cudaStreamCaptureMode mode_;
  std::vector<Node> nodes_;
  std::map<const StreamQueue*, std::vector<bool>> tails_;
};

// Reports that `call` cannot be while a stream is captured: null means any stream. Returns whether it was reported.
bool refuse_in_capture(const std::string& call, const StreamQueue* stream = nullptr);
// Likewise for what is refused unless the capture is relaxed.
bool refuse_in_strict_capture(const std::string& call);

// What recording an event and waiting for it mean where streams are captured; nothing: they are not.
std::optional<cudaError_t> record_in_capture(EventMark& event, StreamQueue& stream);
std::optional<cudaError_t> wait_in_capture(StreamQueue& stream, const EventMark& event);
// Drops every capture.
void discard_captures();

}  // namespace entangle::emulator
