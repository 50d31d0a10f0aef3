#include "nn/checkpoint.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

SupernetConfig small_config() {
  SupernetConfig config;
  config.image_size = 8;
  config.patch_size = 4;
  config.in_channels = 1;
  config.num_classes = 3;
  config.embed_dim = 6;
  config.depth = 2;
  config.num_heads = 2;
  config.head_dim = 4;
  config.mlp_ratio = 2;
  config.max_relative_position = 2;
  return config;
}

// The four arrays, padding included.
std::vector<float> state_of(const Supernet& supernet) {
  const ParameterArena& arena = supernet.parameters();
  std::vector<float> state;
  for (const float* array : {arena.values(), arena.first_moments(), arena.second_moments()}) {
    state.insert(state.end(), array, array + arena.size());
  }
  return state;
}

// Gives every element of the moments a value of its own; padding stays zero.
void number_moments(Supernet& supernet) {
  float next = 1;
  for (const Parameter& parameter : supernet.parameters().all()) {
    for (int64_t i = 0; i < parameter.tensor.count(); ++i) {
      supernet.parameters().first_moments()[parameter.offset + i] = next;
      supernet.parameters().second_moments()[parameter.offset + i] = next + 0.5f;
      next += 1;
    }
  }
}

std::string write_sample(const TemporaryDirectory& directory, const SupernetConfig& config = small_config(),
                         bool optimizer = true) {
  const std::string path = directory.path("checkpoint.safetensors");
  Supernet supernet(config, 1);
  number_moments(supernet);
  CheckpointContent content;
  content.optimizer = optimizer;
  content.metadata = {{"step", "17"}};
  save_checkpoint(path, supernet, content);
  return path;
}

// A file as it can be taken apart and written again with one thing changed.
struct Parts {
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<TensorToWrite> tensors;
  std::map<std::string, std::string> metadata;

  explicit Parts(const std::string& path) {
    const SafetensorsFile file(path);
    metadata = file.metadata();
    for (const auto& [name, entry] : file.tensors()) {
      bytes.push_back(file.read_bytes(name));
      tensors.push_back({name, entry.dtype, entry.shape, bytes.back().data()});
    }
  }
  TensorToWrite& operator[](const std::string& name) {
    for (TensorToWrite& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    throw Error("no tensor " + name);
  }
};

TEST(Checkpoint, RoundTrip) {
  for (const QkvBias bias : {QkvBias::aligned, QkvBias::contiguous}) {
    const TemporaryDirectory directory;
    SupernetConfig config = small_config();
    config.qkv_bias = bias;
    const std::string path = write_sample(directory, config);
    Supernet expected(config, 1), loaded(config, 2);
    number_moments(expected);
    ASSERT_NE(state_of(expected), state_of(loaded));
    const std::map<std::string, std::string> metadata = load_checkpoint(path, loaded, true);
    EXPECT_EQ(state_of(loaded), state_of(expected));
    EXPECT_EQ(metadata, read_checkpoint_metadata(path));
    EXPECT_EQ(metadata.at("step"), "17");
    EXPECT_EQ(metadata.at("format_version"), "1");
    EXPECT_EQ(metadata.at("qkv_bias"), bias == QkvBias::aligned ? "aligned" : "contiguous");
  }
}

TEST(Checkpoint, WithoutOptimizer) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory, small_config(), false);
  EXPECT_FALSE(SafetensorsFile(path).has("optimizer.first_moment/cls_token"));
  Supernet expected(small_config(), 1), loaded(small_config(), 2);
  load_checkpoint(path, loaded, false);
  EXPECT_EQ(state_of(loaded), state_of(expected));
  expect_error(error_of([&] { load_checkpoint(path, loaded, true); }),
               {path, "'optimizer.first_moment/cls_token' is missing"});
}

TEST(Checkpoint, MomentsMayBeLeftInTheFile) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  Supernet expected(small_config(), 1), loaded(small_config(), 2);
  load_checkpoint(path, loaded, false);
  EXPECT_EQ(state_of(loaded), state_of(expected));
}

// Row 3j+i of the file is row j of Q, K or V (i = 0, 1, 2): element (i, j, c) is numbered 1000 i + 10 j + c.
TEST(Checkpoint, QkvRowsAreInterleavedInTheFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  Supernet supernet(small_config(), 1);
  const ParameterArena& arena = supernet.parameters();
  const Tensor weight = arena.find("blocks.1.attn.qkv.weight")->tensor,
               bias = arena.find("blocks.1.attn.qkv.bias")->tensor;
  ASSERT_EQ(weight.shape(), (Shape{3, 8, 6}));
  ASSERT_EQ(bias.shape(), (Shape{3, 8}));
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 8; ++j) {
      bias.data()[i * 8 + j] = static_cast<float>(1000 * i + 10 * j);
      for (int64_t c = 0; c < 6; ++c) weight.data()[(i * 8 + j) * 6 + c] = static_cast<float>(1000 * i + 10 * j + c);
    }
  }
  save_checkpoint(path, supernet, {});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.tensors().at("blocks.1.attn.qkv.weight").shape, (std::vector<int64_t>{24, 6}));
  const std::vector<float> rows = file.read_f32("blocks.1.attn.qkv.weight"),
                           entries = file.read_f32("blocks.1.attn.qkv.bias");
  const auto row = [&](int r) { return std::vector<float>(rows.begin() + 6 * r, rows.begin() + 6 * (r + 1)); };
  EXPECT_EQ(row(0), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(row(1), (std::vector<float>{1000, 1001, 1002, 1003, 1004, 1005}));
  EXPECT_EQ(row(2), (std::vector<float>{2000, 2001, 2002, 2003, 2004, 2005}));
  EXPECT_EQ(row(3), (std::vector<float>{10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(row(22), (std::vector<float>{1070, 1071, 1072, 1073, 1074, 1075}));
  EXPECT_EQ(std::vector<float>(entries.begin(), entries.begin() + 5), (std::vector<float>{0, 1000, 2000, 10, 1010}));
}

TEST(Checkpoint, PublishedNamesAndShapes) {
  const TemporaryDirectory directory;
  const SafetensorsFile file(write_sample(directory));
  const std::map<std::string, std::vector<int64_t>> some = {
      {"cls_token", {1, 1, 6}},
      {"pos_embed", {1, 5, 6}},
      {"patch_embed_super.proj.weight", {6, 1, 4, 4}},
      {"blocks.0.attn.rel_pos_embed_k.embeddings_table_v", {6, 4}},
      {"blocks.1.fc1.weight", {12, 6}},
      {"optimizer.second_moment/head.weight", {3, 6}},
  };
  for (const auto& [name, shape] : some) {
    ASSERT_TRUE(file.has(name)) << name;
    EXPECT_EQ(file.tensors().at(name).shape, shape) << name;
    EXPECT_EQ(file.tensors().at(name).dtype, "F32") << name;
  }
}

// A file without metadata is the published kind.
TEST(Checkpoint, FileWithoutMetadataIsContiguous) {
  const TemporaryDirectory directory;
  SupernetConfig config = small_config();
  config.qkv_bias = QkvBias::contiguous;
  const std::string path = write_sample(directory, config);
  const Parts parts(path);
  write_safetensors(path, parts.tensors, {});
  Supernet contiguous(config, 2), aligned(small_config(), 2);
  EXPECT_TRUE(load_checkpoint(path, contiguous, false).empty());
  expect_error(error_of([&] { load_checkpoint(path, aligned, false); }),
               {path, "'contiguous' (as published", "'aligned'"});
}

TEST(Checkpoint, OtherFloatTypesAreConverted) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  Parts parts(path);
  const std::vector<uint16_t> ones(6, 0x3c00);
  parts["cls_token"].dtype = "F16";
  parts["cls_token"].bytes = ones.data();
  write_safetensors(path, parts.tensors, parts.metadata);
  Supernet supernet(small_config(), 2);
  load_checkpoint(path, supernet, false);
  EXPECT_EQ(supernet.parameters().find("cls_token")->tensor.to_vector(), std::vector<float>(6, 1.0f));
}

// Each case changes one thing; the load must fail and leave weights and moments as they were.
TEST(Checkpoint, FailedLoadLeavesTheSupernetUnchanged) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  const Parts sound(path);
  Supernet supernet(small_config(), 2);
  const std::vector<float> before = state_of(supernet);
  const auto expect_failure = [&](const std::function<void(Parts&)>& change, const std::vector<std::string>& parts) {
    Parts changed = sound;
    change(changed);
    write_safetensors(path, changed.tensors, changed.metadata);
    expect_error(error_of([&] { load_checkpoint(path, supernet, true); }), parts);
    EXPECT_EQ(state_of(supernet), before);
  };
  expect_failure([](Parts& p) { p["norm.weight"].name = "nomr.weight"; }, {path, "'norm.weight' is missing"});
  expect_failure([](Parts& p) { p["optimizer.second_moment/norm.bias"].name = "optimizer.x"; },
                 {"'optimizer.second_moment/norm.bias' is missing"});
  expect_failure(
      [](Parts& p) {
        p.tensors.push_back({"blocks.2.\n", "F32", {0, 1}, nullptr});
      },
      {path, "'blocks.2.?' [0, 1] is unknown"});
  expect_failure([](Parts& p) { p["head.weight"].shape = {6, 3}; }, {path, "'head.weight'", "[6, 3]", "[3, 6]"});
  expect_failure([](Parts& p) { p["optimizer.first_moment/head.weight"].shape = {18}; }, {"[18]", "[3, 6]"});
  expect_failure([](Parts& p) { p["head.bias"].dtype = "I32"; }, {path, "'head.bias' holds I32"});
  expect_failure([](Parts& p) { p.metadata["qkv_bias"] = "contiguous"; },
                 {path, "'contiguous', the supernet's is 'aligned'"});
  expect_failure([](Parts& p) { p.metadata["qkv_bias"] = "neither"; }, {"'neither'"});
  expect_failure([](Parts& p) { p.metadata["format_version"] = "2"; }, {path, "format version '2'"});
}

TEST(Checkpoint, FileCutAnywhereIsAnErrorAndChangesNothing) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  Supernet supernet(small_config(), 2);
  const std::vector<float> before = state_of(supernet);
  for (uint64_t length = std::filesystem::file_size(path) - 1; length > 0; length -= length > 64 ? 64 : 1) {
    std::filesystem::resize_file(path, length);
    EXPECT_NE(error_of([&] { load_checkpoint(path, supernet, true); }), "") << length;
    EXPECT_NE(error_of([&] { read_checkpoint_metadata(path); }), "") << length;
  }
  EXPECT_EQ(state_of(supernet), before);
}

TEST(Checkpoint, OfAnotherSupernet) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  SupernetConfig deeper = small_config(), shallower = small_config(), wider = small_config();
  deeper.depth = 3;
  shallower.depth = 1;
  wider.embed_dim = 8;
  const auto error = [&](const SupernetConfig& config) {
    Supernet supernet(config, 2);
    return error_of([&] { load_checkpoint(path, supernet, false); });
  };
  expect_error(error(deeper), {path, "'blocks.2.", "is missing"});
  expect_error(error(shallower), {path, "'blocks.1.", "is unknown"});
  expect_error(error(wider), {path, "'cls_token' has the shape [1, 1, 6] where the supernet has [1, 1, 8]"});
}

TEST(Checkpoint, SavingOverAnOldOneKeepsItWhenTheNewCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory), before = read_raw(path);
  Supernet supernet(small_config(), 2);
  CheckpointContent content;
  content.metadata["bad"] = "\xff";
  EXPECT_NE(error_of([&] { save_checkpoint(path, supernet, content); }), "");
  EXPECT_EQ(read_raw(path), before);
  EXPECT_EQ(files_in(directory.root()), 1u);
}

}  // namespace
}  // namespace entangle
