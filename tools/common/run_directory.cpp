#include "tools/common/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/check.h"
#include "nn/checkpoint.h"
#include "tools/common/run_board.h"

namespace entangle {
namespace {

// Length of the part of a log that ends with step `step`.
size_t kept_length(const std::string& path, const std::string& text, int64_t step) {
  size_t begin = 0;
  for (int64_t line = 1; begin < text.size(); ++line) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // torn
    const auto json = nlohmann::json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                            text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    const bool valid = json.is_object() && json.contains("step") && json["step"].is_number_integer();
    // A power cut may leave a last line of zeros that has its newline: torn as well.
    if (!valid && end + 1 == text.size()) break;
    CHECK(valid, path, ": line ", line, " is not a step's record; remove the file to resume without the earlier log");
    if (json["step"].get<int64_t>() > step) break;
    begin = end + 1;
  }
  return begin;
}

// Removes the temporary files (NAME.PROCESS.tmp, engine/atomic_file.h) of a process that was killed while it wrote.
void remove_leftovers(const std::string& path) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path, ignored)) {
    const std::filesystem::path name = entry.path().filename(), numbered = name.stem();
    const std::string process = numbered.extension().string();
    const bool is_number = process.size() > 1 && process.find_first_not_of("0123456789", 1) == std::string::npos;
    if (name.extension() == ".tmp" && is_number) std::filesystem::remove(entry.path(), ignored);
  }
}

// The outermost directory of a path that does not exist; empty when all do.
std::string first_missing(const std::filesystem::path& path) {
  std::error_code ignored;
  std::filesystem::path missing;
  for (std::filesystem::path at = path; !at.empty() && !std::filesystem::exists(at, ignored); at = at.parent_path()) {
    missing = at;
  }
  return missing;
}

// Whether the open file is still the one of that name: one that ends may have removed it since it was opened.
bool is_file(int file, const std::string& path) {
  struct stat own = {}, there = {};
  return fstat(file, &own) == 0 && stat(path.c_str(), &there) == 0 && own.st_ino == there.st_ino &&
         own.st_dev == there.st_dev;
}

// Opens and locks the file in `directory`.
int take_lock(const std::string& directory, const std::string& path) {
  for (;;) {
    const int lock = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CHECK(lock >= 0, "cannot write in ", directory, ": ", std::strerror(errno), "; choose another with --output");
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
      char holder[32] = {};
      const ssize_t length = read(lock, holder, sizeof holder - 1);
      close(lock);
      RAISE(directory, " is in use by process ", length > 0 ? holder : "?",
            ": wait for it or choose another with --output");
    }
    if (is_file(lock, path)) return lock;
    close(lock);
  }
}

}  // namespace

RunDirectory::RunDirectory(const std::string& path, Access access) : path_(path) {
  if (access == Access::read) return;
  created_ = first_missing(path);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  CHECK(!error && std::filesystem::is_directory(path), "cannot create the directory ", path, ": ",
        error ? error.message() : "a file is in the way", "; choose another with --output");
  lock_ = take_lock(path, file("lock"));
  const std::string process = std::to_string(getpid());
  const bool written = ftruncate(lock_, 0) == 0 && write(lock_, process.data(), process.size()) > 0;
  if (!written) {
    const int reason = errno;
    close(lock_);
    RAISE("cannot write in ", path, ": ", std::strerror(reason), "; choose another with --output");
  }
  remove_leftovers(path);
}

RunDirectory::~RunDirectory() {
  if (lock_ < 0) return;
  remove_if_unused();
  close(lock_);
}

void RunDirectory::remove_if_unused() const {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path_, ignored)) {
    const std::string name = entry.path().filename();
    if (name != "lock" && !(name == "log.jsonl" && std::filesystem::is_empty(entry.path(), ignored))) return;
  }
  std::filesystem::remove(file("log.jsonl"), ignored);
  std::filesystem::remove(file("lock"), ignored);
  if (created_.empty()) return;
  for (std::filesystem::path at = path_; std::filesystem::remove(at, ignored) && at != created_;) at = at.parent_path();
}

bool RunDirectory::has(const std::string& name) const {
  std::error_code ignored;
  return std::filesystem::exists(file(name), ignored);
}

Config resumed_config(const std::string& output,
                      const std::function<Config(const std::string& text, const std::string& name)>& wanted) {
  const std::string stored = output + "/config.yaml", checkpoint = output + "/checkpoint.safetensors";
  std::string text, name = stored;
  if (std::filesystem::exists(stored)) {
    text = read_text_file(stored);
  } else if (std::filesystem::exists(checkpoint)) {
    const auto metadata = read_checkpoint_metadata(name = checkpoint);
    const auto carried = metadata.find("config");
    if (carried != metadata.end()) text = carried->second;
  }
  CHECK(!text.empty(), output, " holds no run to resume; start one without --resume");
  const Config before = parse_config(text, name);
  const std::string difference = first_difference(before, wanted(text, name));
  CHECK(difference.empty(), "a resumed run keeps its configuration, but ", difference,
        "; leave that away, or start another run with --output");
  return before;
}

RunLog::RunLog(const std::string& path, int64_t step) : path_(path) {
  std::error_code ignored;
  const std::string text = std::filesystem::exists(path, ignored) ? read_text_file(path) : "";
  const size_t keep = kept_length(path, text, step);
  file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  CHECK(file_ >= 0, "cannot write ", path, ": ", std::strerror(errno));
  if (ftruncate(file_, static_cast<off_t>(keep)) != 0) {
    const int reason = errno;
    close(file_);
    RAISE("cannot cut ", path, " to its first ", keep, " bytes: ", std::strerror(reason));
  }
}

RunLog::~RunLog() { close(file_); }

void RunLog::append(const std::string& json) {
  const std::string line = json + "\n";
  const ssize_t written = write(file_, line.data(), line.size());
  CHECK(written == static_cast<ssize_t>(line.size()), "cannot write ", path_, ": ",
        std::strerror(written < 0 ? errno : ENOSPC));
  if (board_ != nullptr) board_->follow();
}

void RunLog::sync() {
  CHECK(fsync(file_) == 0, "cannot write ", path_, ": ", std::strerror(errno));
  if (board_ != nullptr) board_->sync();
}

void RunLog::show_on(std::unique_ptr<TrainingBoard> board) { board_ = std::move(board); }

}  // namespace entangle
