// A trace of steps as a file that ui.perfetto.dev and chrome://tracing show.
#pragma once

#include <memory>
#include <string>

#include "engine/atomic_file.h"
#include "engine/trace.h"

namespace entangle {

// The events of the Trace Event Format: for each span a complete event ("X") with its category, and for a kernel its flops and
// bytes; for memory counter events ("C"); threads have names. Times are microseconds.
std::string to_json(const Trace& trace);

// What part of the steps' time lies in operations, forward and backward, and the optimiser's: of spans in one another the
// outermost counts. Zero without a step.
double share_of_operations(const Trace& trace);

// Does nothing when `path` is empty. Throws Error when the file cannot be written, before anything is traced.
class TraceFile {
 public:
  explicit TraceFile(const std::string& path);
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  void start(DeviceKind device);
  // Writes the file, and on stderr a line about what is in it.
  void finish();

 private:
  std::string path_;
  std::unique_ptr<AtomicFile> file_;  // none: nothing is traced
  bool started_ = false;
};

}  // namespace entangle
