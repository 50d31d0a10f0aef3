// From what a command line says to what a program works with: weights, architectures, data.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "nn/supernet.h"
#include "tools/common/config.h"

namespace entangle {

// --architecture: `min`, `middle` (or `mean`), `max` of the space; `published:T|S|B`; or a file in the published form.
// Throws Error naming what is wrong, and the known words when there is no such file.
Architecture resolve_architecture(const std::string& text, const SearchSpace& space);

// The same of a configuration; for weights of one architecture every word names that one, as does an empty text.
Architecture resolve_architecture(const std::string& text, const Config& config);

struct LoadedModel {
  Config config;
  std::unique_ptr<Supernet> supernet;
};

// The configuration of weights: `config` where that is not empty, otherwise the one that the file carries; `settings` as in
// load_config. Throws Error when there is neither.
Config config_of(const std::string& weights, const std::string& config, const std::vector<std::string>& settings = {});

// How the weights of a file share the QKV bias: as it says; contiguous, as published, when it does not.
QkvBias qkv_bias_of(const std::string& weights);

// --weights with their configuration, for inference. The layout of the QKV bias is the file's. Throws Error when there is no
// configuration, or when the weights do not fit it.
LoadedModel load_model(const std::string& weights, const std::string& config, DeviceKind device,
                       const std::vector<std::string>& settings = {});

// The data set of a configuration, or of `spec` when that is not empty. Throws Error when none is named, or when its
// classes or channels are not the model's.
DataSource open_data_for(const Config& config, const std::string& spec = "");

// `count` of the indices (all of them when there are fewer), spread evenly over the list: of a data set that is sorted
// by class, some of each class.
std::vector<int64_t> spread(const std::vector<int64_t>& indices, int64_t count);
std::vector<int64_t> all_indices(const Dataset& dataset);

// What training holds out and what it trains on: as the weights recorded it (data.recorded_split), as the list data.split says, or
// drawn. Throws Error when a record or a list is not of this data.
Split training_split(const DataConfig& config, const Dataset& train);

// Metadata of a weights file for entangle/inference.h (entangle/description.h). Without a `source` images of three channels are
// taken as ImageNet's, and the normalisation of others is left open.
std::string description_of(const Config& config, const DataSource* source);

// ImageNet's, for weights whose data set is not at hand.
inline const std::vector<float> kMean = {0.485f, 0.456f, 0.406f}, kStdDev = {0.229f, 0.224f, 0.225f};

// Metadata of a checkpoint: the key of that record.
inline constexpr const char* kSplitRecord = "held_out";

// The held-out images that rank the candidates of a search. Throws Error when there are fewer than SEARCH.images.
std::vector<int64_t> ranking_images(const Config& config, const DataSource& source);

}  // namespace entangle
