// The programs beside training and search, as a user meets them: costs, parity, timing, augmentation.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/decode.h"
#include "engine/safetensors.h"
#include "nn/cost.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/config.h"

namespace entangle {
namespace {

TEST_F(Programs, CostAndParityAnswerOnTheCommandLine) {
  const Outcome cost = run({"count_cost", "--config", "T", "--architecture", "published:T"});
  ASSERT_EQ(cost.status, 0) << cost.err;
  EXPECT_EQ(nlohmann::json::parse(cost.out)["params"], 5867944);
  expect_user_error({"count_cost", "--config", "X"}, {"X", "fashion-mnist"});
  expect_user_error({"count_cost", "--config", "T", "--architecture", "published:B"}, {"larger than the supernet's"});
  expect_user_error({"check_parity", dir.path("data")}, {"cases.json"});
  const std::string golden = std::filesystem::absolute("tests/golden/supernet_cls_token_clamped");
  EXPECT_EQ(run({"check_parity", golden}).status, 0);
}

TEST_F(Programs, StepsAreTimedAgainstTheCeiling) {
  const std::vector<std::string> command = {"bench_step", "--space", dir.path("tiny.yaml"), "--batch", "4"};
  std::vector<std::string> more = command;
  more.insert(more.end(), {"--breakdown", "--threads", "1"});
  const Outcome outcome = run(more);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
  const auto result = nlohmann::json::parse(outcome.out);
  for (const char* key : {"step_s", "img_per_s", "gflop_per_image", "ceiling_gflops", "percent_of_ceiling"}) {
    ASSERT_TRUE(result.contains(key)) << key;
    EXPECT_GT(result[key], 0) << key;
  }
  // Backward, every product has two of its size, but the patches need no gradient.
  const Config config = load_config(dir.path("tiny.yaml"), {});
  const Architecture largest = config.space.largest();
  const int64_t patches = 4 * 14 * 14 * largest.embed_dim;
  const double gflop = 2e-9 * static_cast<double>(3 * cost_of(config.model, largest).macs - patches);
  EXPECT_NEAR(result["gflop_per_image"], gflop, 0.5e-5);
  for (const char* line : {"kernel ", "linear_backward ", "adamw ", "between kernels ", "sum ", "ceilings, "}) {
    EXPECT_NE(line_with(outcome.err, line), "") << line << " in " << outcome.err;
  }
  EXPECT_EQ(line_with(outcome.err, "mlp_forward").find("mlp_forward                   2 "), 0u) << outcome.err;
  EXPECT_NE(line_with(outcome.err, "sum  ").find(" 100.0%"), std::string::npos) << outcome.err;

  std::vector<std::string> rounded = command;
  rounded.insert(rounded.end(), {"--precision", "bf16"});
  EXPECT_EQ(result["amp"], false);
  EXPECT_EQ(nlohmann::json::parse(run(rounded).out)["amp"], true);

  expect_user_error({"bench_step", "--space", "X"}, {"X", "fashion-mnist"});
  expect_user_error({"bench_step", "--space", "T", "--batch", "0"}, {"--batch is 0", "65536"});
  expect_user_error({"bench_step", "--space", "T", "--arch", "huge"}, {"huge", "max"});
}

TEST_F(Programs, AnImageIsAugmentedAsTheGoldenOnes) {
  const std::string folder = std::filesystem::absolute("tests/golden/augment"), input = folder + "/input.png";
  const SafetensorsFile expected(folder + "/expected.safetensors");
  const auto made = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> command = {"augment_image", input, "out.png"};
    command.insert(command.end(), flags.begin(), flags.end());
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return read_image(dir.path("out.png"));
  };
  EXPECT_EQ(made({"--op", "posterize", "--arg", "2"}).pixels, expected.read_u8("posterize/2"));
  EXPECT_EQ(made({"--eval", "32"}).pixels, expected.read_u8("eval/32"));
  EXPECT_EQ(made({"--resized-crop", "5,3,48,40,32,32", "--interpolation", "bilinear"}).pixels,
            expected.read_u8("resized_crop/5,3,48,40->32x32/bilinear"));
  const Image view = made({"--policy", "rand-m9-mstd0.5-inc1", "--seed", "3", "--size", "40"});
  EXPECT_EQ(view.width, 40);
  EXPECT_EQ(view.pixels, made({"--seed", "3", "--size", "40"}).pixels) << "the policy is the default, the seed decides";
  EXPECT_NE(view.pixels, made({"--seed", "4", "--size", "40"}).pixels);
  const Image sheet = made({"--sheet", "--size", "16"});
  EXPECT_EQ(sheet.width, 8 * 20 - 4);
  EXPECT_EQ(sheet.height, 8 * 20 - 4);
  const Image jittered = made({"--jitter", "0.4", "--seed", "3", "--size", "40"});
  EXPECT_EQ(jittered.pixels.size(), view.pixels.size());
  EXPECT_NE(jittered.pixels, view.pixels);
  ASSERT_EQ(run({"augment_image", input, "draws.jsonl", "--draws", "7"}).status, 0);
  std::ifstream draws(dir.path("draws.jsonl"));
  int lines = 0;
  for (std::string line; std::getline(draws, line); ++lines) {
    const auto drawn = nlohmann::json::parse(line);
    for (const char* key : {"crop", "flip", "ops", "jitter", "boxes", "mix"}) EXPECT_TRUE(drawn.contains(key)) << key;
  }
  EXPECT_EQ(lines, 7);
  expect_user_error({"augment_image", input, "out.png", "--op", "blur"}, {"blur", "auto_contrast"});
  expect_user_error({"augment_image", input, "out.png", "--resized-crop", "1,2,3"}, {"--resized-crop", "3 numbers"});
  expect_user_error({"augment_image", input, dir.path("nowhere/out.png")}, {dir.path("nowhere")});
  expect_user_error({"augment_image", dir.path("none.jpg"), "out.png"}, {"none.jpg", "cannot be read"});
  EXPECT_EQ(run({"augment_image", input, "out.png", "--op", "invert", "--eval", "3"}).status, 2);
}

// The number behind `words` in a text.
[[maybe_unused]] int64_t number_behind(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  return at == std::string::npos ? -1 : std::stoll(text.substr(at + words.size()));
}

// The address space of the libraries that are linked here, and to the programs as well: a GPU's take much.
[[maybe_unused]] size_t libraries_bytes() {
  std::ifstream maps("/proc/self/maps");
  size_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    if (line.find(".so") == std::string::npos || std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) != 2) continue;
    bytes += end - begin;
  }
  return bytes;
}

TEST_F(Programs, ABatchThatDoesNotFitIsRefusedBeforeTheFirstStep) {
  expect_user_error({"bench_step", "--space", "B", "--batch", "65536"},
                    {"a batch of 65536 needs", "bytes", "available", "the largest batch that fits is", "--batch"});
  expect_user_error({"train_supernet", "--config", "B", "--batch-size", "65k", "--data", dir.path("data"), "--output",
                     dir.path("run")},
                    {"a batch of 65000 needs", "--batch-size"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("run")));
#if !defined(__SANITIZE_ADDRESS__)  // which takes all address space itself
  const Limits limits = {0, (size_t{640} << 20) + libraries_bytes()};
  const std::vector<std::string> command = {"bench_step", "--space", "fashion-mnist", "--threads", "1", "--batch"};
  std::vector<std::string> large = command, fitting = command;
  large.push_back("2000");
  const Outcome refused = run_program(dir.root(), large, limits);
  check_user_error(refused, {"a batch of 2000 needs", "recompute=true"});
  const int64_t fits = number_behind(refused.err, "largest batch that fits is ");
  EXPECT_GT(fits, 20) << refused.err;
  EXPECT_LT(fits, 280) << refused.err;
  fitting.push_back(std::to_string(fits));
  EXPECT_EQ(run_program(dir.root(), fitting, limits).status, 0);
#endif
}

}  // namespace
}  // namespace entangle
