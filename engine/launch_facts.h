// What launches ask of a GPU, for those who audit kernels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace entangle {

// One launch.
struct LaunchFacts {
  std::string kernel;    // the GPU's own, of which one in engine/ops.h launches one or more
  int64_t threads;       // of a block; 0: a library's kernel, of which nothing is known
  int64_t shared_bytes;  // of a block
  // As compiled; -1 on an emulated device, which has none. Local memory is where registers go that do not fit.
  int64_t registers = -1, local_bytes = -1;
};

// While not null, every launch is noted there.
inline std::vector<LaunchFacts>* launch_facts = nullptr;

}  // namespace entangle
