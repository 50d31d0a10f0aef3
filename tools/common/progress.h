// How far a long job is: a bar that redraws itself on a terminal, a plain line now and then when output is piped.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace entangle {

class Progress {
 public:
  // `done` of `total` are behind us already (a resume); time left is judged by what follows.
  Progress(int64_t total, int64_t done = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `text` says what is measured ("epoch 2/8  loss 1.234  2100 img/s"); the share and the time left are added.
  void update(int64_t done, const std::string& text);
  // A line that stays.
  void line(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  std::string left(int64_t done) const;

  bool terminal_;
  int64_t total_, first_;
  Clock::time_point start_, shown_;
};

// 3725 -> "1:02:05", 65 -> "1:05".
std::string duration_text(double seconds);

// printf into a string, for numbers with a fixed number of digits.
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

}  // namespace entangle
