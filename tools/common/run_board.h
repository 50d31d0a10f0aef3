// A run's logs on TensorBoard: event files (tools/common/tensorboard.h) that say what the lines of a log say, under the
// names that the numbers have there.
//
//   tensorboard/train                log.jsonl, over steps: loss, lr, img_per_s, memory, held_out/smallest, ...
//   tensorboard/search               search.jsonl, over the number of the candidate
//   tensorboard/search/generations   the best of all candidates up to the end of each generation
//   tensorboard/search-NAME          search-NAME.jsonl, likewise
//
// A board follows its log: it adds the lines that the event files do not have yet, be they new, or of a session that
// wrote no event files, or of one that was killed between a line and its points. So the files of several sessions are
// without gaps and, with what TensorBoard forgets at the start of a session, without points that stand there twice. A
// step that was computed again by a session without event files keeps the speed of its first time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tools/common/config.h"
#include "tools/common/tensorboard.h"

namespace entangle {

// The whole configuration, and where it is computed (tools/common/environment.h), as texts of a board.
std::vector<BoardText> board_texts(const Config& config, const std::map<std::string, std::string>& environment);

// A file that grows by lines.
class GrowingLog {
 public:
  explicit GrowingLog(const std::string& path) : path_(path) {}
  // The whole lines that it has gained since the last call. A line that is torn is read once it is whole.
  std::vector<std::string> take();

 private:
  std::string path_;
  int64_t read_ = 0;  // bytes
};

// Follows log.jsonl.
class TrainingBoard {
 public:
  // Of the run in `run`, whose log has been cut to the step that it goes on from. Throws Error when event files cannot
  // be read or written, as all functions here.
  TrainingBoard(const std::string& run, std::vector<BoardText> texts);
  // Adds what the log has gained.
  void follow();
  // Waits until it is on the disk.
  void sync() { events_.sync(); }

 private:
  void add(const std::vector<std::string>& lines, int64_t known);

  GrowingLog log_;
  EventFiles events_;
};

// Follows the log of a search.
class SearchBoard {
 public:
  // Of the search whose log is NAME.jsonl in `run`.
  SearchBoard(const std::string& run, const std::string& name, const std::vector<BoardText>& texts);
  // Adds what the log has gained, once it is known to be this search's.
  void follow();
  // The search is over, and so is its last generation.
  void finish();

 private:
  void end_generation();

  GrowingLog log_;
  EventFiles candidates_, generations_;
  int64_t known_candidate_ = 0, known_generation_ = -1;  // the last ones of which the event files tell
  int64_t candidate_ = 0, generation_ = -1;              // the last ones of the log
  double best_accuracy_ = -1, best_params_ = 0;          // -1: every candidate was given up so far
};

}  // namespace entangle
