#include "tools/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace entangle {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPipeInterval = std::chrono::seconds(10);
constexpr int kBarWidth = 24;
constexpr const char* kStartOfLine = "\r\x1b[K";  // and erase what stands there

// A line that wraps would not be erased by the next one.
size_t terminal_columns() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

}  // namespace

std::string format(const char* pattern, ...) {
  char text[1024];
  va_list values;
  va_start(values, pattern);
  std::vsnprintf(text, sizeof text, pattern, values);
  va_end(values);
  return text;
}

std::string duration_text(double seconds) {
  const long long whole = static_cast<long long>(seconds + 0.5);
  const long long hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  return hours > 0 ? format("%lld:%02lld:%02lld", hours, minutes, rest) : format("%lld:%02lld", minutes, rest);
}

Progress::Progress(int64_t total, int64_t done)
    : terminal_(isatty(STDOUT_FILENO) == 1), total_(total), first_(done), start_(Clock::now()), shown_(start_) {}

Progress::~Progress() {
  if (terminal_) std::fputs(kStartOfLine, stdout);
  std::fflush(stdout);
}

std::string Progress::left(int64_t done) const {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double each = elapsed / static_cast<double>(std::max<int64_t>(done - first_, 1));
  return duration_text(each * static_cast<double>(total_ - done)) + " left";
}

void Progress::update(int64_t done, const std::string& text) {
  const Clock::time_point now = Clock::now();
  if (terminal_ ? now - shown_ < kTerminalInterval : now - shown_ < kPipeInterval) return;
  shown_ = now;
  const int percent = static_cast<int>(100 * done / total_);
  if (terminal_) {
    const size_t filled = static_cast<size_t>(kBarWidth * done / total_);
    const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
    const std::string line = format("[%s] %3d %%  %s  %s", bar.c_str(), percent, text.c_str(), left(done).c_str());
    std::printf("%s%s", kStartOfLine, line.substr(0, terminal_columns() - 1).c_str());
  } else {
    std::printf("%3d %%  %s  %s\n", percent, text.c_str(), left(done).c_str());
  }
  std::fflush(stdout);
}

void Progress::line(const std::string& text) {
  std::printf("%s%s\n", terminal_ ? kStartOfLine : "", text.c_str());
  std::fflush(stdout);
}

}  // namespace entangle
