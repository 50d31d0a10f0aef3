#include "engine/input_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace entangle {

InputFile::InputFile(const std::string& path, const std::string& kind) : path_(path) {
  // O_NONBLOCK: a named pipe is refused below instead of waiting for its writer.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  CHECK(descriptor_ >= 0, path, ": cannot be opened: ", std::strerror(errno), "; check the path and its permissions");
  struct stat status;
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) ::close(descriptor_);
  CHECK(regular, path, ": is not a regular file; name ", kind);
}

InputFile::~InputFile() { ::close(descriptor_); }

uint64_t InputFile::size() const {
  struct stat status;
  CHECK(::fstat(descriptor_, &status) == 0, path_, ": cannot be examined: ", std::strerror(errno));
  return static_cast<uint64_t>(status.st_size);
}

void InputFile::read(uint64_t offset, void* to, uint64_t bytes) const {
  char* place = static_cast<char*>(to);
  while (bytes > 0) {
    const size_t wanted = static_cast<size_t>(std::min<uint64_t>(bytes, uint64_t{1} << 30));
    const ssize_t got = ::pread(descriptor_, place, wanted, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    CHECK(got >= 0, path_, ": cannot be read at byte ", offset, ": ", std::strerror(errno));
    CHECK(got > 0, path_, ": became shorter while it was read: it ends at byte ", offset, "; write it again");
    place += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
}

std::string InputFile::text(uint64_t offset, uint64_t bytes) const {
  std::string text(static_cast<size_t>(bytes), ' ');
  read(offset, text.data(), bytes);
  return text;
}

}  // namespace entangle
