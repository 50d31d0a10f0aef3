#include "nn/checkpoint.h"

#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "engine/check.h"
#include "engine/safetensors.h"
#include "engine/safetensors_header.h"
#include "engine/tensor_file.h"

namespace entangle {

namespace {

const char* const kFormatVersion = "1";
const std::string kOptimizerPrefix = "optimizer.", kAveragePrefix = "optimizer.average/";

// One array of the arena and how its tensors are called in files.
struct Part {
  std::string prefix;
  float* (ParameterArena::*array)() const;
};

std::vector<Part> parts_of(bool optimizer) {
  std::vector<Part> parts = {{"", &ParameterArena::values}};
  if (optimizer) {
    parts.push_back({kOptimizerPrefix + "first_moment/", &ParameterArena::first_moments});
    parts.push_back({kOptimizerPrefix + "second_moment/", &ParameterArena::second_moments});
  }
  return parts;
}

std::vector<int64_t> sizes_of(const Shape& shape) { return {shape.dim, shape.dim + shape.rank}; }

std::string text_of(const std::vector<int64_t>& sizes) {
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

const char* name_of(QkvBias bias) { return bias == QkvBias::aligned ? "aligned" : "contiguous"; }
const char* sharing_of(const SupernetConfig& config) { return config.is_classical() ? "classical" : "entangled"; }

std::string value_or(const std::map<std::string, std::string>& metadata, const std::string& key,
                     const std::string& otherwise) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? otherwise : found->second;
}

void check_metadata(const TensorFile& file, const SupernetConfig& config) {
  const QkvBias expected = config.qkv_bias;
  const std::string version = value_or(file.metadata(), "format_version", kFormatVersion);
  CHECK(version == kFormatVersion, file.path(), ": has the format version ", in_quotes(version),
        ", this program reads ", kFormatVersion, "; use the program that wrote it");
  const auto stated = file.metadata().find("qkv_bias");
  const std::string bias = value_or(file.metadata(), "qkv_bias", name_of(QkvBias::contiguous));
  CHECK(bias == name_of(expected), file.path(), ": its qkv_bias is ", in_quotes(bias),
        stated == file.metadata().end() ? " (as published: the file does not say)" : "", ", the supernet's is ",
        in_quotes(name_of(expected)), "; set qkv_bias in the configuration to that of the file");
  const std::string sharing = value_or(file.metadata(), "sharing", "entangled");
  CHECK(sharing == sharing_of(config), file.path(), ": its weights are shared in the way ", in_quotes(sharing),
        file.metadata().count("sharing") == 0 ? " (as published: the file does not say)" : "", ", the supernet's ",
        in_quotes(sharing_of(config)), "; set MODEL.sharing in the configuration to that of the file");
}

void check_tensor(const TensorFile& file, const std::string& name, const Shape& shape) {
  const auto found = file.tensors().find(name);
  CHECK(found != file.tensors().end(), file.path(), ": tensor ", in_quotes(name),
        " is missing; the file belongs to another configuration or holds no optimiser state");
  const TensorEntry& entry = found->second;
  CHECK(entry.shape == sizes_of(shape), file.path(), ": tensor ", in_quotes(name), " has the shape ",
        text_of(entry.shape), " where the supernet has ", shape.str(),
        "; use the configuration that the file was trained with");
  const bool readable = entry.dtype == "F32" || entry.dtype == "F16" || entry.dtype == "BF16" || entry.dtype == "F64";
  CHECK(readable, file.path(), ": tensor ", in_quotes(name), " holds ", entry.dtype,
        " where F32, F16, BF16 or F64 is needed");
}

void check_tensors(const TensorFile& file, const ParameterArena& parameters, const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    for (const Parameter& parameter : parameters.all()) {
      check_tensor(file, part.prefix + parameter.name, parameter.file_shape);
    }
  }
  for (const auto& [name, entry] : file.tensors()) {
    const bool known = name.compare(0, kOptimizerPrefix.size(), kOptimizerPrefix) == 0 || parameters.find(name);
    CHECK(known, file.path(), ": tensor ", in_quotes(name), " ", text_of(entry.shape),
          " is unknown to the supernet; use the configuration that the file was trained with");
  }
}

}  // namespace

void save_checkpoint(const std::string& path, const Supernet& supernet, const CheckpointContent& content) {
  const ParameterArena& arena = supernet.parameters();
  std::list<std::vector<float>> copies;  // what is not in host memory in the file's order
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& prefix, const float* array) {
    for (const Parameter& parameter : arena.all()) {
      const float* values = array + parameter.offset;
      if (parameter.interleave > 1) {
        copies.push_back(to_file_order(parameter, array));
        values = copies.back().data();
      }
      tensors.push_back({prefix + parameter.name, "F32", sizes_of(parameter.file_shape), values});
    }
  };
  for (const Part& part : parts_of(content.optimizer)) {
    const float* array = (arena.*part.array)();
    CHECK(array != nullptr, "this supernet holds weights for inference only: there is no optimiser state to save");
    if (arena.device() != DeviceKind::cpu) {
      copies.push_back(arena.to_host(array));
      array = copies.back().data();
    }
    add(part.prefix, array);
  }
  if (content.average != nullptr) {
    CHECK(static_cast<int64_t>(content.average->size()) == arena.size(), "an average of ", content.average->size(),
          " elements for an arena of ", arena.size());
    add(kAveragePrefix, content.average->data());
  }
  std::map<std::string, std::string> metadata = content.metadata;
  metadata["format_version"] = kFormatVersion;
  metadata["qkv_bias"] = name_of(supernet.config().qkv_bias);
  metadata["sharing"] = sharing_of(supernet.config());
  write_safetensors(path, tensors, metadata);
}

std::map<std::string, std::string> load_checkpoint(const std::string& path, Supernet& supernet, bool optimizer,
                                                   DeviceKind device) {
  const std::unique_ptr<TensorFile> opened = open_tensor_file(path);
  const TensorFile& file = *opened;
  ParameterArena& parameters = supernet.parameters();
  const std::vector<Part> parts = parts_of(optimizer);
  check_metadata(file, supernet.config());
  check_tensors(file, parameters, parts);
  std::vector<std::vector<float>> values;
  for (const Part& part : parts) {
    for (const Parameter& parameter : parameters.all()) values.push_back(file.read_f32(part.prefix + parameter.name));
  }
  if (!parameters.allocated()) {
    parameters.allocate(device, optimizer ? ArenaUse::training : ArenaUse::inference);
  }
  auto next = values.begin();
  for (const Part& part : parts) {
    float* array = (parameters.*part.array)();
    CHECK(array != nullptr, "this supernet holds weights for inference only: it cannot take optimiser state");
    const bool on_host = parameters.device() == DeviceKind::cpu;
    std::vector<float> staged;  // padding between parameters keeps what it had
    if (!on_host) staged = parameters.to_host(array);
    float* to = on_host ? array : staged.data();
    for (const Parameter& parameter : parameters.all()) from_file_order(parameter, (next++)->data(), to);
    if (!on_host) parameters.from_host(staged, array);
  }
  return file.metadata();
}

std::vector<float> load_average(const std::string& path, const Supernet& supernet) {
  const std::unique_ptr<TensorFile> file = open_tensor_file(path);
  check_metadata(*file, supernet.config());
  std::vector<float> average(static_cast<size_t>(supernet.parameters().size()));
  for (const Parameter& parameter : supernet.parameters().all()) {
    const std::string name = kAveragePrefix + parameter.name;
    check_tensor(*file, name, parameter.file_shape);
    from_file_order(parameter, file->read_f32(name).data(), average.data());
  }
  return average;
}

std::map<std::string, std::string> read_checkpoint_metadata(const std::string& path) {
  return open_tensor_file(path)->metadata();
}

}  // namespace entangle
