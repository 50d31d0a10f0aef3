#include "engine/system_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "engine/device.h"
#include "engine/memory.h"

#if defined(__linux__)
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace entangle {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

#if defined(__linux__)

// The whole number behind `key` in a file of lines "key number ..."; without a key, the number that the file starts
// with. kUnknown when there is none (a control group without a limit says "max").
int64_t number_in(const std::string& path, const std::string& key = "") {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    if (!key.empty() && (!(words >> word) || word != key)) continue;
    int64_t number;
    return words >> number ? number : kUnknown;
  }
  return kUnknown;
}

int64_t system_available() {
  const int64_t kib = number_in("/proc/meminfo", "MemAvailable:");
  return kib > kUnknown / 1024 ? kUnknown : kib * 1024;
}

// What a control group leaves: its limit less what it uses, of which cached files can be dropped.
int64_t group_available(const std::string& folder, const char* limit_file, const char* usage_file) {
  const int64_t limit = number_in(folder + limit_file), used = number_in(folder + usage_file);
  if (limit == kUnknown || used == kUnknown) return kUnknown;
  const int64_t cached = number_in(folder + "memory.stat", "inactive_file");
  return std::max<int64_t>(0, limit - used + (cached == kUnknown ? 0 : cached));
}

// Of this process's own group, and of the one that a container sees as the root.
int64_t groups_available() {
  int64_t least = kUnknown;
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {  // "4:memory:/path", or "0::/path" for version 2
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    for (const std::string& inside : {path + "/", std::string("/")}) {
      if (controllers.empty()) {
        least = std::min(least, group_available("/sys/fs/cgroup" + inside, "memory.max", "memory.current"));
      } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
        least = std::min(
            least, group_available("/sys/fs/cgroup/memory" + inside, "memory.limit_in_bytes", "memory.usage_in_bytes"));
      }
    }
  }
  return least;
}

int64_t address_space_available() {
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnknown;
  const int64_t pages = number_in("/proc/self/statm");
  if (pages == kUnknown) return kUnknown;
  return std::max<int64_t>(0, static_cast<int64_t>(limit.rlim_cur) - pages * sysconf(_SC_PAGESIZE));
}

int64_t host_available() { return std::min({system_available(), groups_available(), address_space_available()}); }

#else

int64_t host_available() { return kUnknown; }

#endif

}  // namespace

int64_t available_memory(DeviceKind device) {
  const int64_t system = device == DeviceKind::cpu ? host_available() : device_memory_free();
  const MemoryCounters pool = memory_counters(device);
  const int64_t held = pool.reserved - pool.in_use;
  return system > kUnknown - held ? kUnknown : system + held;
}

}  // namespace entangle
