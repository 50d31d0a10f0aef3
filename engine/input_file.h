// A file that is read at any place, checked once.
#pragma once

#include <cstdint>
#include <string>

namespace entangle {

// Stays open: reads go to the file that was checked, whatever is renamed over it. read() may be called from several
// threads at once.
class InputFile {
 public:
  // Throws Error with the system's reason, or when `path` is no regular file; `kind` says what to name instead ("a
  // .safetensors file").
  InputFile(const std::string& path, const std::string& kind);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const;  // in bytes, now
  // Throws Error when the file ends before all bytes are read.
  void read(uint64_t offset, void* to, uint64_t bytes) const;
  std::string text(uint64_t offset, uint64_t bytes) const;

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace entangle
