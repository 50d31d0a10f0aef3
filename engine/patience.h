// How long a process waits for others, and what it says when they do not come.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/communicator.h"

namespace entangle {

// The time that one call may still wait; `options` must outlive it.
class Patience {
 public:
  explicit Patience(const CommunicatorOptions& options);

  // Whether it has ended. Asks whether this process was asked to stop, which shortens it.
  bool over();
  // Between two looks: others may need the core.
  void rest();

 private:
  using Clock = std::chrono::steady_clock;

  const CommunicatorOptions& options_;
  Clock::time_point end_;
  bool hurried_ = false;
  int64_t looks_ = 0;
};

// " (no answer within 60 s, or within 10 s once asked to stop)"
std::string no_answer_within(const CommunicatorOptions& options);
// "rank 1, 3 of 0 .. 3"
std::string name_ranks(const std::vector<int>& ranks, int size);

}  // namespace entangle
