#include "tools/common/parity.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/check.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "engine/safetensors.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "nn/supernet.h"

namespace entangle {
namespace {

using Json = nlohmann::json;

constexpr double kLogits = 2e-5, kGradient = 1e-4, kWeights = 2e-5;
constexpr double kNoiseFloor = 1.0 / 1024;  // of the case's largest gradient

// Largest |got - want|; NaN as soon as one difference is not a number.
double largest_difference(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
  CHECK(got.size() == want.size(), what, ": the golden folder has ", want.size(), " values, the network ", got.size());
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(difference <= largest)) largest = difference;
    if (std::isnan(largest)) return largest;
  }
  return largest;
}

double largest_magnitude(const std::vector<float>& values) {
  double largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

// What the JSON library says, without its own numbering in front.
std::string reason_of(const Json::exception& e) {
  const std::string text = e.what();
  const size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

class Golden {
 public:
  Golden(const std::string& folder, DeviceKind device) : folder_(folder), device_(device) {
    const std::string path = folder + "/cases.json";
    std::ifstream in(path);
    CHECK(in.good(), path, ": cannot be read; a golden folder holds cases.json, weights, batch and cases");
    try {
      cases_ = Json::parse(in);
      read_supernet(cases_.at("supernet"));
    } catch (const Json::exception& e) {
      RAISE(path, ": ", reason_of(e));
    }
    const SafetensorsFile batch(folder + "/batch.safetensors");
    const int64_t size = config_.image_size, channels = config_.in_channels;
    const std::vector<float> images = batch.read_f32("images");
    const int64_t count = static_cast<int64_t>(images.size()) / (channels * size * size);
    images_ = Tensor::from({count, channels, size, size}, images, device_);
    targets_ = Tensor::from({count, config_.num_classes}, batch.read_f32("soft_targets"), device_);
  }

  std::vector<ParityRow> run() {
    try {
      CHECK(!cases_.at("cases").empty(), folder_, "/cases.json: holds no case to compare");
      load_weights();
      for (size_t i = 0; i < cases_.at("cases").size(); ++i) run_case(i);
      if (cases_.contains("optimizer")) run_optimizer(cases_.at("optimizer"));
    } catch (const Json::exception& e) {
      RAISE(folder_, "/cases.json: ", reason_of(e));
    }
    return rows_;
  }

 private:
  void read_supernet(const Json& s) {
    config_.image_size = s.at("img_size");
    config_.patch_size = s.at("patch_size");
    config_.in_channels = s.at("in_chans");
    config_.num_classes = s.at("num_classes");
    config_.embed_dim = s.at("embed_dim");
    config_.depth = s.at("depth");
    config_.num_heads = s.at("num_heads");
    CHECK(config_.num_heads > 0, folder_, "/cases.json: num_heads must be positive");
    config_.head_dim = config_.embed_dim / config_.num_heads;
    config_.mlp_ratio = s.at("mlp_ratio");
    config_.global_pool = s.at("global_pool");
    config_.relative_position = s.at("relative_position");
    config_.max_relative_position = s.at("max_relative_position");
    config_.qkv_bias = QkvBias::contiguous;
  }

  void load_weights() {
    supernet_ = std::make_unique<Supernet>(config_, 0, device_);
    load_checkpoint(folder_ + "/weights.safetensors", *supernet_, false);
  }

  Architecture architecture(size_t i) const {
    return Architecture::from_json(cases_.at("cases").at(i).at("arch").dump());
  }

  void report(const std::string& what, double difference, double allowed) {
    rows_.push_back({what, difference, allowed});
  }

  // Forward and backward on the golden batch; the gradients are left in the arena. Returns the loss.
  double step(const Architecture& architecture, std::vector<float>* logits_out) {
    Tape tape;
    const Tensor logits = supernet_->forward(images_, architecture);
    const Tensor loss = cross_entropy(logits, targets_);
    if (logits_out != nullptr) *logits_out = logits.to_vector();
    const double value = loss.item();
    tape.backward(loss);
    return value;
  }

  void run_case(size_t i) {
    const Json& golden = cases_.at("cases").at(i);
    const std::string name = "case " + std::to_string(i) + " ";
    const SafetensorsFile want(folder_ + "/case" + std::to_string(i) + ".safetensors");
    const Cost cost = cost_of(config_, architecture(i));
    report(name + "params", std::abs(static_cast<double>(cost.params) - golden.at("params").get<double>()), 0);
    report(name + "reference_complexity",
           std::abs(cost.reference_complexity - golden.at("reference_complexity").get<double>()), 0);
    supernet_->parameters().zero_gradients();
    std::vector<float> logits;
    const double loss = step(architecture(i), &logits);
    report(name + "loss", std::abs(loss - golden.at("loss").get<double>()), kLogits);
    report(name + "logits", largest_difference(logits, want.read_f32("logits"), name + "logits"), kLogits);
    compare_gradients(name, want);
  }

  void compare_gradients(const std::string& name, const SafetensorsFile& want) {
    const std::string prefix = "grad/";
    std::map<std::string, std::vector<float>> golden;
    double largest = 0;
    for (const auto& [key, entry] : want.tensors()) {
      if (key.rfind(prefix, 0) != 0) continue;
      golden[key.substr(prefix.size())] = want.read_f32(key);
      largest = std::max(largest, largest_magnitude(golden[key.substr(prefix.size())]));
    }
    const std::vector<float> gradients = supernet_->parameters().to_host(supernet_->parameters().gradients());
    for (const auto& [key, values] : golden) {
      const Parameter* parameter = supernet_->parameters().find(key);
      CHECK(parameter != nullptr, want.path(), ": the network has no parameter '", key, "'");
      const std::vector<float> got = to_file_order(*parameter, gradients.data());
      const double scale =
          std::max({largest_magnitude(values), largest * kNoiseFloor, std::numeric_limits<double>::min()});
      report(name + "gradient of " + key, largest_difference(got, values, key) / scale, kGradient);
    }
  }

  void run_optimizer(const Json& o) {
    load_weights();
    AdamWOptions options;
    options.beta1 = o.at("betas").at(0);
    options.beta2 = o.at("betas").at(1);
    options.eps = o.at("eps");
    options.weight_decay = o.at("weight_decay");
    const int64_t steps = o.at("steps");
    for (int64_t k = 0; k < steps; ++k) {
      const size_t at = static_cast<size_t>(k);
      const double loss = step(architecture(o.at("arch_of_step").at(at).get<size_t>()), nullptr);
      const double want = o.at("loss_before_step").at(at);
      report("loss before step " + std::to_string(k), std::abs(loss - want) / std::max(1.0, want), kLogits);
      adamw_step(supernet_->parameters(), options, k + 1, o.at("lr"));
    }
    const SafetensorsFile after(folder_ + "/after_steps.safetensors");
    const std::vector<float> values = supernet_->parameters().to_host(supernet_->parameters().values());
    for (const Parameter& parameter : supernet_->parameters().all()) {
      const std::vector<float> got = to_file_order(parameter, values.data());
      report("weights after the steps: " + parameter.name,
             largest_difference(got, after.read_f32(parameter.name), parameter.name), kWeights);
    }
  }

  std::string folder_;
  DeviceKind device_;
  Json cases_;
  SupernetConfig config_;
  Tensor images_, targets_;
  std::unique_ptr<Supernet> supernet_;
  std::vector<ParityRow> rows_;
};

}  // namespace

std::vector<ParityRow> check_parity(const std::string& folder, DeviceKind device) {
  return Golden(folder, device).run();
}

}  // namespace entangle
