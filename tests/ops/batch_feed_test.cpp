// The images that training on a device sees against those of the loader's threads.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

#include "data/batch_feed.h"
#include "engine/device.h"
#include "tests/data/every_augmentation.h"
#include "tests/ops/harness.h"

namespace entangle {
namespace {

LoaderOptions training_options(int64_t size) {
  LoaderOptions options;
  options.batch_size = 7;
  options.seed = 4;
  options.workers = 2;
  options.prefetch = 1;
  options.augmentation = every_augmentation(size);
  return options;
}

std::vector<int64_t> first_indices(int64_t count) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

// Within two roundings of a mixed value, which is at most as large as its parts.
void expect_same_images(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  float largest = 0;
  for (const float value : want) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 0x1p-23 * largest) << what << ", value " << i;
}

// Both sequences, with a jump to a later epoch in between, after which the loader's threads have time to write to their
// batches. Results are read at the end, after every copy was started: a missing event or wait shows.
void expect_same_feed(const DataSource& source, int64_t images, const LoaderOptions& options, const Place& place) {
  LoaderOptions staged = options;
  staged.form = BatchForm::staged;
  BatchFeed feed(source, first_indices(images), staged, place.device);
  constexpr int64_t kEpochs[] = {0, 3};
  constexpr int kSteps = 6;
  std::vector<DeviceBatch> got;
  for (const int64_t epoch : kEpochs) {
    feed.start(epoch, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (int step = 0; step < kSteps; ++step) got.push_back(feed.next());
  }
  TrainLoader loader(source, first_indices(images), options);
  auto next = got.begin();
  for (const int64_t epoch : kEpochs) {
    loader.start(epoch, 1);
    for (int step = 0; step < kSteps; ++step, ++next) {
      const Batch& want = loader.next();
      const std::string what = place.name + ", epoch " + std::to_string(epoch) + ", batch " + std::to_string(step);
      expect_same_images(next->images.to_vector(), want.images, what);
      EXPECT_EQ(next->targets.to_vector(), want.targets) << what;
    }
  }
}

void expect_same_feed_everywhere(const DataSource& source, int64_t images, const LoaderOptions& options) {
  const SettingsScope restore;
  for (const Place& place : places()) {
    place.choose();
    for (const Variation& variation : variations_of(place.device)) {
      variation.choose();
      expect_same_feed(source, images, options, place);
    }
  }
}

// Three channels, so that a confusion of planes and interleaved values shows.
class Coloured : public Dataset {
 public:
  static constexpr int64_t kSize = 9;
  int64_t size() const override { return 40; }
  int64_t classes() const override { return 4; }
  int64_t channels() const override { return 3; }
  int64_t label(int64_t index) const override { return index % 4; }
  void get(int64_t index, Image& image) const override {
    image = {kSize, kSize, 3, std::vector<uint8_t>(kSize * kSize * 3)};
    Rng rng(static_cast<uint64_t>(index), Stream::synthetic);
    for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(rng.below(256));
  }
};

TEST(BatchFeed, GivesTheImagesOfTheLoadersThreads) {
  DataSource source;
  source.spec = "coloured";
  source.train = std::make_shared<Coloured>();
  source.mean = {0.4f, 0.5f, 0.6f};
  source.std_dev = {0.2f, 0.3f, 0.25f};
  LoaderOptions options = training_options(Coloured::kSize);
  expect_same_feed_everywhere(source, 40, options);
  for (const auto& [erase, mix] : {std::pair("const", "pair"), std::pair("rand", "elem")}) {
    options.augmentation.erase_mode = erase;
    options.augmentation.mix_mode = mix;
    expect_same_feed_everywhere(source, 40, options);
  }
}

TEST(BatchFeed, GivesTheImagesOfTheLoadersThreadsOnFashionMnist) {
  expect_same_feed_everywhere(open_data("fashion-mnist"), 60, training_options(28));
}

TEST(BatchFeed, OnTheProcessorIsTheLoader) {
  const DataSource source = open_data("fashion-mnist");
  const LoaderOptions options = training_options(28);
  TrainLoader loader(source, first_indices(60), options);
  BatchFeed feed(source, first_indices(60), options, DeviceKind::cpu);
  EXPECT_EQ(feed.steps_per_epoch(), loader.steps_per_epoch());
  loader.start(2, 5);
  feed.start(2, 5);
  for (int step = 0; step < 5; ++step) {
    const DeviceBatch got = feed.next();
    const Batch& want = loader.next();
    EXPECT_TRUE(same_bits(got.images.to_vector(), want.images)) << step;
    EXPECT_TRUE(same_bits(got.targets.to_vector(), want.targets)) << step;
    EXPECT_EQ(got.images.shape(), Shape({7, 1, 28, 28}));
    EXPECT_EQ(got.targets.shape(), Shape({7, 10}));
  }
}

}  // namespace
}  // namespace entangle
