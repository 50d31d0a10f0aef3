// ONNX models: the graph against the supernet's view and the published numbers, its bytes there and back.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "nn/checkpoint.h"
#include "nn/subnet.h"
#include "tests/small_supernet.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/export.h"
#include "tools/common/onnx_evaluate.h"
#include "tools/common/onnx_graph.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

// The graph of one architecture of a supernet.
OnnxModel graph_of(const Supernet& supernet, const Architecture& architecture) {
  Config config;
  config.model = supernet.config();
  Supernet subnet(config.dense(architecture).model, 0);
  inherit_weights(supernet, architecture, subnet);
  return onnx_of(subnet);
}

std::vector<float> logits_of(const OnnxModel& model, const Tensor& images) {
  const std::vector<double> logits = evaluate_onnx(model, images.to_vector(), images.size(0));
  return {logits.begin(), logits.end()};
}

bool answers_as_the_view(const Supernet& supernet, const OnnxModel& model, const Tensor& images) {
  const Architecture a = mixed_architecture();
  const std::vector<float> want = supernet.forward(images, a).to_vector();
  return error_of([&] { check_logits(logits_of(model, images), want, a); }).empty();
}

// Every parameter has something of its own, as after training.
void disturb(Supernet& supernet) {
  ParameterArena& arena = supernet.parameters();
  for (int64_t i = 0; i < arena.size(); ++i) arena.values()[i] += 0.02f * static_cast<float>(i % 13);
}

struct Form {
  const char* name;
  void (*change)(SupernetConfig&);
};

TEST(OnnxGraph, AnswersAsTheViewInEveryForm) {
  const std::vector<Form> forms = {
      {"as it is", [](SupernetConfig&) {}},
      {"clamped nowhere", [](SupernetConfig& c) { c.max_relative_position = 7; }},
      {"class token", [](SupernetConfig& c) { c.global_pool = false; }},
      {"contiguous bias", [](SupernetConfig& c) { c.qkv_bias = QkvBias::contiguous; }},
      {"no relative position", [](SupernetConfig& c) { c.relative_position = false; }},
      {"no absolute position", [](SupernetConfig& c) { c.absolute_position = false; }},
      {"one patch", [](SupernetConfig& c) { c.image_size = 4; }},
  };
  for (const Form& form : forms) {
    SupernetConfig config = small_config();
    form.change(config);
    Supernet supernet(config, 3);
    disturb(supernet);
    const OnnxModel model = graph_of(supernet, mixed_architecture());
    for (const int64_t batch : {1, 3}) {
      EXPECT_TRUE(answers_as_the_view(supernet, model, random_images(config, batch))) << form.name;
    }
  }
}

// No constant and no node is there for nothing, and none may be wrong unnoticed.
TEST(OnnxGraph, TheCheckFindsEveryWrongConstantAndNode) {
  Supernet supernet(small_config(), 3);
  disturb(supernet);
  const Tensor images = random_images(supernet.config(), 2);
  const OnnxModel right = graph_of(supernet, mixed_architecture());
  ASSERT_TRUE(answers_as_the_view(supernet, right, images));
  for (size_t i = 0; i < right.constants.size(); ++i) {
    OnnxModel wrong = right;
    OnnxTensor& constant = wrong.constants[i];
    for (float& value : constant.floats) value += 0.01f * (1 + std::fabs(value));
    if (constant.name == "distances") std::reverse(constant.integers.begin(), constant.integers.end());
    const bool changed = constant.is_float() || constant.name == "distances";
    EXPECT_NE(answers_as_the_view(supernet, wrong, images), changed) << constant.name;
  }
  for (size_t i = 0; i + 1 < right.nodes.size(); ++i) {
    OnnxModel wrong = right;
    wrong.nodes.erase(wrong.nodes.begin() + static_cast<std::ptrdiff_t>(i));
    expect_error(error_of([&] { logits_of(wrong, images); }), {"which nothing before it makes"});
  }
}

TEST(OnnxGraph, GivesThePublishedCodesLogits) {
  for (const std::string name : {"supernet_small", "supernet_cls_token_clamped"}) {
    const std::string folder = "tests/golden/" + name;
    const nlohmann::json cases = nlohmann::json::parse(read_raw(folder + "/cases.json")), &s = cases.at("supernet");
    SupernetConfig config;
    config.image_size = s.at("img_size"), config.patch_size = s.at("patch_size");
    config.in_channels = s.at("in_chans"), config.num_classes = s.at("num_classes");
    config.embed_dim = s.at("embed_dim"), config.depth = s.at("depth"), config.num_heads = s.at("num_heads");
    config.mlp_ratio = s.at("mlp_ratio"), config.global_pool = s.at("global_pool");
    config.max_relative_position = s.at("max_relative_position"), config.qkv_bias = QkvBias::contiguous;
    Supernet supernet(config);
    load_checkpoint(folder + "/weights.safetensors", supernet, false);
    const SafetensorsFile batch(folder + "/batch.safetensors");
    const std::vector<float> images = batch.read_f32("images");
    for (size_t i = 0; i < cases.at("cases").size(); ++i) {
      const Architecture a = Architecture::from_json(cases.at("cases").at(i).at("arch").dump());
      const std::vector<float> want = SafetensorsFile(concat(folder, "/case", i, ".safetensors")).read_f32("logits");
      const std::vector<double> got =
          evaluate_onnx(graph_of(supernet, a), images, batch.tensors().at("images").shape[0]);
      ASSERT_EQ(got.size(), want.size());
      for (size_t k = 0; k < got.size(); ++k) EXPECT_NEAR(got[k], want[k], 2e-5) << name << " case " << i;
    }
  }
}

TEST(OnnxBytes, AreReadBackAndCheckedWhereverTheyEnd) {
  Supernet supernet(small_config(), 3);
  OnnxModel model = graph_of(supernet, mixed_architecture());
  model.metadata = {{"architecture", "{}"}, {"empty", ""}};
  const std::string bytes = onnx_bytes(model);
  const OnnxModel read = read_onnx(bytes, "x.onnx");
  EXPECT_EQ(onnx_bytes(read), bytes);
  EXPECT_EQ(read.metadata, model.metadata);
  EXPECT_EQ(read.input.shape, (std::vector<int64_t>{0, 2, 12, 12}));
  EXPECT_EQ(read.output.shape, (std::vector<int64_t>{0, 5}));
  const Tensor images = random_images(supernet.config(), 1);
  EXPECT_EQ(logits_of(read, images), logits_of(model, images));
  for (size_t length = 0; length < bytes.size() - 64; length += 173) {
    EXPECT_NE(error_of([&] { logits_of(read_onnx(bytes.substr(0, length), "x.onnx"), images); }), "") << length;
  }
  // Any one byte may be wrong: an error or other numbers, and no access beyond the file.
  for (size_t at = 0; at < bytes.size(); at += 41) {
    std::string wrong = bytes;
    wrong[at] = static_cast<char>(wrong[at] ^ 0x15);
    error_of([&] { read_onnx(wrong, "x.onnx"); });
  }
  expect_error(error_of([&] { read_onnx(bytes + '\x07', "x.onnx"); }), {"x.onnx", "byte", "another kind"});
}

TEST(OnnxEvaluate, NamesWhatItDoesNotKnow) {
  Supernet supernet(small_config(), 3);
  const OnnxModel right = graph_of(supernet, mixed_architecture());
  const Tensor images = random_images(supernet.config(), 1);
  OnnxModel wrong = right;
  wrong.nodes[4].op = "Gelu";
  expect_error(error_of([&] { logits_of(wrong, images); }), {"operator Gelu"});
  wrong = right;
  wrong.output.shape[1] = 6;
  expect_error(error_of([&] { logits_of(wrong, images); }), {"another shape"});
  expect_error(error_of([&] { evaluate_onnx(right, {1}, 1); }), {"images of another size"});
}

class Onnx : public Programs {};

TEST_F(Onnx, ExportIsChosenByNameOrForm) {
  expect_trains("run", {"--epochs", "1"});
  const Outcome named =
      run({"export_subnet", "--weights", "run/checkpoint.safetensors", "--architecture", "mean", "--output", "a.onnx"});
  ASSERT_EQ(named.status, 0) << named.err;
  EXPECT_NE(named.out.find("on 4 held-out images"), std::string::npos) << named.out;
  const Outcome said = run({"export_subnet", "--weights", "run/checkpoint.safetensors", "--architecture", "mean",
                            "--form", "onnx", "--images", "1", "--output", "b"});
  ASSERT_EQ(said.status, 0) << said.err;
  EXPECT_EQ(read_raw(dir.path("a.onnx")), read_raw(dir.path("b")));
  const OnnxModel model = read_onnx(read_raw(dir.path("a.onnx")), "a.onnx");
  const nlohmann::json runner = nlohmann::json::parse(model.metadata.at("runner"));
  EXPECT_EQ(runner.at("image_size"), 28);
  EXPECT_EQ(runner.at("mean").size(), 1u);
  EXPECT_EQ(model.input.name, "images");
  EXPECT_EQ(model.output.name, "logits");
  const std::vector<std::string> wrong_name = {"export_subnet",  "--weights", "run/checkpoint.safetensors",
                                               "--architecture", "mean",      "--form",
                                               "dense",          "--output",  "x.onnx"};
  expect_user_error(wrong_name, {"x.onnx", "--form dense", ".safetensors"});
  const std::vector<std::string> bf16 = {"export_subnet",  "--weights", "run/checkpoint.safetensors",
                                         "--architecture", "mean",      "--precision",
                                         "bf16",           "--output",  "x.onnx"};
  expect_user_error(bf16, {"fp32", "--precision fp32"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("x.onnx")));
}

}  // namespace
}  // namespace entangle
