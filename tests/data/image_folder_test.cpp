// Data sets of image folders, and training on them.
#include <gtest/gtest.h>

#include <filesystem>

#include "data/decode.h"
#include "data/evaluation_images.h"
#include "data/loader.h"
#include "data/rand_augment.h"
#include "engine/rng.h"
#include "tests/expect_error.h"
#include "tests/files.h"
#include "tests/program_runner.h"
#include "tests/temporary_directory.h"
#include "tools/common/config.h"
#include "tools/common/models.h"
#include "tools/common/png.h"

namespace entangle {
namespace {

Image random_image(int64_t height, int64_t width, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  Image image = {height, width, 3, {}};
  for (int64_t i = 0; i < height * width * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
  return image;
}

// Two classes, images of many sizes, one file with an upper-case ending, one that is no image.
class Folder : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string part : {"train", "val"}) {
      for (const std::string name : {"cat", "ant"}) {
        std::filesystem::create_directories(dir.path(part + "/" + name));
        for (int i = 0; i < 12; ++i) {
          write_png(dir.path(part + "/" + name + "/" + std::to_string(10 + i) + (i == 5 ? ".PNG" : ".png")),
                    random_image(20 + 3 * i, 50 - 2 * i, static_cast<uint64_t>(i) + 100));
        }
        write_raw(dir.path(part + "/" + name + "/notes.txt"), "no image");
      }
    }
  }
  DataSource open() const { return open_data("folder:" + dir.root()); }

  TemporaryDirectory dir;
};

TEST_F(Folder, ClassesAndFilesGoByName) {
  const DataSource source = open();
  EXPECT_TRUE(source.any_size);
  EXPECT_EQ(source.train->size(), 24);
  EXPECT_EQ(source.train->classes(), 2);
  EXPECT_EQ(source.train->channels(), 3);
  Image image;
  source.train->get(0, image);
  EXPECT_EQ(image.pixels, random_image(20, 50, 100).pixels) << "ant/10.png";
  EXPECT_EQ(source.train->label(11), 0);
  EXPECT_EQ(source.train->label(12), 1);
  source.test->get(17, image);
  EXPECT_EQ(image.pixels, random_image(35, 40, 105).pixels) << "cat/15.PNG";
}

TEST_F(Folder, TrainingTakesTheViewThatItsNumbersDraw) {
  LoaderOptions options;
  options.batch_size = 8;
  options.seed = 4;
  options.augmentation.image_size = 16;
  options.augmentation.flip = 0.5;
  options.augmentation.auto_augment = "rand-m9-mstd0.5-inc1";
  std::vector<float> first;
  for (const int workers : {1, 4}) {
    options.workers = workers;
    TrainLoader loader(
        open(),
        [] {
          std::vector<int64_t> all;
          for (int64_t i = 0; i < 24; ++i) all.push_back(i);
          return all;
        }(),
        options);
    loader.start(2, 1);
    const Batch& batch = loader.next();
    if (first.empty()) first = batch.images;
    EXPECT_EQ(batch.images, first) << "any number of workers gives the same bits";
  }
  // Image 3 of the batch, drawn by hand.
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 24; ++i) order.push_back(i);
  Rng shuffling(4, Stream::data_order, 2);
  shuffle(shuffling, order.data(), 24);
  Image image;
  const DataSource source = open();
  source.train->get(order[8 + 3], image);
  Rng rng(4, Stream::augmentation, 2);
  rng.next = uint64_t{8 + 3} << 32;
  const RandAugment policy = RandAugment::parse(options.augmentation.auto_augment);
  const Image view = training_view(image, {16, 0.5, Interpolation::bicubic, &policy}, rng);
  std::vector<float> want(3 * 16 * 16);
  place_image(view, {}, Normalizer(source.mean, source.std_dev), 16, want.data());
  EXPECT_EQ(std::vector<float>(first.begin() + 3 * 768, first.begin() + 4 * 768), want);
}

TEST_F(Folder, EvaluationResizesAndTakesTheCentre) {
  const DataSource source = open();
  const Batch batch = load_for_evaluation(*source.test, source, {0, 7, 20}, 1, 2, 16);
  Image image;
  source.test->get(7, image);
  std::vector<float> want(3 * 16 * 16);
  place_image(resize_for_evaluation(image, 16, Interpolation::bicubic), {}, Normalizer(source.mean, source.std_dev), 16,
              want.data());
  EXPECT_EQ(std::vector<float>(batch.images.begin(), batch.images.begin() + 768), want);
  EXPECT_EQ(batch.labels, (std::vector<int64_t>{0, 1}));
}

TEST_F(Folder, EvaluationInterpolatesAsConfigured) {
  Config config = load_config("T", {"MODEL.num_classes=2", "DATA.interpolation=bilinear"});
  const DataSource source = open_data_for(config, "folder:" + dir.root());
  const Batch batch = load_for_evaluation(*source.test, source, {7}, 0, 1, 16);
  Image image;
  source.test->get(7, image);
  std::vector<float> want(3 * 16 * 16);
  place_image(resize_for_evaluation(image, 16, Interpolation::bilinear), {}, Normalizer(source.mean, source.std_dev),
              16, want.data());
  EXPECT_EQ(batch.images, want);
  expect_error(error_of([] { load_config("T", {"DATA.interpolation=nearest"}); }), {"nearest", "bicubic"});
  expect_error(error_of([] { load_config("T", {"DATA.auto_augment=rand-m11"}); }), {"magnitude 11"});
}

TEST_F(Folder, WhatIsWrongIsNamed) {
  const auto error = [&](const std::string& spec) { return error_of([&] { open_data(spec); }); };
  expect_error(error("folder:" + dir.path("nowhere")), {"nowhere", "no folder train"});
  expect_error(error("imagenet:" + dir.root()), {"has 2 classes", "1000", "folder:"});
  expect_error(error("folder"), {"folder:DIR"});
  std::filesystem::create_directories(dir.path("train/bee"));
  expect_error(error("folder:" + dir.root()), {"bee", "holds no image"});
  write_png(dir.path("train/bee/1.png"), random_image(4, 4, 1));
  expect_error(error("folder:" + dir.root()), {"class bee is in train but not in val"});
  std::filesystem::remove_all(dir.path("train/bee"));
  write_raw(dir.path("train/ant/10.png"), "broken");
  const DataSource source = open();
  Image image;
  expect_error(error_of([&] { source.train->get(0, image); }), {"train/ant/10.png", "no JPEG, PNG or BMP image"});
}

// As they are found in the wild: empty, cut off, of another kind than their name says.
TEST_F(Folder, BrokenFilesAreSkippedInTrainingAndEvaluation) {
  const std::string jpeg = read_raw("tests/golden/augment/input.jpg");
  for (const std::string part : {"train", "val"}) {
    write_raw(dir.path(part + "/ant/11.png"), "");
    write_raw(dir.path(part + "/ant/12.png"), "text that is called an image");
    write_raw(dir.path(part + "/cat/cut.jpg"), jpeg.substr(0, jpeg.size() / 2));
    write_raw(dir.path(part + "/cat/called.png"), jpeg);  // a JPEG all the same
  }
  DataSource source = open();
  source.max_broken = 0.2;
  LoaderOptions options;
  options.batch_size = 13;
  options.augmentation.image_size = 16;
  std::vector<int64_t> all;
  for (int64_t i = 0; i < source.train->size(); ++i) all.push_back(i);
  ASSERT_EQ(all.size(), 26u);
  testing::internal::CaptureStderr();
  TrainLoader loader(source, all, options);
  loader.start(0, 0);
  for (int i = 0; i < 4; ++i) loader.next();
  BrokenImages broken(26, 0.2);
  EXPECT_EQ(load_for_evaluation(*source.test, source, all, 0, 26, 16, &broken).count, 23);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(loader.broken_images(), 3);
  EXPECT_EQ(broken.count(), 3);
  for (const char* part : {"train/ant/11.png: the file is empty", "train/ant/12.png: no JPEG, PNG or BMP image",
                           "train/cat/cut.jpg: the JPEG is truncated", "val/cat/cut.jpg: the JPEG is truncated"}) {
    EXPECT_NE(log.find(part), std::string::npos) << part << " in " << log;
  }
  Config config = load_config("T", {"MODEL.num_classes=2", "DATA.max_broken=0.25"});
  EXPECT_EQ(open_data_for(config, "folder:" + dir.root()).max_broken, 0.25);
  expect_error(error_of([] { load_config("T", {"DATA.max_broken=2"}); }), {"max_broken", "2"});
  expect_error(error_of([] { load_config("T", {"DATA.repeated_augmentation=0"}); }), {"repeated_augmentation", "0"});
}

TEST_F(Folder, ATinySupernetTrainsAndIsSearched) {
  write_raw(dir.path("tiny.yaml"), R"(
SUPERNET: {MLP_RATIO: 2, NUM_HEADS: 2, EMBED_DIM: 16, DEPTH: 2}
SEARCH_SPACE: {MLP_RATIO: [1, 2], NUM_HEADS: [1, 2], EMBED_DIM: [8, 16], DEPTH: [1, 2]}
MODEL: {image_size: 16, patch_size: 8, in_channels: 3, num_classes: 2, head_dim: 8, max_relative_position: 1}
TRAIN: {epochs: 2, batch_size: 4, lr: 1e-3, lr_scale_batch: false, warmup_epochs: 1, health_images: 4}
DATA: {held_out: 8, auto_augment: rand-m9-mstd0.5-inc1}
SEARCH: {population: 4, generations: 2, top: 2, mutations: 2, crossovers: 2, images: 8}
)");
  const std::string data = "folder:" + dir.root();
  const auto run = [&](std::vector<std::string> command) {
    const Outcome outcome = run_program(dir.root(), command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.out;
  };
  run({"train_supernet", "--config", dir.path("tiny.yaml"), "--data", data, "--output", dir.path("run")});
  const std::string found = run({"search_subnets", "--run", dir.path("run")});
  EXPECT_NE(found.find("best of"), std::string::npos) << found;
  EXPECT_NE(found.find("(24 images)"), std::string::npos) << "the test split is val: " << found;
}

}  // namespace
}  // namespace entangle
