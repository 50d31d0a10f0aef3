// Where a run is computed: environment.json in its directory, for those who read its figures later.
#pragma once

#include <map>
#include <string>

#include "engine/kernel.h"

namespace entangle {

inline constexpr const char* kEnvironmentFile = "environment.json";

// The processor's name as the system says it, or "processor".
std::string processor_name();

// Program version, processor, instruction set, threads, device and processes, each by its name.
std::map<std::string, std::string> environment(DeviceKind device, int processes);

// Throws Error when the file cannot be written; or read, or is no object of words.
void write_environment(const std::string& directory, DeviceKind device, int processes);
std::map<std::string, std::string> read_environment(const std::string& directory);

}  // namespace entangle
