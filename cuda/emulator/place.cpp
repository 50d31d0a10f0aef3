#include "cuda/emulator/place.h"

#include <link.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>

#include "engine/check.h"

namespace entangle::emulator {

namespace {

// How far the program was moved when it was loaded.
uintptr_t load_offset() {
  uintptr_t offset = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* to) {
        *static_cast<uintptr_t*>(to) = info->dlpi_addr;
        return 1;  // the first one is the program
      },
      &offset);
  return offset;
}

std::string path_of(const char* link) {
  char path[PATH_MAX] = {};
  const ssize_t length = readlink(link, path, sizeof path - 1);
  return std::string(path, length < 0 ? 0 : static_cast<size_t>(length));
}

// A line of a kernel's own source; launches and the standard library lie around it.
bool is_of_kernel(const std::string& line) {
  return line.find("/usr/") == std::string::npos && line.find("cuda/emulator/") == std::string::npos &&
         line[0] != '?' && line.find(":0") != line.size() - 2 && line.find(":?") == std::string::npos;
}

}  // namespace

std::string text_of_place(uintptr_t pc) {
  char address[32];
  std::snprintf(address, sizeof address, "%#zx", static_cast<size_t>(pc - 1 - load_offset()));
  const std::string program = path_of("/proc/self/exe"), folder = path_of("/proc/self/cwd") + "/";
  const std::string command = "addr2line -i -e '" + program + "' " + address + " 2>/dev/null";
  std::string text;
  FILE* lines = popen(command.c_str(), "r");
  char buffer[PATH_MAX];
  while (lines != nullptr && std::fgets(buffer, sizeof buffer, lines) != nullptr) {
    std::string line(buffer, std::strcspn(buffer, " \n"));  // without "(discriminator 3)"
    if (line.empty() || !is_of_kernel(line)) continue;
    if (line.compare(0, folder.size(), folder) == 0) line.erase(0, folder.size());
    text += (text.empty() ? "" : ", called at ") + line;
  }
  if (lines != nullptr) pclose(lines);
  return text.empty() ? concat(address, " of ", program) : text;
}

}  // namespace entangle::emulator
