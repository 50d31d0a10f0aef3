// The one error path. CHECK stays on in release builds: a wrong shape or a bad file is reported, never undefined.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace entangle {

// What went wrong, with the values, and what to do about it. what() is meant for the user; where() for the developer.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, const char* file = "", int line = 0)
      : std::runtime_error(message), file_(file), line_(line) {}
  std::string where() const { return std::string(file_) + ":" + std::to_string(line_); }

 private:
  const char* file_;
  int line_;
};

// Joins anything that can be streamed into one string.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace entangle

// CHECK(condition, parts...): throws Error with the parts joined when the condition does not hold.
#define CHECK(condition, ...)                                                                       \
  do {                                                                                              \
    if (!(condition)) throw ::entangle::Error(::entangle::concat(__VA_ARGS__), __FILE__, __LINE__); \
  } while (false)

// RAISE(parts...): throws Error unconditionally.
#define RAISE(...) throw ::entangle::Error(::entangle::concat(__VA_ARGS__), __FILE__, __LINE__)
