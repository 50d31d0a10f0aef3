// Runs the built programs as a user does. They are looked for in the folder that ENTANGLE_PROGRAMS names, else here; an
// absolute path is taken as it is.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace entangle {

struct Outcome {
  int status = 0;  // the exit code, or minus the signal that ended it
  std::string out, err;
};

// In bytes; 0: none.
struct Limits {
  size_t largest_file = 0;   // that it may write, as a full disk would limit it
  size_t address_space = 0;  // its memory, as ulimit -v limits it
};

// A running program, with `directory` as its current one; its output goes to files there.
class Running {
 public:
  Running(const std::string& directory, const std::vector<std::string>& command, const Limits& limits = {});
  ~Running();  // kills it when it still runs
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  void signal(int number);
  pid_t process() const { return process_; }
  Outcome wait();

 private:
  std::string directory_;
  pid_t process_ = -1;
};

inline Outcome run_program(const std::string& directory, const std::vector<std::string>& command,
                           const Limits& limits = {}) {
  return Running(directory, command, limits).wait();
}

// Waits until a file has `lines` lines: false after ten seconds.
bool wait_for_lines(const std::string& path, int64_t lines);

}  // namespace entangle
