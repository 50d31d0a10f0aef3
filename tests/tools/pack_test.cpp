// Packing data sets into shards: what comes out equals what went in, whatever happens on the way.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include <signal.h>

#include "data/decode.h"
#include "data/resize.h"
#include "data/tar_file.h"
#include "engine/rng.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/encode.h"
#include "tools/common/pack.h"

namespace entangle {
namespace {

Image smooth_image(int64_t height, int64_t width, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  const int64_t a = rng.below(200), b = 1 + rng.below(3), c = rng.below(5);
  Image image = {height, width, 3, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t k = 0; k < 3; ++k) image.pixels.push_back(static_cast<uint8_t>((a + b * x + c * y + 40 * k) % 256));
    }
  }
  return image;
}

constexpr int64_t kEach = 15;

class Pack : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string part : {"train", "val"}) {
      for (const std::string name : {"ant", "bee", "cat"}) {
        const std::string folder = dir.path("data/" + part + "/" + name);
        std::filesystem::create_directories(folder);
        for (int64_t i = 0; i < (part == "train" ? kEach : 4); ++i) {
          const Image image = smooth_image(20 + i, 50 - i, static_cast<uint64_t>(i) + (name == "bee" ? 50 : 0));
          const std::string file = folder + "/x." + std::to_string(100 + i);
          if (i % 3 == 0) {
            write_raw(file + ".JPEG", encode_png(image, "png"));  // mislabelled, as one in ImageNet is
          } else {
            write_raw(file + ".jpg", encode_jpeg(image, 80, "jpg"));
          }
        }
      }
    }
    source = open_data("folder:" + dir.path("data"));
    options.output = dir.path("shards");
    options.samples = 10;
  }

  DataSource packed() const { return open_data("wds:" + options.output); }
  std::string shard(const std::string& name) const { return options.output + "/" + name + ".tar"; }
  std::map<std::string, std::string> contents(const std::string& folder) const {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().filename() != "lock") all[entry.path().filename().string()] = read_raw(entry.path().string());
    }
    return all;
  }
  std::string pack_error() const {
    return error_of([&] { pack(source, options); });
  }

  TemporaryDirectory dir;
  DataSource source;
  PackOptions options;
};

using Bytes = std::vector<uint8_t>;

std::multiset<std::pair<int64_t, Bytes>> images_of(const Dataset& dataset) {
  std::multiset<std::pair<int64_t, Bytes>> all;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    Image image;
    dataset.get(i, image);
    all.emplace(dataset.label(i), image.pixels);
  }
  return all;
}

TEST_F(Pack, FilesComeBackAsTheyWere) {
  const PackSummary summary = pack(source, options);
  EXPECT_EQ(summary.samples, 3 * kEach + 12);
  EXPECT_EQ(summary.shards, 5 + 2);
  EXPECT_EQ(summary.broken, 0);
  const DataSource back = packed();
  EXPECT_EQ(back.train->size(), source.train->size());
  EXPECT_EQ(back.train->classes(), 3);
  EXPECT_EQ(back.train->class_name(2), "cat");
  EXPECT_EQ(images_of(*back.train), images_of(*source.train));
  int64_t bytes = 0;
  for (int64_t i = 0; i < back.test->size(); ++i) {
    ImageFile before, after;
    source.test->get_file(i, before);
    back.test->get_file(i, after);
    EXPECT_EQ(after.bytes, before.bytes) << "the test part keeps its order";
    EXPECT_EQ(back.test->label(i), source.test->label(i));
  }
  for (int64_t i = 0; i < back.train->size(); ++i) {
    ImageFile file;
    back.train->get_file(i, file);
    bytes += static_cast<int64_t>(file.bytes.size());
    EXPECT_NE(file.name.find("-x_1"), std::string::npos) << "the name is kept: " << file.name;
    EXPECT_EQ(file.name.find(".png'") != std::string::npos, file.bytes[0] == 0x89) << file.name;
  }
  EXPECT_LT(bytes, summary.bytes);
  EXPECT_FALSE(std::filesystem::exists(dir.path("shards/unfinished")));
}

TEST_F(Pack, TrainingImagesAreShuffledUnlessAsked) {
  pack(source, options);
  const auto mixed = packed().train;
  std::set<int64_t> first;
  for (int64_t i = 0; i < options.samples; ++i) first.insert(mixed->label(i));
  EXPECT_EQ(first.size(), 3u) << "the first shard has every class";
  options.output = dir.path("in order");
  options.in_order = true;
  pack(source, options);
  const auto ordered = packed().train;
  for (int64_t i = 0; i < ordered->size(); ++i) EXPECT_EQ(ordered->label(i), source.train->label(i));
}

TEST_F(Pack, ShardsAreLimitedByTheirBytes) {
  options.samples = 1000;
  options.bytes = 5000;
  pack(source, options);
  size_t shards = 0;
  std::vector<int64_t> sums;
  for (; std::filesystem::exists(shard("train-00000" + std::to_string(shards))); ++shards) {
    const TarFile file(shard("train-00000" + std::to_string(shards)));
    TarReader reader = file.reader();
    int64_t sum = 0, images = 0;
    for (TarMember member; reader.next(member);) {
      const bool label = member.name.compare(member.name.size() - 4, 4, ".cls") == 0;
      sum += label ? 0 : static_cast<int64_t>(member.size);
      images += !label;
    }
    EXPECT_TRUE(sum <= options.bytes || images == 1) << sum;
    sums.push_back(sum);
  }
  ASSERT_GE(shards, 3u);
  EXPECT_GT(sums[0], options.bytes / 2);
  EXPECT_EQ(images_of(*packed().train), images_of(*source.train));
}

TEST_F(Pack, LargerImagesAreResizedWhenAsked) {
  options.short_side = 24;
  options.quality = 95;
  options.in_order = true;
  pack(source, options);
  const auto train = packed().train;
  for (int64_t i = 0; i < train->size(); ++i) {
    Image before, after;
    source.train->get(i, before);
    train->get(i, after);
    const int64_t height = before.height, width = before.width;
    if (std::min(height, width) <= 24) {
      EXPECT_EQ(after.pixels, before.pixels) << "small images stay as they are";
      continue;
    }
    EXPECT_EQ(std::min(after.height, after.width), 24);
    EXPECT_EQ(std::max(after.height, after.width), 24 * std::max(height, width) / std::min(height, width));
    const Image want = resize(before, after.width, after.height, Interpolation::bicubic);
    double difference = 0;
    for (size_t k = 0; k < want.pixels.size(); ++k) difference += std::abs(int{want.pixels[k]} - int{after.pixels[k]});
    EXPECT_LT(difference / static_cast<double>(want.pixels.size()), 4.0) << "near what was encoded";
  }
}

TEST_F(Pack, GoesOnWithTheFirstShardThatIsMissing) {
  options.samples = 7;
  pack(source, options);
  const auto whole = contents(options.output);
  for (const std::string lost : {"train-000003", "val-000000"}) std::filesystem::remove(shard(lost));
  for (const std::string lost : {"train-000004", "train-000005", "train-000006", "val-000001"}) {
    std::filesystem::remove(shard(lost));
  }
  write_raw(options.output + "/train-000003.tar.part.12345.tmp", "of a process that was killed");
  write_raw(options.output + "/train-000003.tar.part", "not read back yet");
  const PackSummary summary = pack(source, options);
  EXPECT_EQ(summary.resumed, 21);
  EXPECT_EQ(summary.samples, 3 * kEach + 12);
  EXPECT_EQ(contents(options.output), whole);
  EXPECT_EQ(pack(source, options).resumed, 3 * kEach + 12) << "nothing is left to do";
  EXPECT_EQ(contents(options.output), whole);
}

TEST_F(Pack, BrokenImagesAreLeftOutAndCounted) {
  const std::string broken = dir.path("data/train/bee/x.104.jpg");
  write_raw(broken, read_raw(broken).substr(0, 40));
  expect_error(pack_error(), {"1 images are broken", "--max-broken", broken});
  options.most_broken = 0.02;
  PackSummary summary = pack(source, options);
  EXPECT_EQ(summary.broken, 1);
  EXPECT_EQ(packed().train->size(), source.train->size() - 1);
  const auto whole = contents(options.output);
  std::filesystem::remove(shard("val-000001"));
  summary = pack(source, options);
  EXPECT_EQ(summary.broken, 1) << "also when the shard around it is kept";
  EXPECT_EQ(contents(options.output), whole);
}

TEST_F(Pack, WhatIsWrongIsNamed) {
  pack(source, options);
  options.short_side = 32;
  expect_error(pack_error(), {"holds another packing", "\"short side 0\" there", "\"short side 32\" now"});
  options.short_side = 0;
  std::filesystem::copy_file(shard("train-000001"), shard("train-000000"),
                             std::filesystem::copy_options::overwrite_existing);
  expect_error(pack_error(), {"train-000001.tar", "does not belong to this packing"});
  std::filesystem::remove(dir.path("shards/pack.txt"));
  expect_error(pack_error(), {"not made by this program", ".tar"});
  options.output = dir.path("new");
  options.quality = 101;
  expect_error(pack_error(), {"--quality is 101"});
  options.quality = 90;
  options.samples = 0;
  expect_error(pack_error(), {"--samples is 0"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("new")));
}

TEST_F(Programs, PackingSurvivesAKill) {
  for (const std::string part : {"train", "val"}) {
    for (const std::string name : {"ant", "bee"}) {
      std::filesystem::create_directories(dir.path("images/" + part + "/" + name));
      for (uint64_t i = 0; i < (part == "train" ? 100 : 3); ++i) {
        write_raw(dir.path("images/" + part + "/" + name + "/" + std::to_string(i) + ".jpg"),
                  encode_jpeg(smooth_image(70, 90, i), 90, "jpg"));
      }
    }
  }
  const auto command = [&](const std::string& output, const std::string& threads) {
    return std::vector<std::string>{"pack_dataset",
                                    "--data",
                                    "folder:" + dir.path("images"),
                                    "--output",
                                    dir.path(output),
                                    "--samples",
                                    "20",
                                    "--short-side",
                                    "64",
                                    "--seed",
                                    "3",
                                    "--threads",
                                    threads};
  };
  const Outcome whole = run(command("whole", "1"));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_NE(whole.out.find("206 samples in 11 shards"), std::string::npos) << whole.out;
  EXPECT_NE(whole.out.find("--data wds:" + dir.path("whole")), std::string::npos) << whole.out;
  int killed = 0;
  for (int attempt = 0; attempt < 200; ++attempt) {
    Running packing(dir.root(), command("parts", "3"));
    std::this_thread::sleep_for(std::chrono::milliseconds(15 + 25 * attempt));
    packing.signal(SIGKILL);
    const Outcome outcome = packing.wait();
    if (outcome.status == 0) break;
    EXPECT_EQ(outcome.status, -SIGKILL) << outcome.err;
    ++killed;
  }
  EXPECT_GT(killed, 0);
  EXPECT_EQ(run(command("parts", "2")).status, 0);
  size_t shards = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path("whole"))) {
    const std::string name = entry.path().filename().string();
    if (name == "lock") continue;
    EXPECT_EQ(read_raw(dir.path("parts/" + name)), read_raw(entry.path().string())) << name;
    shards += entry.path().extension() == ".tar";
  }
  EXPECT_EQ(shards, 11u);
  EXPECT_EQ(files_in(dir.path("parts")), files_in(dir.path("whole"))) << "nothing is left behind";
  EXPECT_EQ(images_of(*open_data("wds:" + dir.path("parts")).train),
            images_of(*open_data("wds:" + dir.path("whole")).train));

  expect_user_error({"pack_dataset", "--data", "fashion-mnist:" + dir.path("data"), "--output", "x"},
                    {"1 channel", "RGB"});
  EXPECT_EQ(run({"pack_dataset", "--data", "folder:x"}).status, 2);
}

}  // namespace
}  // namespace entangle
