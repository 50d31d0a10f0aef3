// Weights in and out: conversion, a training run that begins with given weights, export of one architecture.
#include "tools/common/export.h"

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "entangle/inference.h"
#include "nn/checkpoint.h"
#include "tests/small_supernet.h"
#include "tests/tools/programs_fixture.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

// The configuration of tests/golden/torch/supernet.pth.
const char* const kGoldenConfig = R"(
SUPERNET: {MLP_RATIO: 2, NUM_HEADS: 2, EMBED_DIM: 16, DEPTH: 2}
SEARCH_SPACE: {MLP_RATIO: [1, 2], NUM_HEADS: [1, 2], EMBED_DIM: [8, 16], DEPTH: [1, 2]}
MODEL: {image_size: 12, patch_size: 4, in_channels: 1, num_classes: 5, head_dim: 8, max_relative_position: 2}
)";

class InAndOut : public Programs {
 protected:
  void SetUp() override {
    Programs::SetUp();
    write_raw(dir.path("golden.yaml"), kGoldenConfig);
  }
  std::string golden(const std::string& name) const { return std::filesystem::absolute("tests/golden/torch/" + name); }
  void expect_success(const std::vector<std::string>& command) const {
    const Outcome outcome = run(command);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  std::string test_line(const std::vector<std::string>& arguments) const {
    std::vector<std::string> command = {"evaluate_subnet"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return line_with(outcome.out, "test  top-1");
  }
};

TEST_F(InAndOut, EvaluationTakesEitherFormatToTheBit) {
  std::vector<std::string> files;
  for (const char* name : {"supernet.safetensors", "supernet.pth", "supernet_legacy.pth"}) {
    expect_success({"evaluate_subnet", "--weights", golden(name), "--config", "golden.yaml", "--architecture", "mean",
                    "--input", golden("logits.safetensors"), "--output", name});
    files.push_back(read_raw(dir.path(name)));
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0], files[2]);
  expect_user_error({"evaluate_subnet", "--weights", golden("supernet.pth"), "--architecture", "max"},
                    {"carries no configuration", "--config"});
}

TEST_F(InAndOut, ConversionKeepsTensorsAndCarriesTheConfiguration) {
  const Outcome outcome =
      run({"convert_checkpoint", golden("supernet.pth"), "w.safetensors", "--config", "golden.yaml"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part : {"epoch: 299", "args: a call of 'argparse.Namespace'", "w.safetensors"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << outcome.out;
  }
  const SafetensorsFile got(dir.path("w.safetensors")), want(golden("supernet.safetensors"));
  EXPECT_EQ(got.metadata().at("qkv_bias"), "contiguous");
  ASSERT_EQ(got.tensors().size(), want.tensors().size());
  for (const auto& [name, entry] : want.tensors()) EXPECT_EQ(got.read_bytes(name), want.read_bytes(name)) << name;
  expect_success({"evaluate_subnet", "--weights", "w.safetensors", "--architecture", "max", "--input",
                  golden("logits.safetensors"), "--output", "l"});
  expect_user_error({"convert_checkpoint", golden("supernet.pth"), "x", "--config", "tiny.yaml"},
                    {"supernet.pth", "has the shape"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("x")));
}

TEST_F(InAndOut, AlignedWeightsAreConvertedByExportOnly) {
  expect_trains("run", {"--epochs", "1"});
  expect_user_error({"convert_checkpoint", checkpoint("run"), "x"},
                    {"qkv_bias is aligned", "./export_subnet --weights " + checkpoint("run"), "--form published"});
  expect_trains("contiguous", {"--epochs", "1", "--set", "MODEL.qkv_bias=contiguous"});
  const Outcome outcome = run({"convert_checkpoint", checkpoint("contiguous"), "w"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("tensors of the optimiser's state"), std::string::npos) << outcome.out;
  const SafetensorsFile file(dir.path("w"));
  EXPECT_TRUE(file.has("head.weight"));
  EXPECT_FALSE(file.has("optimizer.first_moment/head.weight"));
  EXPECT_EQ(test_line({"--weights", "w", "--architecture", "max"}),
            test_line({"--weights", checkpoint("contiguous"), "--architecture", "max"}));
}

// The step-0 checkpoint is the given weights; what is resumed from it is what goes on without a stop.
TEST_F(InAndOut, TrainingBeginsWithGivenWeights) {
  expect_trains("first", {"--epochs", "1", "--set", "MODEL.qkv_bias=contiguous"});
  expect_success({"convert_checkpoint", checkpoint("first"), "w"});
  const std::vector<std::string> still = {"--init",     "w",     "--epochs",       "1",     "--set",
                                          "TRAIN.lr=0", "--set", "TRAIN.min_lr=0", "--set", "TRAIN.warmup_lr=0"};
  expect_trains("second", still);
  const SafetensorsFile before(dir.path("w")), after(checkpoint("second"));
  EXPECT_EQ(after.metadata().at("qkv_bias"), "contiguous") << "the file's, not the configuration's";
  for (const auto& [name, entry] : before.tensors()) EXPECT_EQ(after.read_f32(name), before.read_f32(name)) << name;
  EXPECT_EQ(run({"train_supernet", "--init", "w"}).status, 2) << "--output is needed";
  expect_user_error(train("third", {"--init", golden("supernet.pth")}), {"supernet.pth", "has the shape"});
}

TEST_F(InAndOut, AnExportAnswersAsTheView) {
  expect_trains("run", {"--epochs", "1"});
  expect_success({"search_subnets", "--run", "run", "--max-params", "8k"});
  const std::string want = test_line({"--run", "run"});
  const Outcome dense = run({"export_subnet", "--run", "run", "--output", "dense"});
  ASSERT_EQ(dense.status, 0) << dense.err;
  EXPECT_NE(dense.out.find("32 held-out images"), std::string::npos) << dense.out;
  EXPECT_EQ(test_line({"--weights", "dense"}), want);
  const SafetensorsFile file(dir.path("dense"));
  EXPECT_EQ(file.metadata().at("architecture") + "\n", read_raw(dir.path("run/best_architecture.json")));
  int64_t elements = 0;
  for (const auto& [name, entry] : file.tensors()) elements += entry.count();
  EXPECT_NE(dense.out.find(" " + std::to_string(elements) + " parameters"), std::string::npos) << dense.out;

  const std::string best = dir.path("run/best_architecture.json");
  expect_success({"export_subnet", "--run", "run", "--form", "published", "--output", "published"});
  EXPECT_EQ(SafetensorsFile(dir.path("published")).metadata().at("qkv_bias"), "contiguous");
  EXPECT_EQ(test_line({"--weights", "published", "--architecture", best}), want);
  expect_success({"convert_checkpoint", "published", "for_python"});
  // A dense file is exported again as it is, not in the published shapes.
  expect_success({"export_subnet", "--weights", "dense", "--output", "again"});
  EXPECT_EQ(test_line({"--weights", "again"}), want);
  expect_user_error({"export_subnet", "--weights", "dense", "--form", "published", "--output", "x"},
                    {"published code"});
  expect_user_error({"train_supernet", "--init", "dense", "--output", "x"}, {"MODEL.subnet", "./train_subnet"});
}

// What the programs write describes itself to programs that embed the library, whichever wrote it.
TEST_F(InAndOut, EveryFileIsLoadedForInference) {
  expect_trains("run", {"--epochs", "1", "--set", "MODEL.qkv_bias=contiguous"});
  const std::string weights = checkpoint("run");
  expect_success({"export_subnet", "--weights", weights, "--architecture", "min", "--output", "dense"});
  expect_success({"convert_checkpoint", weights, "converted"});
  const inference::Model run(weights), dense(dir.path("dense")), converted(dir.path("converted"));
  const std::vector<uint8_t> photo(28 * 28, 77);
  const inference::Photo grey = {photo.data(), 28, 28, 1};
  const std::vector<float> want = run.subnet("min").logits(grey), got = dense.subnet("").logits(grey);
  EXPECT_NO_THROW(check_logits(got, want, Architecture::from_json(dense.subnet("min").architecture())));
  EXPECT_EQ(run.info().mean.size(), 1u);
  // A conversion does not know the data set, and with it the normalisation.
  const std::vector<float> pixels(28 * 28, 0.5f);
  EXPECT_EQ(converted.subnet("max").logits(pixels.data(), 1), run.subnet("max").logits(pixels.data(), 1));
  expect_error(error_of([&] { converted.subnet("max").logits(grey); }), {"do not say how images are normalised"});
  expect_success({"convert_checkpoint", golden("supernet.pth"), "golden.safetensors", "--config", "golden.yaml"});
  EXPECT_EQ(inference::Model(dir.path("golden.safetensors")).info().classes, 5);
}

TEST_F(InAndOut, ExportErrors) {
  const std::string weights = golden("supernet.pth");
  expect_user_error({"export_subnet", "--output", "x"}, {"no weights"});
  expect_user_error({"export_subnet", "--weights", weights, "--config", "golden.yaml", "--output", "x"},
                    {"no architecture"});
  expect_user_error(
      {"export_subnet", "--weights", weights, "--config", "golden.yaml", "--architecture", "max", "--output", "x"},
      {"normalisation", "--data"});
  expect_user_error({"export_subnet", "--weights", weights, "--config", "golden.yaml", "--architecture", "max",
                     "--data", "fashion-mnist:data", "--output", "x"},
                    {"10 classes", "5"});
  write_raw(dir.path("large.json"), R"({"depth":1,"embed_dim":32,"mlp_ratio":[1],"num_heads":[1]})");
  expect_user_error({"export_subnet", "--weights", weights, "--config", "golden.yaml", "--architecture", "large.json",
                     "--output", "x"},
                    {"embed_dim is 32"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("x")));
  expect_success({"export_subnet", "--weights", weights, "--config", "golden.yaml", "--architecture", "max", "--form",
                  "published", "--output", "x"});
}

TEST(CheckLogits, RefusesWhatIsNotRounding) {
  const Architecture a = mixed_architecture();
  const std::vector<float> want = {1, -2, 0.5f};
  EXPECT_EQ(check_logits(want, want, a), 0);
  EXPECT_GT(check_logits({1.000001f, -2, 0.5f}, want, a), 0);
  expect_error(error_of([&] { check_logits({1, -2, 0.501f}, want, a); }), {"logit 2 is 0.501", "nothing was written"});
  expect_error(error_of([&] { check_logits({1, -2}, want, a); }), {"2 logits", "3"});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(error_of([&] { check_logits({1, nan, 0.5f}, want, a); }), "");
}

}  // namespace
}  // namespace entangle
