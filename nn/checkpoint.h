// Checkpoints: one safetensors file with the weights under the published names and in the published row order, the
// optimiser's moments, and counters and configuration as metadata.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "nn/supernet.h"

namespace entangle {

// Metadata keys that this file writes or reads; callers may add their own.
//   format_version  "1"          qkv_bias  "aligned" | "contiguous" (a file without it is the published kind:
//   contiguous)
//   sharing         "entangled" | "classical" (SupernetConfig::classical; a file without it is entangled)
// Moments are stored as "optimizer.first_moment/<name>" and "optimizer.second_moment/<name>", an average of the weights
// over steps as "optimizer.average/<name>".
struct CheckpointContent {
  bool optimizer = true;
  const std::vector<float>* average = nullptr;  // in the arena's layout, in host memory; null: none
  std::map<std::string, std::string> metadata;
};

void save_checkpoint(const std::string& path, const Supernet& supernet, const CheckpointContent& content);

// Loads weights (and moments when asked for) of a .safetensors file, or weights of a PyTorch checkpoint
// (engine/torch_checkpoint.h). Throws Error naming the tensor that is missing, unknown, of another shape or type, or the
// file's qkv_bias or sharing when it is not the supernet's; the supernet is then unchanged. A supernet without memory gets it, on
// `device`, once the file is known to fit. Returns the metadata, of which a PyTorch checkpoint has none.
std::map<std::string, std::string> load_checkpoint(const std::string& path, Supernet& supernet, bool optimizer,
                                                   DeviceKind device = DeviceKind::cpu);

// The average of the weights in the file, in the supernet's arena's layout. Throws Error as load_checkpoint.
std::vector<float> load_average(const std::string& path, const Supernet& supernet);

// The metadata alone.
std::map<std::string, std::string> read_checkpoint_metadata(const std::string& path);

}  // namespace entangle
