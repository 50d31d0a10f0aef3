// What one rank of the emulated NCCL sends to another, or receives from it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/emulator/collective.h"
#include "cuda/emulator/nccl.h"

namespace entangle::emulator {

struct Point {
  std::shared_ptr<Communicator> communicator;
  bool sends;
  int peer;
  int32_t type;
  size_t count;
  char* memory;

  size_t bytes() const { return count * size_of(type); }
  const char* name() const { return sends ? "ncclSend" : "ncclRecv"; }
  std::string text() const;
  Meeting::Mailbox& mailbox() const;
  // What is wrong with the memory that it was given, or an empty string.
  std::string fault() const;
  // Of a piece. They return the fault or an empty string.
  std::string post(size_t offset) const;
  std::string take(size_t offset) const;
};

// Those of one group and one stream, which go on side by side: of each the first piece, then of each the second.
ncclResult_t enqueue_points(const std::vector<Point>& points, cudaStream_t stream);

}  // namespace entangle::emulator
