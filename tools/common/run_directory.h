// A run's directory: one process at a time, never overwritten by accident.
//
//   lock                     held (flock) while a process works in the directory; a dead process does not hold it
//   config.yaml              the whole configuration of the run
//   environment.json         where it is computed (tools/common/environment.h)
//   log.jsonl                one JSON object a line, one line a step
//   checkpoint.safetensors   the newest checkpoint
//   average.safetensors      the average of the weights at that checkpoint, where one is kept (TRAIN.average_decay)
//   search.jsonl, best_architecture.json
//   report.html              a page about all this (tools/common/report.h)
//   tensorboard/             event files with the numbers of the logs, where asked for (tools/common/run_board.h)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tools/common/config.h"

namespace entangle {

class TrainingBoard;

class RunDirectory {
 public:
  // Creates the directory when it is missing, and locks it. Throws Error when it cannot be created or written, or when
  // another process holds it, whose number the message names.
  // To read, it creates and locks nothing: for the other ranks of a run whose first rank holds it.
  enum class Access { read, write };
  explicit RunDirectory(const std::string& path, Access access = Access::write);
  // Leaves no trace of what was not begun: a directory with nothing but the lock and an empty log.
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string config_file() const { return file("config.yaml"); }
  std::string checkpoint_file() const { return file("checkpoint.safetensors"); }
  bool has(const std::string& name) const;

 private:
  void remove_if_unused() const;

  std::string path_, created_;  // the outermost directory that was missing; empty: none
  int lock_ = -1;
};

// The configuration of the run in `output`, to go on with: that of config.yaml, or where a run was killed before it wrote this
// the one that its checkpoint carries. What `wanted` makes of the text, from what the command line says, must be the same;
// `name` is the file's. Throws Error that names the first difference, or that there is no run.
Config resumed_config(const std::string& output,
                      const std::function<Config(const std::string& text, const std::string& name)>& wanted);

// log.jsonl, line by line. A line is complete, or it is the last one and torn: a line is written in one call.
class RunLog {
 public:
  // Opens for appending, after cutting what a resume from `step` repeats: lines of a later step, and a torn last line.
  // Throws Error when a line in the middle is broken, or the file cannot be written.
  RunLog(const std::string& path, int64_t step);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  // Appends `json` and a newline. Throws Error with the system's reason (a full disk).
  void append(const std::string& json);
  // Waits until the lines are on the disk: before the checkpoint that they belong to.
  void sync();
  // Each line to come goes there as well.
  void show_on(std::unique_ptr<TrainingBoard> board);

 private:
  std::string path_;
  int file_ = -1;
  std::unique_ptr<TrainingBoard> board_;
};

}  // namespace entangle
