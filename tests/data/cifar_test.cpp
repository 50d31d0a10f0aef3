// CIFAR-10 and CIFAR-100: what the readers give, at which size, and what they refuse.
#include "data/evaluation_images.h"
#include "data/loader.h"
#include "data/rand_augment.h"
#include "tests/data/data_folder.h"
#include "tools/common/config.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

class Cifar : public DataFolder {
 protected:
  // Pixel (y, x) of plane c of image i is i + c + 32 y + x, in a byte.
  static Bytes records(int count, const Bytes& head, int first) {
    Bytes out;
    for (int i = 0; i < count; ++i) {
      append(out, head);
      out.back() = static_cast<uint8_t>(out.back() + i);
      for (int c = 0; c < 3; ++c) {
        for (int p = 0; p < 1024; ++p) out.push_back(static_cast<uint8_t>(first + i + c + p));
      }
    }
    return out;
  }
  void write_ten(const std::string& folder = "") const {
    for (int b = 1; b <= 5; ++b) {
      write(dir.path(folder + "data_batch_" + std::to_string(b) + ".bin"),
            records(2, {static_cast<uint8_t>(b)}, 10 * b));
    }
    write(dir.path(folder + "test_batch.bin"), records(3, {7}, 100));
  }
  void write_hundred() const {
    write(dir.path("train.bin"), records(4, {3, 90}, 10));
    write(dir.path("test.bin"), records(2, {19, 98}, 20));
  }
};

TEST_F(Cifar, TenClasses) {
  write_ten();
  const DataSource source = open_data("cifar10:" + dir.root());
  EXPECT_EQ(source.train->size(), 10);
  EXPECT_EQ(source.train->classes(), 10);
  EXPECT_EQ(labels(*source.train), (std::vector<int64_t>{1, 2, 2, 3, 3, 4, 4, 5, 5, 6}));
  EXPECT_EQ(labels(*source.test), (std::vector<int64_t>{7, 8, 9}));
  Image image;
  source.train->get(3, image);
  EXPECT_EQ(image.height, 32);
  EXPECT_EQ(image.width, 32);
  ASSERT_EQ(image.pixels.size(), 3072u);
  for (int p = 0; p < 1024; ++p) {
    for (int c = 0; c < 3; ++c) ASSERT_EQ(image.pixels[3 * p + c], static_cast<uint8_t>(21 + c + p)) << p << " " << c;
  }
  EXPECT_FALSE(source.any_size);
  EXPECT_EQ(source.side, 32);
  expect_error([&] { source.train->label(10); }, {"no image 10", "holds 10"});
}

TEST_F(Cifar, HundredClassesAreTheFineOnes) {
  write_hundred();
  const DataSource source = open_data("cifar100:" + dir.root());
  EXPECT_EQ(source.train->classes(), 100);
  EXPECT_EQ(labels(*source.train), (std::vector<int64_t>{90, 91, 92, 93}));
  EXPECT_EQ(labels(*source.test), (std::vector<int64_t>{98, 99}));
  EXPECT_EQ(level(*source.train, 2), 12);
}

TEST_F(Cifar, TheArchivesFolderIsFound) {
  std::filesystem::create_directory(dir.path("cifar-10-batches-bin"));
  write_ten("cifar-10-batches-bin/");
  EXPECT_EQ(open_data("cifar10:" + dir.root()).test->size(), 3);
}

TEST_F(Cifar, AtItsOwnSizeAndResized) {
  write_ten();
  const std::string spec = "cifar10:" + dir.root();
  const auto config_of_size = [](const std::string& size, const std::string& patch) {
    return load_config("T", {"MODEL.num_classes=10", "MODEL.image_size=" + size, "MODEL.patch_size=" + patch});
  };
  const DataSource small = open_data_for(config_of_size("32", "4"), spec);
  EXPECT_FALSE(small.any_size);
  Image image;
  small.test->get(1, image);
  std::vector<float> want(3072);
  place_image(image, {}, Normalizer(small.mean, small.std_dev), 32, want.data());
  EXPECT_EQ(load_for_evaluation(*small.test, small, {1}, 0, 1, 32).images, want) << "neither resized nor cropped";
  const DataSource large = open_data_for(config_of_size("224", "16"), spec);
  EXPECT_TRUE(large.any_size);
  want.resize(3 * 224 * 224);
  place_image(resize_for_evaluation(image, 224, Interpolation::bicubic), {}, Normalizer(large.mean, large.std_dev), 224,
              want.data());
  EXPECT_EQ(load_for_evaluation(*large.test, large, {1}, 0, 1, 224).images, want);
}

TEST_F(Cifar, SmallTrainingImagesArePaddedAndCropped) {
  write_ten();
  const DataSource source = open_data("cifar10:" + dir.root());
  LoaderOptions options;
  options.batch_size = 10;
  options.augmentation.image_size = 32;
  options.augmentation.crop_padding = 4;
  TrainLoader loader(source, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, options);
  loader.start(0, 0);
  const Batch& batch = loader.next();
  // Every image is one of the 81 shifted views of the image it is made of, and not all are shifted alike.
  const Normalizer normalizer(source.mean, source.std_dev);
  std::vector<int> shifts;
  std::vector<float> view(3072);
  for (int64_t i = 0; i < 10; ++i) {
    const std::vector<float> got(batch.images.begin() + i * 3072, batch.images.begin() + (i + 1) * 3072);
    for (int64_t s = 0; s < 10 * 81; ++s) {
      Image image;
      source.train->get(s / 81, image);
      Placement placement;
      placement.top = s % 81 / 9 - 4;
      placement.left = s % 9 - 4;
      place_image(image, placement, normalizer, 32, view.data());
      if (view != got) continue;
      EXPECT_EQ(batch.labels[static_cast<size_t>(i)], source.train->label(s / 81));
      shifts.push_back(static_cast<int>(s % 81));
      break;
    }
  }
  ASSERT_EQ(shifts.size(), 10u);
  EXPECT_NE(std::vector<int>(10, shifts[0]), shifts);
}

TEST_F(Cifar, WhatIsBrokenIsNamed) {
  expect_error([] { open_data("cifar10"); }, {"cifar10:DIR", "binary version"});
  expect_error([] { open_data("cifar10:/does/not/exist"); }, {"/does/not/exist", "no such folder", "data_batch_1.bin"});
  expect_broken("cifar10", {"data_batch_1.bin", "No such file"});
  write_ten();
  Bytes batch = records(2, {1}, 0);
  batch.pop_back();
  write(dir.path("data_batch_4.bin"), batch);
  expect_broken("cifar10", {"data_batch_4.bin", "cut short", "6145 bytes", "3073"});
  write(dir.path("data_batch_4.bin"), records(1, {1}, 0));
  expect_broken("cifar10", {"data_batch_4.bin", "1 images", "2 each"});
  write(dir.path("data_batch_4.bin"), {});
  expect_broken("cifar10", {"data_batch_4.bin", "0 bytes"});
  write(dir.path("data_batch_4.bin"), records(2, {9}, 0));
  expect_broken("cifar10", {"data_batch_4.bin", "image 1", "label 10", "0 to 9"});
  write_hundred();
  write(dir.path("test.bin"), records(2, {5, 99}, 0));
  expect_broken("cifar100", {"test.bin", "image 1", "label 100", "0 to 99"});
}

}  // namespace
}  // namespace entangle
