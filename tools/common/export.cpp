#include "tools/common/export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/evaluation_images.h"
#include "data/loader.h"
#include "engine/atomic_file.h"
#include "engine/check.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"
#include "nn/subnet.h"
#include "tools/common/onnx_evaluate.h"
#include "tools/common/onnx_graph.h"

namespace entangle {
namespace {

using Json = nlohmann::ordered_json;

Config config_of_form(const LoadedModel& model, const Architecture& architecture, ExportForm form) {
  if (form != ExportForm::published) return model.config.dense(architecture);
  CHECK(
      !model.config.subnet,
      "the published code takes the shapes of a supernet, not of one architecture; export from the supernet's weights");
  CHECK(!model.config.model.is_classical(),
        "the published code shares weights by entanglement, and has no place for those of MODEL.sharing=classical; use "
        "--form dense");
  Config config = model.config;
  config.model.qkv_bias = QkvBias::contiguous;
  return config;
}

bool called_onnx(const std::string& path) {
  const std::string end = ".onnx";
  return path.size() >= end.size() && path.compare(path.size() - end.size(), end.size(), end) == 0;
}

// The bytes of the ONNX file, and the logits that they give.
std::pair<std::string, std::vector<float>> onnx_and_logits(const Supernet& subnet, const Tensor& images,
                                                           const std::map<std::string, std::string>& metadata) {
  CHECK(subnet.config().precision == Precision::fp32, "an ONNX model computes in fp32: add --precision fp32");
  OnnxModel graph = onnx_of(subnet);
  graph.metadata = metadata;
  const std::string bytes = onnx_bytes(graph);
  const std::vector<double> logits =
      evaluate_onnx(read_onnx(bytes, "what was to be written"), images.to_vector(), images.size(0));
  return {bytes, {logits.begin(), logits.end()}};
}

}  // namespace

ExportForm export_form(const std::string& word, const std::string& output) {
  const std::map<std::string, ExportForm> forms = {
      {"dense", ExportForm::dense}, {"published", ExportForm::published}, {"onnx", ExportForm::onnx}};
  if (word.empty()) return called_onnx(output) ? ExportForm::onnx : ExportForm::dense;
  const auto form = forms.find(word);
  CHECK(form != forms.end(), "--form is '", word, "', but must be dense, published or onnx");
  CHECK(form->second == ExportForm::onnx || !called_onnx(output), output, " is called .onnx, but --form ", word,
        " writes .safetensors; name it so");
  return form->second;
}

Tensor images_to_check(const Config& config, const DataSource* source, int64_t count) {
  const SupernetConfig& m = config.model;
  const Shape shape = {count, m.in_channels, m.image_size, m.image_size};
  std::vector<float> pixels(static_cast<size_t>(shape.count()));
  if (source != nullptr) {
    const Split split = training_split(config.data, *source->train);
    const std::vector<int64_t> indices = spread(split.held_out.empty() ? split.train : split.held_out, count);
    const Batch batch = load_for_evaluation(*source->train, *source, indices, 0, count, m.image_size);
    return Tensor::from({batch.count, m.in_channels, m.image_size, m.image_size}, batch.images);
  }
  Rng rng(0, Stream::synthetic);
  std::generate(pixels.begin(), pixels.end(), [&] { return static_cast<float>(normal(rng)); });
  return Tensor::from(shape, pixels);
}

double check_logits(const std::vector<float>& got, const std::vector<float>& want, const Architecture& architecture) {
  CHECK(got.size() == want.size(), "the export gives ", got.size(), " logits where the supernet's view gives ",
        want.size());
  const double c = 8.0 * (2 * architecture.depth + 2) * 0x1p-24;
  double scale = 0, largest = 0;
  for (const float value : want) scale = std::max(scale, std::fabs(static_cast<double>(value)));
  for (size_t i = 0; i < want.size(); ++i) {
    const double expected = want[i], difference = std::fabs(got[i] - expected);
    CHECK(difference <= c * (std::fabs(expected) + scale), "the export does not answer as the supernet's view: logit ",
          i, " is ", got[i], " where the view has ", expected, "; nothing was written");
    largest = std::max(largest, difference);
  }
  return largest;
}

std::string runner_metadata(const Config& config, const DataSource* source) {
  const SupernetConfig& m = config.model;
  CHECK(source != nullptr || m.in_channels == 3, "the normalisation of images with ", m.in_channels,
        " channels is that of their data set; name it with --data");
  Json hidden = Json::array();
  for (int64_t i = 0; i < m.depth; ++i) hidden.push_back(hidden_width(m.embed_dim, m.ratio_of(i)));
  const Json json = {{"image_size", m.image_size},
                     {"patch_size", m.patch_size},
                     {"in_channels", m.in_channels},
                     {"num_classes", m.num_classes},
                     {"embed_dim", m.embed_dim},
                     {"head_dim", m.head_dim},
                     {"num_heads", m.dense.num_heads},
                     {"hidden", hidden},
                     {"max_relative_position", m.relative_position ? m.max_relative_position : 0},
                     {"absolute_position", m.absolute_position},
                     {"global_pool", m.global_pool},
                     {"bias_interleaved", m.qkv_bias == QkvBias::aligned},
                     {"mean", source != nullptr ? source->mean : kMean},
                     {"std", source != nullptr ? source->std_dev : kStdDev},
                     {"always_resize", source == nullptr || source->any_size},
                     {"bilinear", config.data.augmentation.interpolation == "bilinear"}};
  return json.dump();
}

double export_subnet(const LoadedModel& model, const Architecture& architecture, ExportForm form, const Tensor& images,
                     const DataSource* source, const std::string& output) {
  const Config config = config_of_form(model, architecture, form);
  Supernet subnet(config.model, 0);
  CheckpointContent content;
  content.optimizer = false;
  content.metadata = {{"architecture", architecture.to_json()},
                      {"config", config.to_yaml()},
                      {kDescriptionKey, description_of(config, source)}};
  const std::string& held_out = model.config.data.recorded_split;
  if (!held_out.empty()) content.metadata[kSplitRecord] = held_out;
  if (form == ExportForm::published) {
    lay_out_for_published_code(*model.supernet, architecture, subnet);
  } else {
    // Whoever runs a graph may know the normalisation better than the file.
    const bool known = source != nullptr || config.model.in_channels == 3;
    if (form == ExportForm::dense || known) content.metadata["runner"] = runner_metadata(config, source);
    inherit_weights(*model.supernet, architecture, subnet);
  }
  const std::vector<float> want = model.supernet->forward(images, architecture).to_vector();
  if (form == ExportForm::onnx) {
    const auto [bytes, logits] = onnx_and_logits(subnet, images, content.metadata);
    const double difference = check_logits(logits, want, architecture);
    write_file_atomically(output, bytes);
    return difference;
  }
  const double difference = check_logits(subnet.forward(images, architecture).to_vector(), want, architecture);
  save_checkpoint(output, subnet, content);
  return difference;
}

}  // namespace entangle
