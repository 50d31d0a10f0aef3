// Training one architecture: retraining, fine-tuning, transfer, linear probe, distillation, averages of weights.
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/optimizer.h"
#include "engine/safetensors.h"
#include "nn/checkpoint.h"
#include "tests/small_supernet.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/distillation.h"
#include "tools/common/png.h"
#include "tools/common/weight_average.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

class TrainSubnet : public Programs {
 protected:
  // A trained supernet in `super` and an architecture of it, with blocks of different sizes, in `a.json`.
  void SetUp() override {
    Programs::SetUp();
    expect_trains("super", {"--epochs", "1"});
    write_raw(dir.path("a.json"), R"({"depth":2,"embed_dim":16,"mlp_ratio":[1,2],"num_heads":[2,1]})");
  }
  std::vector<std::string> command(const std::string& output, const std::vector<std::string>& more) const {
    std::vector<std::string> command = {"train_subnet", "--output", output};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  std::vector<std::string> inherit(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {
        "--init", "inherit:super/checkpoint.safetensors", "--architecture", "a.json", "--epochs", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return command(output, words);
  }
  Outcome expect_success(const std::vector<std::string>& words) const {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  }
  // Settings with which no weight moves.
  static std::vector<std::string> still(std::vector<std::string> more = {}) {
    for (const char* key : {"TRAIN.lr", "TRAIN.min_lr", "TRAIN.warmup_lr"}) {
      more.insert(more.end(), {"--set", std::string(key) + "=0"});
    }
    return more;
  }
  std::vector<float> weights(const std::string& run, const std::string& name) const {
    return SafetensorsFile(checkpoint(run)).read_f32(name);
  }
  // Evaluation of a data set that the run was not trained on, too.
  std::string test_line(const std::vector<std::string>& arguments) const {
    std::vector<std::string> words = {"evaluate_subnet"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return line_with(expect_success(words).out, "top-1");
  }
};

TEST_F(TrainSubnet, InheritedWeightsAnswerAsTheViewUntilTheyMove) {
  const std::string want = test_line({"--weights", "super/checkpoint.safetensors", "--architecture", "a.json"});
  const Outcome outcome = expect_success(inherit("still", still()));
  EXPECT_EQ(line_with(outcome.out, "top-1"), want) << outcome.out;
  EXPECT_NE(outcome.out.find("inherited from super/checkpoint.safetensors\n"), std::string::npos) << outcome.out;
  EXPECT_EQ(test_line({"--run", "still"}), want);
  const Outcome moved = expect_success(inherit("moved"));
  EXPECT_NE(line_with(moved.out, "top-1"), want);
  EXPECT_EQ(test_line({"--run", "moved"}), line_with(moved.out, "top-1"));
  expect_user_error({"search_subnets", "--run", "moved"}, {"one architecture's own weights"});
  const Outcome cost = expect_success({"count_cost", "--config", "moved/config.yaml"});
  EXPECT_NE(cost.out.find("\"params\""), std::string::npos) << cost.out;
  // And once more from the subnet's own weights.
  const Outcome again =
      expect_success(command("again", still({"--init", "inherit:moved/checkpoint.safetensors", "--epochs", "1"})));
  EXPECT_EQ(line_with(again.out, "top-1"), line_with(moved.out, "top-1"));
}

TEST_F(TrainSubnet, FromScratchDoesNotLookAtTheSupernet) {
  const std::vector<std::string> scratch = {"--config",       "tiny.yaml", "--data",   "fashion-mnist:data",
                                            "--architecture", "a.json",    "--epochs", "1"};
  expect_success(command("scratch", still(scratch)));
  EXPECT_EQ(weights("scratch", "head.weight").size(), 160u);
  EXPECT_NE(weights("scratch", "cls_token"), weights("super", "cls_token"));
  expect_success(command(
      "mean", {"--config", "tiny.yaml", "--data", "fashion-mnist:data", "--architecture", "mean", "--epochs", "1"}));
}

TEST_F(TrainSubnet, KilledRunResumesToTheSameBits) {
  const std::vector<std::string> all = {"--set", "TRAIN.average_decay=0.9", "--set", "TRAIN.layer_decay=0.7",
                                        "--set", "DATA.split_seed=0"};
  expect_success(inherit("whole", all));
  {
    Running running(dir.root(), inherit("cut", all));
    ASSERT_TRUE(wait_for_lines(dir.path("cut/log.jsonl"), kStepsPerEpoch / 2));
    running.signal(SIGINT);
    const Outcome outcome = running.wait();
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("./train_subnet --resume --output cut"), std::string::npos) << outcome.out;
  }
  expect_success(command("cut", {"--resume"}));
  EXPECT_TRUE(read_raw(checkpoint("cut")) == read_raw(checkpoint("whole")));
  EXPECT_TRUE(read_raw(dir.path("cut/average.safetensors")) == read_raw(dir.path("whole/average.safetensors")));
  expect_user_error(command("cut", {"--resume", "--epochs", "9"}), {"TRAIN.epochs is 1 before and 9 now"});
  expect_user_error(inherit("cut"), {"holds a run already"});
  expect_user_error(command("super", {"--resume"}), {"run of a supernet", "./train_supernet"});
}

// The checkpoint of step 0 is what a run goes back to that is killed in its first epoch.
TEST_F(TrainSubnet, KilledBeforeItsFirstEpochItStillHasWhatItInherited) {
  expect_success(inherit("whole"));
  {
    Running running(dir.root(), inherit("cut"));
    ASSERT_TRUE(wait_for_lines(dir.path("cut/log.jsonl"), 1));
    running.signal(SIGKILL);
    running.wait();
  }
  expect_success(command("cut", {"--resume"}));
  EXPECT_TRUE(read_raw(checkpoint("cut")) == read_raw(checkpoint("whole")));
}

// Its checkpoint carries the configuration.
TEST_F(TrainSubnet, KilledBeforeItWroteItsConfigurationItGoesOnFromTheCheckpoint) {
  expect_success(inherit("whole"));
  {
    Running running(dir.root(), inherit("cut"));
    ASSERT_TRUE(wait_for_lines(dir.path("cut/log.jsonl"), 1));
    running.signal(SIGKILL);
    running.wait();
  }
  for (const char* file : {"config.yaml", "best_architecture.json", "environment.json"}) {
    EXPECT_TRUE(std::filesystem::remove(dir.path(std::string("cut/") + file))) << file;
  }
  expect_user_error(inherit("cut"), {"holds a run already", "--resume"});
  expect_user_error(command("cut", {"--resume", "--epochs", "9"}), {"TRAIN.epochs is 1 before and 9 now"});
  expect_success(command("cut", {"--resume"}));
  EXPECT_TRUE(read_raw(checkpoint("cut")) == read_raw(checkpoint("whole")));
  for (const char* file : {"config.yaml", "best_architecture.json"}) {
    EXPECT_EQ(read_raw(dir.path(std::string("cut/") + file)), read_raw(dir.path(std::string("whole/") + file))) << file;
  }
  std::filesystem::remove(dir.path("cut/config.yaml"));
  std::filesystem::remove(checkpoint("cut"));
  expect_user_error(command("cut", {"--resume"}), {"holds no run to resume"});
}

TEST_F(TrainSubnet, AStartThatFailsLeavesNothingAndCanBeRepeated) {
  expect_user_error(inherit("deep/run", {"--data", "fashion-mnist:nowhere"}), {"nowhere"});
  expect_user_error(inherit("deep/run", {"--set", "DATA.split=missing.txt"}), {"missing.txt"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("deep")));
  expect_success(inherit("deep/run"));
}

TEST_F(TrainSubnet, ALinearProbeMovesTheHeadAlone) {
  expect_success(inherit("before", still()));
  expect_success(inherit("probe", {"--set", "TRAIN.linear_probe=true"}));
  const SafetensorsFile before(checkpoint("before")), after(checkpoint("probe"));
  for (const auto& [name, entry] : before.tensors()) {
    if (name.rfind("optimizer.", 0) == 0) continue;
    if (name.rfind("head.", 0) == 0) {
      EXPECT_NE(after.read_f32(name), before.read_f32(name)) << name;
    } else {
      EXPECT_EQ(after.read_f32(name), before.read_f32(name)) << name;
    }
  }
}

// After one step of Adam every entry with a gradient has moved by its learning rate, but for eps.
TEST_F(TrainSubnet, LayerDecaySlowsTheLowerLayers) {
  const std::vector<std::string> one_step = {"--set", "TRAIN.weight_decay=0", "--set",        "TRAIN.warmup_epochs=0",
                                             "--set", "TRAIN.eps=1e-20",      "--batch-size", "80"};
  std::vector<std::string> decayed = one_step;
  decayed.insert(decayed.end(), {"--set", "TRAIN.layer_decay=0.5"});
  expect_success(inherit("before", still(one_step)));
  expect_success(inherit("plain", one_step));
  expect_success(inherit("decayed", decayed));
  const std::map<std::string, double> scale = {{"patch_embed_super.proj.weight", 0.125},
                                               {"pos_embed", 0.125},
                                               {"blocks.0.fc1.weight", 0.25},
                                               {"blocks.1.fc1.weight", 0.5},
                                               {"norm.weight", 1},
                                               {"head.bias", 1}};
  for (const auto& [name, want] : scale) {
    const std::vector<float> x = weights("before", name), y = weights("plain", name), z = weights("decayed", name);
    double plain = 0, slow = 0;
    for (size_t i = 0; i < x.size(); ++i) plain += std::fabs(y[i] - x[i]), slow += std::fabs(z[i] - x[i]);
    EXPECT_GT(plain, 0) << name;
    EXPECT_NEAR(slow / plain, want, 0.01) << name;
  }
}

// Coloured images of 40 x 30, `count` of each class for training and one for the test.
void write_folder(const std::string& folder, int classes, int count) {
  for (int i = 0; i < classes * (count + 1); ++i) {
    const std::string part = i % (count + 1) == 0 ? "/val" : "/train", name = "/c" + std::to_string(i / (count + 1));
    std::filesystem::create_directories(folder + part + name);
    Image image = {30, 40, 3, {}};
    Rng rng(9, Stream::synthetic, static_cast<uint64_t>(i));
    for (int k = 0; k < 30 * 40 * 3; ++k) image.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
    write_png(folder + part + name + "/" + std::to_string(i) + ".png", image);
  }
}

// From ten classes at 28 pixels to three at 42, then with longer relative positions.
TEST_F(TrainSubnet, TransferGetsANewHeadAndAnotherResolution) {
  write_folder(dir.path("ten"), 10, 3);
  write_folder(dir.path("three"), 3, 8);
  expect_success({"train_supernet", "--config", "tiny.yaml", "--data", "folder:ten", "--output", "colour", "--epochs",
                  "1", "--set", "MODEL.in_channels=3", "--set", "DATA.held_out=10", "--set", "TRAIN.health_images=0"});
  const std::vector<std::string> transfer = {"--init",         "inherit:colour/checkpoint.safetensors",
                                             "--architecture", "a.json",
                                             "--data",         "folder:three",
                                             "--set",          "DATA.held_out=3",
                                             "--set",          "MODEL.image_size=42",
                                             "--epochs",       "1"};
  const Outcome outcome = expect_success(command("fine", transfer));
  EXPECT_NE(outcome.out.find("; new head; position embedding resampled\n"), std::string::npos) << outcome.out;
  EXPECT_EQ(weights("fine", "head.bias").size(), 3u);
  EXPECT_EQ(weights("fine", "pos_embed").size(), 10u * 16);
  EXPECT_EQ(test_line({"--run", "fine"}), line_with(outcome.out, "top-1"));
  std::vector<std::string> longer = transfer;
  longer.insert(longer.end(), {"--set", "MODEL.max_relative_position=2"});
  EXPECT_NE(expect_success(command("longer", longer)).out.find("relative position tables extended"), std::string::npos);
  EXPECT_EQ(weights("longer", "blocks.0.attn.rel_pos_embed_k.embeddings_table_v").size(), 6u * 8);
  expect_user_error(inherit("x", {"--data", "folder:three"}), {"3 channels"});
  expect_user_error(inherit("x", {"--set", "MODEL.patch_size=7"}), {"MODEL.patch_size is 14 there and 7 here"});
}

TEST_F(TrainSubnet, Errors) {
  expect_user_error(command("x", {"--init", "inherit"}), {"--init is 'inherit'", "inherit:FILE"});
  expect_user_error(command("x", {"--init", "inherit:none"}), {"none", "cannot be opened"});
  expect_user_error(command("x", {"--init", "inherit:super/checkpoint.safetensors"}), {"no architecture"});
  write_raw(dir.path("large.json"), R"({"depth":1,"embed_dim":32,"mlp_ratio":[1],"num_heads":[1]})");
  expect_user_error(command("x", {"--init", "inherit:super/checkpoint.safetensors", "--architecture", "large.json"}),
                    {"embed_dim is 32"});
  expect_user_error(inherit("x", {"--set", "TRAIN.layer_decay=2"}), {"TRAIN.layer_decay is 2"});
  expect_user_error(inherit("x", {"--set", "TRAIN.distillation=warm"}), {"TRAIN.distillation is warm", "hard or soft"});
  expect_user_error(inherit("x", {"--set", "TRAIN.teacher=none"}), {"none", "cannot be opened"});
  EXPECT_EQ(run({"train_subnet"}).status, 2);
  EXPECT_EQ(run({"train_subnet", "--output", "x", "--resume", "--init", "scratch"}).status, 2);
}

TEST_F(TrainSubnet, ATeacherTeaches) {
  expect_success(inherit("plain"));
  for (const char* kind : {"hard", "soft"}) {
    expect_success(inherit(kind, {"--set", "TRAIN.teacher=super/checkpoint.safetensors", "--set",
                                  std::string("TRAIN.distillation=") + kind}));
    EXPECT_NE(weights(kind, "head.weight"), weights("plain", "head.weight"));
  }
  EXPECT_NE(weights("hard", "head.weight"), weights("soft", "head.weight"));
  expect_success(
      inherit("deaf", {"--set", "TRAIN.teacher=super/checkpoint.safetensors", "--set", "TRAIN.distillation_share=0"}));
  EXPECT_EQ(weights("deaf", "head.weight"), weights("plain", "head.weight"));
}

TEST(Distillation, MixesTargets) {
  std::vector<float> targets = {1, 0, 0, 0.25f, 0.5f, 0.25f};
  std::vector<float> soft = targets;
  const std::vector<float> logits = {0, std::log(3.0f), 0, 2, 2, -1000};
  mix_in_teacher(logits, 3, false, 0.25f, targets);
  const std::vector<float> hard = {0.75f, 0.25f, 0, 0.4375f, 0.375f, 0.1875f};
  for (size_t i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(targets[i], hard[i]) << i;
  mix_in_teacher(logits, 3, true, 0.5f, soft);
  const std::vector<float> want = {0.6f, 0.3f, 0.1f, 0.375f, 0.5f, 0.125f};
  for (size_t i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(soft[i], want[i]) << i;
}

TEST(WeightAverages, FollowTheWeightsAndStandInForThem) {
  Supernet supernet(small_config(), 1);
  WeightAverage average(supernet, 0.75);
  const std::vector<float> before = average.values();
  float* values = supernet.parameters().values();
  for (int64_t i = 0; i < supernet.parameters().size(); ++i) values[i] += 4;
  average.update(supernet);
  for (size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(average.values()[i], before[i] + 1, 1e-5) << i;
  {
    const WeightAverage::InPlace in_place(supernet, average);
    EXPECT_NEAR(values[0], before[0] + 1, 1e-5);
  }
  EXPECT_NEAR(values[0], before[0] + 4, 1e-5);
}

// The configuration of a published transfer, made small, on files of CIFAR-10's form: a supernet of RGB images of another size
// and another number of classes passes on its weights.
TEST(Transfer, ToCifar) {
  const TemporaryDirectory dir;
  Rng rng(3, Stream::synthetic);
  const auto records = [&](int count) {
    std::string bytes;
    for (int i = 0; i < count; ++i) {
      bytes += static_cast<char>(i % 10);
      for (int p = 0; p < 3072; ++p) bytes += static_cast<char>(20 * (i % 10) + rng.below(50));
    }
    return bytes;
  };
  for (int b = 1; b <= 5; ++b) write_raw(dir.path(concat("data_batch_", b, ".bin")), records(10));
  write_raw(dir.path("test_batch.bin"), records(20));

  const std::vector<std::string> small = {"SUPERNET.EMBED_DIM=16",  "SUPERNET.DEPTH=2",
                                          "SUPERNET.NUM_HEADS=2",   "SEARCH_SPACE.EMBED_DIM=[16]",
                                          "SEARCH_SPACE.DEPTH=[2]", "SEARCH_SPACE.NUM_HEADS=[1,2]",
                                          "MODEL.head_dim=8",       "MODEL.patch_size=16",
                                          "TRAIN.batch_size=8",     "TRAIN.epochs=1",
                                          "TRAIN.warmup_epochs=0",  "DATA.repeated_augmentation=1",
                                          "DATA.held_out=10",       "TRAIN.lr_scale_batch=false",
                                          "TRAIN.lr=1e-3"};
  std::vector<std::string> before = small;
  before.insert(before.end(), {"MODEL.image_size=32", "MODEL.num_classes=7"});
  const Config config = load_config("cifar10", before);
  CheckpointContent content;
  content.optimizer = false;
  content.metadata = {{"config", config.to_yaml()}};
  save_checkpoint(dir.path("w.safetensors"), Supernet(config.model, 1), content);

  std::vector<std::string> command = {
      "train_subnet", "--init", "inherit:w.safetensors", "--architecture", "mean", "--config",
      "cifar10",      "--data", "cifar10:" + dir.root(), "--output",       "run"};
  for (const std::string& setting : small) command.insert(command.end(), {"--set", setting});
  command.insert(command.end(), {"--set", "MODEL.image_size=48"});
  const Outcome trained = run_program(dir.root(), command);
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_NE(trained.out.find("new head; position embedding resampled"), std::string::npos) << trained.out;
  const std::string test = line_with(trained.out, "top-1");
  EXPECT_NE(test.find("20 images"), std::string::npos) << trained.out;
  const Outcome evaluated = run_program(dir.root(), {"evaluate_subnet", "--run", "run"});
  EXPECT_EQ(line_with(evaluated.out, "top-1"), test) << evaluated.err;
  const SafetensorsFile after(dir.path("run/checkpoint.safetensors"));
  EXPECT_EQ(after.tensors().at("head.weight").shape, (std::vector<int64_t>{10, 16}));
  EXPECT_EQ(after.tensors().at("pos_embed").shape, (std::vector<int64_t>{1, 10, 16}));
}

TEST(OptimizerScales, AreOfEachParameter) {
  Supernet supernet(small_config(), 1);
  ParameterArena& arena = supernet.parameters();
  std::fill_n(arena.gradients(), arena.size(), 1.0f);
  const std::vector<float> before(arena.values(), arena.values() + arena.size());
  std::vector<float> scales;
  for (size_t i = 0; i < arena.all().size(); ++i) scales.push_back(static_cast<float>(i % 3));
  AdamWOptions options;
  options.weight_decay = 0.5f;
  adamw_step(arena, options, 1, 0.01, scales);
  for (size_t i = 0; i < arena.all().size(); ++i) {
    const Parameter& parameter = arena.all()[i];
    for (const int64_t at : {parameter.offset, parameter.offset + parameter.shape.count() - 1}) {
      const float lr = 0.01f * scales[i], w = before[static_cast<size_t>(at)];
      EXPECT_NEAR(arena.values()[at], w * (1 - lr * (parameter.decay ? 0.5f : 0)) - lr, 1e-6) << parameter.name;
    }
  }
  expect_error(error_of([&] { adamw_step(arena, options, 1, 0.01, {1}); }), {"a scale", "not 1"});
  scales[0] = -1;
  expect_error(error_of([&] { adamw_step(arena, options, 1, 0.01, scales); }), {"zero or more, not -1"});
}

}  // namespace
}  // namespace entangle
