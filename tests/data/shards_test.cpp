// WebDataset tar shards: names, samples, classes, the order of training.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include "data/loader.h"
#include "data/shard_names.h"
#include "data/tar_file.h"
#include "engine/rng.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tools/common/config.h"
#include "tools/common/encode.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

using Names = std::vector<std::string>;

TEST(ShardNames, BracesAreExpandedAsByAShell) {
  EXPECT_EQ(expand_braces("a.tar"), Names{"a.tar"});
  EXPECT_EQ(expand_braces("s-{008..011}.tar"), (Names{"s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"}));
  EXPECT_EQ(expand_braces("{8..10}"), (Names{"8", "9", "10"}));
  EXPECT_EQ(expand_braces("{a,b}/{0..1}"), (Names{"a/0", "a/1", "b/0", "b/1"}));
  EXPECT_EQ(expand_braces("{x{1..2},y}z"), (Names{"x1z", "x2z", "yz"}));
  EXPECT_EQ(expand_braces("{000000..000146}.tar").size(), 147u);
  EXPECT_EQ(expand_braces("{000000..000146}.tar").back(), "000146.tar");
  expect_error(error_of([] { expand_braces("a{0..3"); }), {"a{0..3", "character 2", "not closed"});
  expect_error(error_of([] { expand_braces("a}b{0..3}"); }), {"character 2", "closes nothing"});
  expect_error(error_of([] { expand_braces("a{0..3}}"); }), {"closes nothing"});
  expect_error(error_of([] { expand_braces("{5..3}"); }), {"goes down"});
  expect_error(error_of([] { expand_braces("{0..999999999}"); }), {"more than 1000000"});
  expect_error(error_of([] { expand_braces("{0..1999}{0..999}"); }), {"more than 1000000"});
}

TEST(ShardNames, MembersOfASampleShareTheNameUpToTheFirstDot) {
  const auto split = [](const std::string& name) {
    std::string sample, kind;
    return split_member_name(name, sample, kind) ? sample + "|" + kind : "none";
  };
  EXPECT_EQ(split("a.jpg"), "a|jpg");
  EXPECT_EQ(split("x.y/a.seg.PNG"), "x.y/a|seg.png");
  EXPECT_EQ(split("README"), "none");
  EXPECT_EQ(split("d/.hidden"), "none");
  EXPECT_EQ(split(""), "none");
}

Image random_image(int64_t height, int64_t width, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  Image image = {height, width, 3, {}};
  for (int64_t i = 0; i < height * width * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
  return image;
}

constexpr int kShards = 4, kSamples = 12, kAll = kShards * kSamples;

class Shards : public testing::Test {
 protected:
  static std::string png(uint64_t seed) {
    return encode_png(random_image(18 + static_cast<int64_t>(seed % 9), 20, seed), "image");
  }
  // Sample `i` of a shard has the label i mod 3.
  void write_shard(const std::string& name, uint64_t seed) const {
    std::string bytes;
    for (uint64_t i = 0; i < kSamples; ++i) {
      const std::string sample = "d/" + std::to_string(100 + i);
      if (i % 2) bytes += tar_member(sample + ".cls", std::to_string(i % 3) + "\n");
      bytes += tar_member(sample + ".png", png(seed + i));
      if (i % 4 == 0) bytes += tar_member(sample + ".json", "{}");
      if (i % 2 == 0) bytes += tar_member(sample + ".cls", std::to_string(i % 3));
    }
    write_raw(dir.path(name), bytes + tar_member("about.txt", "no sample") + tar_member("README", "") + tar_end());
  }
  void SetUp() override {
    for (int i = 0; i < kShards; ++i)
      write_shard("train-00" + std::to_string(i) + ".tar", 100 * static_cast<uint64_t>(i));
    write_shard("val-000.tar", 900);
  }
  std::string pattern() const { return "wds:" + dir.path("train-{000..003}.tar"); }
  std::string error(const std::string& bytes) const {
    write_raw(dir.path("bad.tar"), bytes);
    return error_of([&] { open_data("wds:" + dir.path("bad.tar") + "," + dir.path("val-000.tar")); });
  }

  TemporaryDirectory dir;
};

TEST_F(Shards, SamplesComeInTheOrderOfTheShards) {
  for (const std::string& spec : {pattern(), "wds:" + dir.root()}) {
    const DataSource source = open_data(spec);
    EXPECT_TRUE(source.any_size);
    EXPECT_EQ(source.train->size(), kAll);
    EXPECT_EQ(source.test->size(), kSamples);
    EXPECT_EQ(source.train->classes(), 3);
    EXPECT_EQ(source.train->channels(), 3);
    Image image;
    for (const int64_t i : {0, 1, kSamples + 5, kAll - 1}) {
      source.train->get(i, image);
      const uint64_t seed = static_cast<uint64_t>(100 * (i / kSamples) + i % kSamples);
      EXPECT_EQ(image.pixels, random_image(18 + static_cast<int64_t>(seed % 9), 20, seed).pixels) << i;
      EXPECT_EQ(source.train->label(i), i % kSamples % 3);
    }
  }
  const DataSource source = open_data(pattern());
  ImageFile file;
  ASSERT_TRUE(source.train->get_file(kSamples + 1, file));
  EXPECT_EQ(file.name, dir.path("train-001.tar") + ": 'd/101.png'");
  EXPECT_EQ(std::string(file.bytes.begin(), file.bytes.end()), png(101));
  EXPECT_EQ(source.train->name(kSamples + 1), "train-001.tar/d/101.png");
}

TEST_F(Shards, TrainAndValAreGivenInSeveralWays) {
  const std::string train = dir.path("train-000.tar"), val = dir.path("val-000.tar");
  EXPECT_EQ(open_data("wds:" + train + "::" + dir.path("train-{001..002}.tar")).train->size(), 3 * kSamples);
  EXPECT_EQ(open_data("wds:" + val + "," + train).test->size(), kSamples);
  EXPECT_EQ(open_data("wds:{" + train + "," + dir.path("train-001.tar") + "}," + val).train->size(), 2 * kSamples);
  std::filesystem::rename(val, dir.path("validation-00.tar"));
  EXPECT_EQ(open_data(pattern()).test->size(), kSamples);
  std::filesystem::rename(dir.path("validation-00.tar"), dir.path("valid.tar"));
  expect_error(error_of([&] { open_data(pattern()); }), {dir.root(), "no shards val*.tar", "val-{000000..000006}"});
  expect_error(error_of([&] { find_shards(train + ",a,b"); }), {"more than two parts"});
  expect_error(error_of([&] { find_shards(train + ","); }), {"empty name"});
}

TEST_F(Shards, WhatIsWrongIsNamed) {
  const auto open_error = [&](const std::string& spec) { return error_of([&] { open_data(spec); }); };
  expect_error(open_error("wds"), {"no shards are named"});
  expect_error(open_error("wds:" + dir.path("train-{000..004}.tar")), {"train-004.tar", "cannot be opened"});
  expect_error(open_error("wds:" + dir.path("other.tar")), {"other.tar", "nor is its first shard called train"});
  std::filesystem::create_directory(dir.path("empty"));
  expect_error(open_error("wds:" + dir.path("empty")), {"empty", "no shards train*.tar"});
  write_raw(dir.path("unfinished"), "");
  expect_error(open_error(pattern()), {"not packed to its end", "pack_dataset"});
  std::filesystem::remove(dir.path("unfinished"));
  const std::string bad = dir.path("bad.tar");
  expect_error(error(tar_member("a.jpg", "x") + tar_end()), {bad, "'a'", "no label (.cls"});
  expect_error(error(tar_member("a.cls", "1") + tar_end()), {bad, "'a'", "no image"});
  expect_error(error(tar_member("a.jpg", "x") + tar_member("b.cls", "1") + tar_end()), {bad, "'a'", "no label"});
  expect_error(error(tar_member("a.jpg", "x") + tar_member("a.png", "1") + tar_end()), {bad, "'a'", "two images"});
  expect_error(error(tar_member("a.cls", "1") + tar_member("a.cls", "1") + tar_end()), {bad, "'a'", "two labels"});
  expect_error(error(tar_member("README", "") + tar_end()), {bad, "holds no sample"});
  for (const std::string label : {"", "-1", "1.5", "cat", "1 2", "99999999", "1000000"}) {
    expect_error(error(tar_member("a.cls", label) + tar_end()), {bad, "a.cls", "no class"});
  }
  expect_error(error(tar_member("a.cls", std::string(100, ' ')) + tar_end()), {bad, "a.cls", "100 bytes"});
  expect_error(error(tar_member("../a.jpg", "x") + tar_end()), {bad, "leaves its folder"});
  expect_error(error(read_raw(dir.path("train-000.tar")).substr(0, 4000)), {bad, "cut short"});
}

TEST_F(Shards, ABrokenImageIsNamedWhenItIsRead) {
  write_raw(dir.path("train-000.tar"), tar_member("a.jpg", "broken") + tar_member("a.cls", "1") + tar_end());
  const DataSource source = open_data(pattern());
  Image image;
  expect_error(error_of([&] { source.train->get(0, image); }), {"train-000.tar", "a.jpg", "no JPEG"});
  write_shard("train-001.tar", 300);
  const std::string other = tar_member("new", std::string(3000, 'x'));
  std::fstream(dir.path("train-001.tar"), std::ios::in | std::ios::out | std::ios::binary) << other;
  expect_error(error_of([&] { source.train->get(1, image); }), {"train-001.tar", "changed while it was in use"});
}

TEST_F(Shards, ClassesMayBeNamedBesideTheShards) {
  write_raw(dir.path("classes.txt"), "ant\r\nbee\ncat\ndog\n");
  const DataSource source = open_data(pattern());
  EXPECT_EQ(source.train->classes(), 4);
  EXPECT_EQ(source.test->classes(), 4);
  EXPECT_EQ(source.train->class_name(1), "bee");
  write_raw(dir.path("classes.txt"), "ant\nbee");
  expect_error(error_of([&] { open_data(pattern()); }), {"train-000.tar", "d/102.png", "class 2", "names 2 classes"});
  write_raw(dir.path("classes.txt"), "");
  expect_error(error_of([&] { open_data(pattern()); }), {"classes.txt", "names no classes"});
}

std::vector<int64_t> some_indices() {
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < kAll; ++i) {
    if (i % 7 != 3) indices.push_back(i);
  }
  return indices;
}

TEST_F(Shards, EpochsGoThroughShardsInARandomOrderOfSeedAndEpoch) {
  DataOptions options;
  options.shuffle_buffer = 1;
  const auto dataset = open_data(pattern(), options).train;
  const std::vector<int64_t> indices = some_indices(), order = dataset->epoch_order(indices, 5, 2);
  EXPECT_TRUE(std::is_permutation(order.begin(), order.end(), indices.begin(), indices.end()));
  for (size_t i = 1; i < order.size(); ++i) {
    EXPECT_TRUE(order[i] / kSamples != order[i - 1] / kSamples || order[i] > order[i - 1]) << i;
  }
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 40; ++epoch) orders.insert(dataset->epoch_order(indices, 5, epoch));
  EXPECT_GE(orders.size(), 15u) << "of the 24 orders of four shards";
  EXPECT_EQ(order, dataset->epoch_order(indices, 5, 2));
  options.shuffle_buffer = 0;
  expect_error(error_of([&] { open_data(pattern(), options); }), {"shuffle buffer", "0"});
}

TEST_F(Shards, TheBufferMixesWhatIsNearTogether) {
  DataOptions options;
  options.shuffle_buffer = 8;
  const auto dataset = open_data(pattern(), options).train;
  std::vector<int64_t> all(kAll);
  std::iota(all.begin(), all.end(), 0);
  options.shuffle_buffer = 1;
  const auto unmixed = open_data(pattern(), options).train;
  std::vector<double> waited;
  for (int64_t epoch = 0; epoch < 200; ++epoch) {
    const std::vector<int64_t> order = dataset->epoch_order(all, 1, epoch),
                               stream = unmixed->epoch_order(all, 1, epoch);
    ASSERT_TRUE(std::is_permutation(order.begin(), order.end(), all.begin(), all.end()));
    for (int64_t i = 0; i < kAll; ++i) {
      const int64_t passed = std::find(stream.begin(), stream.end(), order[static_cast<size_t>(i)]) - stream.begin();
      ASSERT_LT(passed, i + 8 + 1) << "no sample is visited before it has come into the buffer";
      if (passed >= 8 && i < kAll - 8) waited.push_back(static_cast<double>(i + 8 - passed));
    }
  }
  // A sample leaves a buffer of eight with probability 1/8 at each step; those that are still in it at the end are cut off.
  const double mean = std::accumulate(waited.begin(), waited.end(), 0.0) / static_cast<double>(waited.size());
  EXPECT_GT(mean, 5.0);
  EXPECT_LT(mean, 8.0);
  std::set<int64_t> firsts;
  for (int64_t epoch = 0; epoch < 200; ++epoch) firsts.insert(dataset->epoch_order(all, 1, epoch)[0]);
  EXPECT_EQ(firsts.size(), 32u) << "each of the first eight of each shard comes first some time";
}

// Bytes between the end of one read and the beginning of the next, and how often another shard is read than before.
TEST_F(Shards, ReadsLieNearTogether) {
  constexpr int64_t kMany = 20, kLong = 500, kBytes = 4 * 512;  // a sample: two headers, a label, an image of 512 bytes
  for (int64_t i = 0; i < kMany; ++i) {
    std::string bytes;
    for (int64_t k = 0; k < kLong; ++k) {
      bytes +=
          tar_member(std::to_string(k) + ".cls", "1") + tar_member(std::to_string(k) + ".jpg", std::string(512, 'x'));
    }
    write_raw(dir.path("train-" + std::to_string(100 + i) + ".tar"), bytes + tar_end());
  }
  DataOptions options;
  options.shuffle_buffer = 50;
  const auto dataset = open_data("wds:" + dir.path("train-{100..119}.tar"), options).train;
  std::vector<int64_t> all(kMany * kLong);
  std::iota(all.begin(), all.end(), 0);
  const auto cost = [&](const std::vector<int64_t>& order) {
    std::pair<int64_t, int64_t> sought(0, 0);  // bytes, other shards
    for (size_t i = 1; i < order.size(); ++i) {
      const int64_t a = order[i - 1], b = order[i];
      const bool same = a / kLong == b / kLong;
      (same ? sought.first : sought.second) += same ? std::abs(b - a - 1) * kBytes : 1;
    }
    return sought;
  };
  const auto near = cost(dataset->epoch_order(all, 1, 1)), far = cost(dataset->Dataset::epoch_order(all, 1, 1));
  // Waiting times in the buffer are geometric with mean 50; two of them differ by 50 on average.
  EXPECT_LT(near.first, 70 * kBytes * kMany * kLong);
  EXPECT_GT(near.first, 30 * kBytes * kMany * kLong) << "and the samples are mixed";
  EXPECT_LT(near.second, 2 * 3 * 50 * kMany) << "only while one shard ends and another begins";
  EXPECT_GT(far.second, kMany * kLong * 9 / 10) << "a full shuffle goes to another shard nearly every time";
  RecordProperty("bytes_sought_per_read", static_cast<int>(near.first / (kMany * kLong)));
}

TEST_F(Shards, SameBatchesForAnyNumberOfWorkersAndAfterAResume) {
  const DataSource source = open_data(pattern());
  LoaderOptions options;
  options.batch_size = 8;
  options.seed = 3;
  options.augmentation.image_size = 16;
  options.augmentation.flip = 0.5;
  std::vector<std::vector<float>> first;
  for (const int workers : {1, 8}) {
    options.workers = workers;
    TrainLoader loader(source, some_indices(), options);
    loader.start(0, 0);
    for (size_t i = 0; i < 10; ++i) {
      const Batch& batch = loader.next();
      if (workers == 1) first.push_back(batch.images);
      EXPECT_EQ(batch.images, first[i]) << i;
    }
    loader.start(1, 2);  // as a resume in the middle of an epoch does
    EXPECT_EQ(loader.next().images, first[static_cast<size_t>(loader.steps_per_epoch()) + 2]);
  }
}

TEST_F(Shards, TheConfigurationSetsTheBuffer) {
  const Config config = load_config("T", {"MODEL.num_classes=3", "DATA.shuffle_buffer=1"});
  const DataSource source = open_data_for(config, pattern());
  const std::vector<int64_t> order = source.train->epoch_order(some_indices(), 0, 0);
  for (size_t i = 1; i < 9; ++i) EXPECT_GT(order[i], order[i - 1]) << "a buffer of one mixes nothing";
  expect_error(error_of([] { load_config("T", {"DATA.shuffle_buffer=0"}); }), {"shuffle_buffer"});
}

}  // namespace
}  // namespace entangle
