// Configurations: the built-in ones, the published form, every kind of mistake, and the round trip through YAML.
#include "tools/common/config.h"

#include "nn/cost.h"

#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tools/common/binding.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

// A published file as it stands: block lists, a ratio with a point, no section of ours.
const char* const kPublished = R"(SUPERNET:
  MLP_RATIO: 4.0
  NUM_HEADS: 4
  EMBED_DIM: 256
  DEPTH: 3
SEARCH_SPACE:
  MLP_RATIO:
    - 4
    - 3.5
  NUM_HEADS:
    - 3
    - 4
  DEPTH:
    - 2
    - 3
  EMBED_DIM:
    - 192
    - 216
RETRAIN:
  MLP_RATIO:
    - 3.0
    - 4.0
  NUM_HEADS:
    - 3
    - 4
  DEPTH: 2
  EMBED_DIM: 192
)";

std::string parse_error(const std::string& text, const std::vector<std::string>& settings = {}) {
  return error_of([&] { parse_config(text, "my", settings); });
}

TEST(Config, PublishedFileLoadsWithPublishedValues) {
  const Config config = parse_config(kPublished, "my");
  EXPECT_EQ(config.name, "my");
  EXPECT_EQ(config.model.embed_dim, 256);
  EXPECT_EQ(config.model.head_dim, 64);
  EXPECT_EQ(config.model.image_size, 224);
  EXPECT_EQ(config.space.mlp_ratio, (std::vector<double>{3.5, 4})) << "choices are sorted";
  EXPECT_EQ(config.space.depth, (std::vector<int>{2, 3}));
  EXPECT_EQ(config.retrain.to_json(), R"({"depth":2,"embed_dim":192,"mlp_ratio":[3,4],"num_heads":[3,4]})");
  EXPECT_EQ(config.model.drop_path, 0.1);
  EXPECT_EQ(config.train.epochs, 500);
  EXPECT_EQ(config.data.augmentation.image_size, 224);
  EXPECT_DOUBLE_EQ(config.train.schedule(10).lr, 1e-3) << "5e-4 * 1024 / 512";
}

TEST(Config, BuiltinOnesLoadAndHoldThePublishedSubnets) {
  ASSERT_EQ(builtin_configs().size(), 11u);
  const std::vector<std::pair<std::string, int>> depths = {{"T", 13}, {"S", 13}, {"B", 14}, {"fashion-mnist", 0}};
  for (const auto& [name, depth] : depths) EXPECT_EQ(load_config(name).retrain.depth, depth) << name;
  const Config tiny = load_config("deit-tiny"), small = load_config("deit-small");
  EXPECT_EQ(cost_of(tiny.model, tiny.largest()).params, 5717416);
  EXPECT_EQ(cost_of(small.model, small.largest()).params, 22050664);
  const Config fashion = load_config("fashion-mnist");
  EXPECT_EQ(fashion.model.tokens(), 50);
  EXPECT_EQ(fashion.space.largest(), fashion.model.full());
}

TEST(Config, TransferIsOfThePublishedSubnetAtBothSizes) {
  const std::vector<std::pair<std::string, int>> classes = {
      {"cifar10", 10}, {"cifar100", 100}, {"flowers102", 102}, {"cars", 196}, {"pets", 37}};
  const Config small = load_config("S");
  for (const auto& [name, count] : classes) {
    for (const int size : {224, 384}) {
      const Config config = load_config(name, {concat("MODEL.image_size=", size)});
      const Config dense = config.dense(small.retrain);
      EXPECT_EQ(config.model.num_classes, count) << name;
      const int64_t patches = size * size / 256, more_positions = (patches - 196) * 384;
      EXPECT_EQ(cost_of(dense.model, small.retrain).params, 22891432 - (1000 - count) * 385 + more_positions) << name;
      EXPECT_GT(config.train.schedule(10).lr, config.train.min_lr) << name;
      EXPECT_EQ(config.data.augmentation.erase, 0) << name;
    }
  }
}

TEST(Config, YamlOfEveryConfigurationReadsBackToTheSame) {
  for (const BuiltinConfig& builtin : builtin_configs()) {
    const Config config = load_config(
        builtin.name, {"TRAIN.seed=18446744073709551615", "TRAIN.eps=1.5e-7", "DATA.spec=folder:a \"b\": #c",
                       "MODEL.qkv_bias=contiguous", "TRAIN.per_epoch=true", "DATA.flip=0.1"});
    const std::string yaml = config.to_yaml();
    const Config again = parse_config(yaml, builtin.name);
    EXPECT_EQ(again.to_yaml(), yaml);
    EXPECT_EQ(first_difference(config, again), "");
    EXPECT_EQ(again.train.seed, 18446744073709551615ull);
    EXPECT_EQ(again.train.eps, 1.5e-7);
    EXPECT_EQ(again.data.spec, "folder:a \"b\": #c");
    EXPECT_EQ(again.model.qkv_bias, QkvBias::contiguous);
    EXPECT_EQ(again.retrain, config.retrain);
  }
}

TEST(Config, SettingsComeAfterTheTextAndAreChecked) {
  const Config config = parse_config(kPublished, "my", {"TRAIN.lr=0.25", "SEARCH_SPACE.DEPTH=[3]", "TRAIN.lr=0.5"});
  EXPECT_EQ(config.train.lr, 0.5);
  EXPECT_EQ(config.space.depth, (std::vector<int>{3}));
  expect_error(parse_error(kPublished, {"TRAIN.lr"}), {"'TRAIN.lr'", "SECTION.key=value"});
  expect_error(parse_error(kPublished, {"TRAIN.rl=1"}), {"unknown key TRAIN.rl", "TRAIN.lr"});
  expect_error(parse_error(kPublished, {"TRIAN.lr=1"}), {"unknown section TRIAN", "TRAIN"});
}

TEST(Config, PrecisionIsReadAndKept) {
  EXPECT_EQ(parse_config(kPublished, "my").model.precision, Precision::fp32);
  const Config config = parse_config(kPublished, "my", {"MODEL.precision=bf16", "TRAIN.recompute=true"});
  const Config again = parse_config(config.to_yaml(), "again");
  for (const Config& c : {config, again}) {
    EXPECT_EQ(c.model.precision, Precision::bf16);
    EXPECT_TRUE(c.model.recompute);
  }
  expect_error(parse_error(kPublished, {"MODEL.precision=fp8"}), {"MODEL.precision", "fp32 or bf16", "'fp8'"});
}

TEST(Config, UnknownKeysNameTheNearestOne) {
  const std::string text(kPublished);
  expect_error(parse_error(text + "TRAIN:\n  epoch: 3\n"), {"my", "line 29", "TRAIN.epoch", "TRAIN.epochs"});
  expect_error(parse_error(text + "MODEL:\n  drop_path: 0\n"), {"MODEL.drop_path", "TRAIN.drop_path"});
  expect_error(parse_error(text + "MODEL:\n  Image_Sise: 3\n"), {"MODEL.image_size"});
  expect_error(parse_error(text + "SERACH:\n  images: 3\n"), {"line 28", "SERACH", "SEARCH"});
}

TEST(Config, WrongValuesNameKeyValueAndWhatIsAllowed) {
  const std::string text(kPublished);
  expect_error(parse_error(text + "TRAIN:\n  epochs: 0\n"), {"line 29", "TRAIN.epochs is 0", "1 to 1000000"});
  expect_error(parse_error(text + "DATA:\n  flip: 1.5\n"), {"DATA.flip is 1.5", "0 to 1"});
  expect_error(parse_error(text + "TRAIN:\n  lr: fast\n"), {"line 29", "TRAIN.lr", "a number", "'fast'"});
  expect_error(parse_error(text + "TRAIN:\n  lr: .nan\n"), {"TRAIN.lr", "a number"});
  expect_error(parse_error(text + "TRAIN:\n  epochs: 2.5\n"), {"TRAIN.epochs", "whole number", "'2.5'"});
  expect_error(parse_error(text + "TRAIN:\n  epochs: 99999999999999999999\n"), {"TRAIN.epochs is 1", "1 to 1000000"});
  expect_error(parse_error(text + "TRAIN:\n  epochs: [1]\n"), {"TRAIN.epochs", "a list"});
  expect_error(parse_error(text + "TRAIN:\n  epochs:\n"), {"TRAIN.epochs", "nothing"});
  expect_error(parse_error(text + "TRAIN:\n  seed: -1\n"), {"TRAIN.seed", "'-1'"});
  expect_error(parse_error(text + "TRAIN:\n  per_epoch: 2\n"), {"TRAIN.per_epoch", "true or false", "'2'"});
  expect_error(parse_error(text + "MODEL:\n  qkv_bias: straight\n"), {"MODEL.qkv_bias", "contiguous", "'straight'"});
  expect_error(parse_error(text + "SEARCH:\n  algorithm: luck\n"), {"luck", "evolution"});
  expect_error(parse_error(text + "MODEL:\n  patch_size: 5\n"), {"my", "224", "5"});
}

TEST(Config, BrokenTextIsRefused) {
  expect_error(parse_error(""), {"my", "SUPERNET"});
  expect_error(parse_error("just words"), {"not a configuration"});
  expect_error(parse_error("SUPERNET: 3\n"), {"line 1", "SUPERNET is a section"});
  expect_error(parse_error("SUPERNET: [\n"), {"my", "line", "not YAML"});
  expect_error(parse_error("SUPERNET:\n  DEPTH: 3\n  DEPTH: 3\n"), {"line 3", "SUPERNET.DEPTH is given twice"});
  expect_error(parse_error("SUPERNET:\n  DEPTH: 3\n"), {"SUPERNET.MLP_RATIO is missing"});
}

TEST(Config, SpaceAndFixedSubnetMustFitTheSupernet) {
  expect_error(parse_error(kPublished, {"SEARCH_SPACE.EMBED_DIM=[192, 512]"}), {"512", "256"});
  expect_error(parse_error(kPublished, {"SEARCH_SPACE.DEPTH=[2, 2]"}), {"depth", "2"});
  expect_error(parse_error(kPublished, {"SEARCH_SPACE.DEPTH=[]"}), {"SEARCH_SPACE.DEPTH", "a list of numbers"});
  expect_error(parse_error(kPublished, {"RETRAIN.NUM_HEADS=[3]"}), {"RETRAIN", "depth 2", "1 heads"});
  expect_error(error_of([] { load_config("fashion-mnist", {"MODEL.subnet=true"}); }), {"MODEL.subnet", "RETRAIN"});
  expect_error(parse_error(kPublished, {"RETRAIN.NUM_HEADS=[3, 5]"}), {"5", "4"});
}

TEST(Config, NamesAreBuiltinOnesOrFiles) {
  TemporaryDirectory dir;
  write_raw(dir.path("mine.yaml"), kPublished);
  EXPECT_EQ(load_config(dir.path("mine.yaml")).name, "mine");
  expect_error(error_of([] { load_config("fashion"); }), {"'fashion'", "fashion-mnist", "T"});
  expect_error(error_of([&] { load_config(dir.root()); }), {dir.root(), "directory"});
}

TEST(Config, DifferencesNameTheFirstKey) {
  const Config config = load_config("fashion-mnist");
  EXPECT_EQ(first_difference(config, load_config("fashion-mnist", {"TRAIN.epochs=30", "DATA.flip=0"})),
            "TRAIN.epochs is 10 before and 30 now");
}

TEST(Config, EditDistance) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("LR", "lr"), 0);
  EXPECT_EQ(edit_distance("ab", "ba"), 2);
}

}  // namespace
}  // namespace entangle
