// Runs a command line as a shell does.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <string>

#include "engine/check.h"

namespace entangle {

struct ShellResult {
  int status;
  std::string text;  // stdout and stderr
};

inline ShellResult run_shell(const std::string& command) {
  std::FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "r");
  CHECK(pipe != nullptr, "cannot run a shell");
  std::string text;
  for (int c; (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  return {WEXITSTATUS(pclose(pipe)), text};
}

}  // namespace entangle
