#include "tests/program_runner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "tests/files.h"

namespace entangle {
namespace {

std::string program_path(const std::string& name) {
  const char* folder = std::getenv("ENTANGLE_PROGRAMS");
  const std::string path = std::filesystem::absolute(std::filesystem::path(folder == nullptr ? "." : folder) / name);
  CHECK(access(path.c_str(), X_OK) == 0, "there is no program ", path, ": build it, or set ENTANGLE_PROGRAMS");
  return path;
}

// In the child: never returns.
[[noreturn]] void become(const std::string& directory, std::vector<char*> arguments, const Limits& limits) {
  if (chdir(directory.c_str()) != 0) _exit(126);
  dup2(open("stdout", O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
  dup2(open("stderr", O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
  if (limits.address_space > 0) {
    const rlimit limit = {limits.address_space, limits.address_space};
    setrlimit(RLIMIT_AS, &limit);
  }
  if (limits.largest_file > 0) {
    const rlimit limit = {limits.largest_file, limits.largest_file};
    setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, SIG_IGN);  // write() then fails, as it does on a full disk
  }
  execv(arguments[0], arguments.data());
  _exit(127);
}

}  // namespace

Running::Running(const std::string& directory, const std::vector<std::string>& command, const Limits& limits)
    : directory_(directory) {
  std::vector<std::string> words = command;
  words[0] = program_path(words[0]);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  process_ = fork();
  CHECK(process_ >= 0, "cannot start a process");
  if (process_ == 0) become(directory, arguments, limits);
}

Running::~Running() {
  if (process_ < 0) return;
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
}

void Running::signal(int number) { kill(process_, number); }

Outcome Running::wait() {
  int status = 0;
  waitpid(process_, &status, 0);
  process_ = -1;
  return {WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status), read_raw(directory_ + "/stdout"),
          read_raw(directory_ + "/stderr")};
}

bool wait_for_lines(const std::string& path, int64_t lines) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < end) {
    const std::string text = read_raw(path);
    if (std::count(text.begin(), text.end(), '\n') >= lines) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace entangle
