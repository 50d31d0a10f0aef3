#include "engine/patience.h"

#include <algorithm>
#include <thread>

#include "engine/check.h"

namespace entangle {
namespace {

std::chrono::steady_clock::time_point after(double seconds) {
  using Clock = std::chrono::steady_clock;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

Patience::Patience(const CommunicatorOptions& options) : options_(options), end_(after(options.timeout)) {}

bool Patience::over() {
  if (!hurried_ && options_.asked_to_stop && options_.asked_to_stop()) {
    hurried_ = true;
    end_ = std::min(end_, after(options_.timeout_when_asked));
  }
  return Clock::now() >= end_;
}

void Patience::rest() {
  if (++looks_ < 1000) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

std::string no_answer_within(const CommunicatorOptions& options) {
  return concat(" (no answer within ", options.timeout, " s, or within ", options.timeout_when_asked,
                " s once asked to stop)");
}

std::string name_ranks(const std::vector<int>& ranks, int size) {
  std::string names;
  for (const int rank : ranks) names += concat(names.empty() ? "" : ", ", rank);
  return concat("rank ", names, " of 0 .. ", size - 1);
}

}  // namespace entangle
