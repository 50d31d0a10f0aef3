#include "engine/atomic_file.h"

#include <csignal>
#include <filesystem>
#include <string>

#include "tests/files.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace entangle {
namespace {

// Limits the size of files for one scope, as a full disk would.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit lower = {bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &lower);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit limit_;
};

TEST(AtomicFile, FullDiskLeavesTheOldFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  write_file_atomically(path, "old");
  std::string message;
  {
    const FileSizeLimit limit(4096);
    message = error_of([&] { write_file_atomically(path, std::string(100'000, 'x')); });
  }
  expect_error(message, {path, "cannot be written: File too large", "ulimit"});
  EXPECT_EQ(read_raw(path), "old");
  EXPECT_EQ(files_in(directory.root()), 1u);
}

TEST(AtomicFile, PlacesThatCannotBeWritten) {
  const TemporaryDirectory directory;
  const auto error = [&](const std::string& path) { return error_of([&] { write_file_atomically(path, "text"); }); };
  const std::string missing = directory.path("missing/f");
  expect_error(error(missing),
               {missing, "No such file or directory", "create the directory " + directory.path("missing")});
  write_file_atomically(directory.path("file"), "old");
  expect_error(error(directory.path("file/f")), {"Not a directory", "create the directory"});
  expect_error(error(directory.root()), {directory.root(), "not a regular file"});
  expect_error(error("/dev/full"), {"/dev/full", "not a regular file"});
  expect_error(error(directory.path(std::string(300, 'n'))), {"File name too long", "shorter name"});
  EXPECT_EQ(files_in(directory.root()), 1u);
}

TEST(AtomicFile, DirectoryWithoutPermission) {
  const TemporaryDirectory directory;
  ASSERT_EQ(chmod(directory.root().c_str(), 0500), 0);
  // Root may write anywhere, so it becomes nobody for a moment.
  const uid_t user = geteuid(), nobody = 65534;
  if (user == 0 && seteuid(nobody) != 0) GTEST_SKIP() << "root may write anywhere";
  const std::string message = error_of([&] { write_file_atomically(directory.path("f"), "text"); });
  ASSERT_EQ(seteuid(user), 0);
  expect_error(message, {directory.path("f"), "Permission denied", "may write to"});
  ASSERT_EQ(chmod(directory.root().c_str(), 0700), 0);
  EXPECT_EQ(files_in(directory.root()), 0u);
}

TEST(AtomicFile, ReplacesWholeOrNotAtAll) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  write_file_atomically(path, "first, and longer");
  {
    AtomicFile abandoned(path);
    abandoned.write("half", 4);
    EXPECT_EQ(files_in(directory.root()), 2u);
    EXPECT_EQ(read_raw(path), "first, and longer");
  }
  EXPECT_EQ(files_in(directory.root()), 1u);
  write_file_atomically(path, "second");
  EXPECT_EQ(read_raw(path), "second");
  EXPECT_EQ(files_in(directory.root()), 1u);
}

TEST(AtomicFile, NameWithoutDirectory) {
  const TemporaryDirectory directory;
  const std::filesystem::path home = std::filesystem::current_path();
  std::filesystem::current_path(directory.root());
  const std::string message = error_of([] { write_file_atomically("f", "text"); });
  std::filesystem::current_path(home);
  EXPECT_EQ(message, "");
  EXPECT_EQ(read_raw(directory.path("f")), "text");
}

}  // namespace
}  // namespace entangle
