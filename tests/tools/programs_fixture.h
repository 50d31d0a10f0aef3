// What tests of the programs run on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/rng.h"
#include "tests/files.h"
#include "tests/program_runner.h"
#include "tests/temporary_directory.h"

namespace entangle {

inline constexpr int kTrain = 120, kHeldOut = 40, kTest = 30, kEpochs = 6, kBatch = 8;
inline constexpr int kStepsPerEpoch = (kTrain - kHeldOut) / kBatch, kSteps = kEpochs * kStepsPerEpoch;

inline const char* const kTinyConfig = R"(
SUPERNET: {MLP_RATIO: 2, NUM_HEADS: 2, EMBED_DIM: 16, DEPTH: 2}
SEARCH_SPACE: {MLP_RATIO: [1, 2], NUM_HEADS: [1, 2], EMBED_DIM: [8, 16], DEPTH: [1, 2]}
MODEL: {image_size: 28, patch_size: 14, in_channels: 1, num_classes: 10, head_dim: 8, max_relative_position: 1}
TRAIN: {epochs: 6, batch_size: 8, lr: 1e-2, lr_scale_batch: false, warmup_epochs: 1, drop_path: 0.1, health_images: 20}
DATA: {held_out: 40, flip: 0.5, erase: 0.25, mixup_alpha: 0.8, cutmix_alpha: 1, label_smoothing: 0.1}
SEARCH: {population: 4, generations: 2, top: 2, mutations: 2, crossovers: 1, images: 40}
)";

inline std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

// A data set whose images are noise around a brightness that tells the class.
inline void write_idx(const std::string& folder, const std::string& part, int count) {
  std::string images = big_endian(0x803) + big_endian(static_cast<uint32_t>(count)) + big_endian(28) + big_endian(28);
  std::string labels = big_endian(0x801) + big_endian(static_cast<uint32_t>(count));
  Rng rng(5, Stream::synthetic, static_cast<uint64_t>(count));
  for (int i = 0; i < count; ++i) {
    labels += static_cast<char>(i % 10);
    for (int p = 0; p < 28 * 28; ++p) images += static_cast<char>(20 * (i % 10) + rng.below(60));
  }
  write_raw(folder + "/" + part + "-images-idx3-ubyte", images);
  write_raw(folder + "/" + part + "-labels-idx1-ubyte", labels);
}

// A temporary directory with a small data set and a configuration for it.
class Programs : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(dir.path("data"));
    write_idx(dir.path("data"), "train", kTrain);
    write_idx(dir.path("data"), "t10k", kTest);
    write_raw(dir.path("tiny.yaml"), kTinyConfig);
  }

  std::vector<std::string> train(const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> command = {
        "train_supernet", "--config",   dir.path("tiny.yaml"), "--data", "fashion-mnist:" + dir.path("data"),
        "--output",       dir.path(run)};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  Outcome run(const std::vector<std::string>& command) const { return run_program(dir.root(), command); }
  std::string checkpoint(const std::string& run) const { return dir.path(run + "/checkpoint.safetensors"); }

  void expect_trains(const std::string& run_name, const std::vector<std::string>& more) const {
    const Outcome outcome = run(train(run_name, more));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  // An error of the user's: exit 1 and one line that has the parts.
  void expect_user_error(const std::vector<std::string>& command, const std::vector<std::string>& parts) const {
    check_user_error(run(command), parts);
  }
  void check_user_error(const Outcome& outcome, const std::vector<std::string>& parts) const {
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    for (const std::string& part : parts) EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  }

  TemporaryDirectory dir;
};

// The log without what depends on the clock and the machine.
inline std::vector<nlohmann::json> log_records(const std::string& path) {
  std::vector<nlohmann::json> records;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    records.push_back(nlohmann::json::parse(line));
    records.back().erase("img_per_s");
    records.back().erase("memory");
  }
  return records;
}

inline std::string line_with(const std::string& text, const std::string& begin) {
  const size_t at = text.find(begin);
  return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
}

}  // namespace entangle
