#include "tools/common/models.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "data/resize.h"
#include "data/split_list.h"
#include "engine/check.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"

namespace entangle {
namespace {

Architecture published_architecture(const std::string& name) {
  std::string known;
  for (const BuiltinConfig& builtin : builtin_configs()) {
    const Architecture retrain = parse_config(builtin.text, builtin.name).retrain;
    if (retrain.depth == 0) continue;
    if (name == builtin.name) return retrain;
    known += concat(known.empty() ? "" : ", ", "published:", builtin.name);
  }
  RAISE("no published architecture '", name, "'; there are ", known);
}

}  // namespace

Architecture resolve_architecture(const std::string& text, const SearchSpace& space) {
  if (text == "min") return space.smallest();
  if (text == "middle" || text == "mean") return space.middle();
  if (text == "max") return space.largest();
  const std::string published = "published:";
  if (text.rfind(published, 0) == 0) return published_architecture(text.substr(published.size()));
  std::error_code ignored;
  CHECK(std::filesystem::exists(text, ignored), "no architecture '", text,
        "': neither a file nor min, mean, max or published:T|S|B");
  try {
    return Architecture::from_json(read_text_file(text));
  } catch (const Error& error) {
    RAISE("architecture ", text, ": ", error.what());
  }
}

Architecture resolve_architecture(const std::string& text, const Config& config) {
  const bool word = text.empty() || text == "min" || text == "middle" || text == "mean" || text == "max";
  if (config.subnet && word) return config.model.dense;
  CHECK(!text.empty(), "no architecture: give --architecture FILE, min, mean, max or published:T|S|B");
  return resolve_architecture(text, config.space);
}

Config config_of(const std::string& weights, const std::string& config, const std::vector<std::string>& settings) {
  if (!config.empty()) return load_config(config, settings);
  const std::map<std::string, std::string> metadata = read_checkpoint_metadata(weights);
  const auto carried = metadata.find("config");
  CHECK(carried != metadata.end(), weights, " carries no configuration; name its own with --config");
  return parse_config(carried->second, weights, settings);
}

QkvBias qkv_bias_of(const std::string& weights) {
  const std::map<std::string, std::string> metadata = read_checkpoint_metadata(weights);
  const auto bias = metadata.find("qkv_bias");
  return bias != metadata.end() && bias->second == "aligned" ? QkvBias::aligned : QkvBias::contiguous;
}

LoadedModel load_model(const std::string& weights, const std::string& config, DeviceKind device,
                       const std::vector<std::string>& settings) {
  LoadedModel model;
  model.config = config_of(weights, config, settings);
  model.config.model.qkv_bias = qkv_bias_of(weights);
  model.supernet = std::make_unique<Supernet>(model.config.model);
  const auto metadata = load_checkpoint(weights, *model.supernet, false, device);
  const auto record = metadata.find(kSplitRecord);
  if (record != metadata.end()) model.config.data.recorded_split = record->second;
  return model;
}

DataSource open_data_for(const Config& config, const std::string& spec) {
  const std::string& chosen = spec.empty() ? config.data.spec : spec;
  CHECK(!chosen.empty(), "configuration ", config.name, " names no data set; give --data SPEC");
  DataSource source = open_data(chosen, config.data.options);
  source.interpolation = parse_interpolation(config.data.augmentation.interpolation);
  source.max_broken = config.data.max_broken;
  // Small images are used as they are at their own size, and cropped and resized to another.
  source.any_size = source.any_size || (source.side > 0 && source.side != config.model.image_size);
  for (const auto& part : {source.train, source.test}) {
    CHECK(part->classes() == config.model.num_classes, chosen, " has ", part->classes(), " classes, the model ",
          config.model.num_classes, " (MODEL.num_classes)");
    CHECK(part->channels() == config.model.in_channels, chosen, " has ", part->channels(), " channels, the model ",
          config.model.in_channels, " (MODEL.in_channels)");
  }
  return source;
}

std::vector<int64_t> spread(const std::vector<int64_t>& indices, int64_t count) {
  const int64_t size = static_cast<int64_t>(indices.size());
  const int64_t taken = std::min(size, count);
  std::vector<int64_t> some(static_cast<size_t>(taken));
  for (int64_t i = 0; i < taken; ++i) some[static_cast<size_t>(i)] = indices[static_cast<size_t>(i * size / taken)];
  return some;
}

std::vector<int64_t> all_indices(const Dataset& dataset) {
  std::vector<int64_t> indices(static_cast<size_t>(dataset.size()));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

Split training_split(const DataConfig& config, const Dataset& train) {
  if (!config.recorded_split.empty()) return read_split_record(config.recorded_split, train, "the checkpoint");
  if (!config.split.empty()) return read_split_list(config.split, train);
  return make_split(train, config.held_out, config.split_seed);
}

std::string description_of(const Config& config, const DataSource* source) {
  Description out;
  out.model = config.model;
  out.space = config.space;
  if (source != nullptr) {
    out.mean = source->mean;
    out.std_dev = source->std_dev;
  } else if (config.model.in_channels == 3) {
    out.mean = kMean;
    out.std_dev = kStdDev;
  }
  out.always_resize = source == nullptr || source->any_size;
  out.interpolation = parse_interpolation(config.data.augmentation.interpolation);
  return out.to_json();
}

std::vector<int64_t> ranking_images(const Config& config, const DataSource& source) {
  const Split split = training_split(config.data, *source.train);
  const int64_t available = static_cast<int64_t>(split.held_out.size());
  CHECK(config.search.images <= available, "the search is to rank on ", config.search.images,
        " images (SEARCH.images, --images), but training held out ", available,
        " (DATA.held_out, or the list DATA.split)");
  return spread(split.held_out, config.search.images);
}

}  // namespace entangle
