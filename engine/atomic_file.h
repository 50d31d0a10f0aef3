// Files that appear under their final name whole or not at all.
#pragma once

#include <cstdint>
#include <string>

namespace entangle {

// A file under a temporary name (the path, the process id, ".tmp") in the same directory until commit() fsyncs it,
// renames it over `path` and fsyncs the directory: the final name holds the old file or the whole new one, whatever
// happens. Without commit() the temporary file is removed.
//
// Every failure throws Error with the system's reason and what to do. A write beyond the limit on file sizes is such a
// failure only where the process ignores SIGXFSZ; otherwise the system ends the process.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* from, uint64_t bytes);
  void commit();

 private:
  void require(bool success, const char* what) const;

  std::string path_, temporary_, directory_;
  int descriptor_ = -1;
  bool pending_ = false;  // whether the temporary file is ours to remove
};

// The whole content of a small file in one call.
void write_file_atomically(const std::string& path, const std::string& content);

}  // namespace entangle
