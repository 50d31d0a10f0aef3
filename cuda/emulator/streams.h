// Between the parts of the emulated runtime: what streams and events are, and how work gets onto a stream.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"

namespace entangle::emulator {

class Capture;

// Part of device memory that an operation reads or writes; or a communicator, by its negative number.
struct Access {
  int64_t allocation;
  bool written;
};
std::string text_of_memory(int64_t id);

// A part of an operation: work, or waiting. It runs once `ready` says so, or at once without it.
struct Step {
  std::function<std::string()> run;  // returns its fault or an empty string; may be empty
  std::function<bool()> ready;
  // What is waited for when it is another process that makes `ready` true; else the emulator knows that none will.
  std::function<std::string()> waits_for;
};

// What is put on a stream: its name, what it touches, and its steps, which run in their order.
struct Operation {
  std::string name;
  std::vector<Access> accesses;
  std::vector<Step> steps;
};

using Clock = std::map<int64_t, int64_t>;  // stream -> operations of it that come before

struct StreamQueue {
  int64_t id = 0;
  Clock clock;  // of the last operation
  std::deque<Step> queue;
  std::shared_ptr<Capture> capture;  // when what comes is recorded instead of run
};

struct EventMark {
  Clock clock;
  std::shared_ptr<bool> reached;  // of the last record; null: never recorded
  std::shared_ptr<Capture> capture;
  std::vector<bool> captured;                                     // of a captured record: the operations before it
  std::shared_ptr<double> seconds = std::make_shared<double>(0);  // when it was reached, of some clock
  bool timed = true;
};

// Runs the operation, or records it, when the stream gets there.
cudaError_t enqueue(cudaStream_t stream, Operation operation);
cudaError_t enqueue(cudaStream_t stream, const std::string& name, const std::vector<Access>& accesses,
                    std::function<std::string()> run);
// Whether the operation may touch what it touches now, on this stream: the fault, or an empty string. It counts as the
// stream's next one from then on.
std::string note_operation(StreamQueue& stream, const std::vector<std::pair<std::string, Access>>& accesses);
bool is_stream(const StreamQueue* stream);
const std::vector<StreamQueue*>& all_streams();

// Numbers that decide between legal orders; a function of the seed and how many were drawn.
uint64_t draw_turn();

// Notes a fault, the first one wins, and drops what is queued.
void report_fault(const std::string& text);
bool has_fault();
void discard_queues();
// An allocation is gone; its next user is another one.
void forget_accesses(int64_t allocation);
bool is_pinned(const void* memory);

}  // namespace entangle::emulator
