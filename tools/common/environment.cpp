#include "tools/common/environment.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/parallel.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"

namespace entangle {

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    // Some processors have a number and no name.
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  }
  return "processor";
}

std::map<std::string, std::string> environment(DeviceKind device, int processes) {
  return {{"program", kVersion},
          {"processor", processor_name()},
          {"instruction set", name_of(cpu_path())},
          {"threads", std::to_string(threads())},
          {"device", device == DeviceKind::cpu ? "cpu" : "cuda"},
          {"processes", std::to_string(processes)}};
}

void write_environment(const std::string& directory, DeviceKind device, int processes) {
  const nlohmann::json json = environment(device, processes);
  write_file_atomically(directory + "/" + kEnvironmentFile,
                        json.dump(1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n");
}

std::map<std::string, std::string> read_environment(const std::string& directory) {
  const std::string path = directory + "/" + kEnvironmentFile;
  const nlohmann::json json = nlohmann::json::parse(read_text_file(path), nullptr, false);
  CHECK(json.is_object(), path, " is no JSON object");
  std::map<std::string, std::string> words;
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) words[name] = value.get<std::string>();
  }
  return words;
}

}  // namespace entangle
