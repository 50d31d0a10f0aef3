// The log of a search: JSON lines, a header that names options and space, then one line a candidate.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "search/search.h"

namespace entangle {

class SearchLog {
 public:
  // Opens the log, or starts it; an empty path keeps none. Cuts off a torn last line. Throws Error when the file cannot
  // be read or written, is not a search log, or is one of other options or another space.
  SearchLog(const std::string& path, const SearchSpace& space, const SearchOptions& options);

  // Takes the next candidate out of the log: sets the accuracy and returns true, or returns false at its end. Throws
  // Error when the log holds anything else than this candidate there.
  bool take(Candidate& candidate);
  // Adds an evaluated candidate at the end, flushed.
  void append(const Candidate& candidate);
  // Throws Error when lines are left that were never taken.
  void check_all_taken() const;

 private:
  void read(const std::string& header);
  void write(const std::string& line);

  std::string path_;
  std::vector<std::string> lines_;  // the candidates' lines found in the file
  size_t taken_ = 0;
  std::ofstream out_;
};

}  // namespace entangle
