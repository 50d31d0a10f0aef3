// Turns a PyTorch checkpoint into a .safetensors file, and a checkpoint of ours into one for the published code.
#include <cstdio>
#include <memory>
#include <vector>

#include "engine/check.h"
#include "engine/safetensors.h"
#include "engine/torch_checkpoint.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"
#include "tools/common/cli.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./convert_checkpoint supernet-tiny.pth tiny.safetensors --config T\n"
    "  ./convert_checkpoint runs/T/checkpoint.safetensors published.safetensors\n"
    "What it writes has the published names, order and QKV bias, and loads in Python as it is:\n"
    "  from safetensors.torch import load_file\n"
    "  weights = load_file('published.safetensors')\n"
    "  model.load_state_dict(weights, strict=True)\n";

// The published code takes the QKV bias as one run of numbers, which an aligned one is for one architecture only.
void check_published_bias(const TensorFile& file) {
  const auto found = file.metadata().find("qkv_bias");
  CHECK(found == file.metadata().end() || found->second == "contiguous", file.path(), ": its qkv_bias is ",
        found->second,
        ", which the published code cannot share among architectures; give it one of them: ./export_subnet --weights ",
        file.path(), " --architecture A --form published --output FILE");
}

void check_published_sharing(const TensorFile& file) {
  const auto found = file.metadata().find("sharing");
  CHECK(found == file.metadata().end() || found->second == "entangled", file.path(),
        ": its weights are shared in the way '", found->second,
        "', for which the published code has no place; cut one architecture out: ./export_subnet --weights ",
        file.path(), " --architecture A --output FILE");
}

void print_left_out(const TensorFile& file, size_t moments) {
  if (moments > 0) std::printf("left out: %zu tensors of the optimiser's state\n", moments);
  const auto* torch = dynamic_cast<const TorchCheckpoint*>(&file);
  if (torch == nullptr) return;
  for (const auto& [key, value] : torch->others()) std::printf("left out: %s: %s\n", key.c_str(), value.c_str());
}

void convert(const std::string& in, const std::string& out, const std::string& config) {
  const std::unique_ptr<TensorFile> file = open_tensor_file(in);
  check_published_sharing(*file);
  check_published_bias(*file);
  std::map<std::string, std::string> metadata = file->metadata();
  metadata["format_version"] = "1";
  metadata["qkv_bias"] = "contiguous";
  if (!config.empty() || metadata.count("config") != 0) {
    const Config full = load_model(in, config, DeviceKind::cpu).config;
    metadata["config"] = full.to_yaml();
    metadata[kDescriptionKey] = description_of(full, nullptr);
  }
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<TensorToWrite> tensors;
  const std::string state = "optimizer.";
  for (const auto& [name, entry] : file->tensors()) {
    if (name.rfind(state, 0) == 0) continue;
    bytes.push_back(file->read_bytes(name));
    tensors.push_back({name, entry.dtype, entry.shape, bytes.back().data()});
  }
  CHECK(!tensors.empty(), in, ": holds no tensor");
  write_safetensors(out, tensors, metadata);
  print_left_out(*file, file->tensors().size() - tensors.size());
  std::printf("wrote %zu tensors to %s\n", tensors.size(), out.c_str());
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Converts checkpoints: PyTorch's .pth to .safetensors, and ours to what the published code loads.",
                  kExamples);
  std::string in, out, config;
  program.app().add_option("IN", in, "a .pth or .safetensors file")->required();
  program.app().add_option("OUT", out, "the .safetensors file to write")->required();
  program.app().add_option("--config", config,
                           "its configuration: the weights are checked against it, and the file then carries it");
  return program.run(argc, argv, [&] { convert(in, out, config); });
}
