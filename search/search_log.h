// The log of a search: JSON lines. A header that names options and space, one line a candidate, and a last one, "end",
// once the search is over and its winner is known.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "search/search.h"

namespace entangle {

// One search's log, open for reading back and for going on.
class SearchLog {
 public:
  // An empty path keeps no log. Of several processes one writes; the others read what is there when the search begins.
  enum class Access { read, write };
  explicit SearchLog(const std::string& path, Access access = Access::write) : path_(path), access_(access) {}

  // Opens the log, or starts it. Cuts off a torn last line. Throws Error when the file cannot be read or written, is not a
  // search log, or is one of other options or another space.
  void open(const SearchSpace& space, const SearchOptions& options);

  // Takes the next candidate out of the log: sets accuracy, images and stopped and returns true, or returns false at its
  // end. Throws Error when the log holds anything else than this candidate there.
  bool take(Candidate& candidate);
  // Adds an evaluated candidate at the end, flushed.
  void append(const Candidate& candidate);
  // Throws Error when lines are left that were never taken.
  void check_all_taken() const;

  // What was recorded when the search was over, as JSON; empty when it was not.
  const std::string& end() const { return end_; }
  void record_end(const std::string& json);

 private:
  void read(const std::string& header);
  void write(const std::string& line);  // by the one that writes

  std::string path_;
  Access access_;
  std::vector<std::string> lines_;  // the candidates' lines found in the file
  size_t taken_ = 0;
  std::string end_;
  std::ofstream out_;
};

}  // namespace entangle
