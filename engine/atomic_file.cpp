#include "engine/atomic_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace entangle {

namespace {

std::string advice(int error, const std::string& directory) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free some space or choose another place";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f) or choose another file system";
    case ENOENT:
    case ENOTDIR:
      return "create the directory " + directory + " first";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose a directory that you may write to";
    case ENAMETOOLONG:
      return "choose a shorter name";
    default:
      return "check the disk or choose another place";
  }
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path)
    : path_(path), temporary_(path + "." + std::to_string(getpid()) + ".tmp"), directory_(directory_of(path)) {
  struct stat status;
  // Renaming over a device or a pipe would replace it.
  CHECK(::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode), path,
        ": cannot be created: it exists and is not a regular file; choose another name");
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  require(descriptor_ >= 0, "created");
  pending_ = true;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (pending_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* from, uint64_t bytes) {
  constexpr uint64_t kOneCall = uint64_t{1} << 30;
  const char* place = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t done = ::write(descriptor_, place, static_cast<size_t>(std::min(bytes, kOneCall)));
    if (done < 0 && errno == EINTR) continue;
    require(done >= 0, "written");
    place += done;
    bytes -= static_cast<uint64_t>(done);
  }
}

void AtomicFile::commit() {
  require(::fsync(descriptor_) == 0, "written to the disk");
  require(::close(std::exchange(descriptor_, -1)) == 0, "closed");
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, "renamed from its temporary name");
  pending_ = false;
  // A directory that may be written but not read, or a file system without this call, is no reason to fail.
  descriptor_ = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) return;
  require(::fsync(descriptor_) == 0 || errno == EINVAL || errno == ENOTSUP, "entered in its directory for good");
}

void AtomicFile::require(bool success, const char* what) const {
  const int error = errno;
  CHECK(success, path_, ": cannot be ", what, ": ", std::strerror(error), "; ", advice(error, directory_));
}

void write_file_atomically(const std::string& path, const std::string& content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

}  // namespace entangle
