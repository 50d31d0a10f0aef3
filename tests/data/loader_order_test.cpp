// Which images a loader gives, in which order: the data set's own, repeats, and what stands in the place of broken
// ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/evaluation_images.h"
#include "tests/expect_error.h"
#include "tests/made_up_images.h"

namespace entangle {
namespace {

using namespace made_up;

// Odd epochs backwards, even ones forwards.
class BackAndForth : public MadeUp {
 public:
  using MadeUp::MadeUp;
  std::vector<int64_t> epoch_order(const std::vector<int64_t>& indices, uint64_t seed, int64_t epoch) const override {
    EXPECT_EQ(seed, 11u);
    return epoch % 2 == 0 ? indices : std::vector<int64_t>(indices.rbegin(), indices.rend());
  }
};

TEST(TrainLoader, VisitsImagesInTheOrderOfTheDataSet) {
  TrainLoader loader(source_of(std::make_shared<BackAndForth>(20, true)), all_of(20), plain_options());
  loader.start(0, 2);
  for (const int64_t first : {12, 19}) {  // the last batch of epoch 0, the first one of epoch 1
    const Batch& batch = loader.next();
    for (int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(std::lround(batch.images[i * 2 * kSize * kSize]), first == 12 ? first + i : first - i);
    }
  }
}

TEST(TrainLoader, PutsTheNextImageInThePlaceOfABrokenOne) {
  auto dataset = std::make_shared<MadeUp>(200, true);
  dataset->broken_ones = {17, 18, 60, 199};
  DataSource source = source_of(dataset);
  source.max_broken = 0.02;
  LoaderOptions options = plain_options();
  std::vector<int64_t> order = dataset->epoch_order(all_of(200), options.seed, 0);
  std::vector<std::vector<int64_t>> seen;
  for (const int workers : {1, 8}) {
    options.workers = workers;
    testing::internal::CaptureStderr();
    TrainLoader loader(source, all_of(200), options);
    loader.start(0, 0);
    seen.emplace_back();
    for (int64_t step = 0; step < 2 * loader.steps_per_epoch(); ++step) {
      const Batch& batch = loader.next();
      for (int64_t i = 0; i < 6; ++i) seen.back().push_back(std::lround(batch.images[i * 2 * kSize * kSize]));
    }
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(loader.broken_images(), 4);
    for (const int64_t index : dataset->broken_ones) {
      const std::string name = "skipped an image: image " + std::to_string(index) + " cannot be read\n";
      EXPECT_NE(log.find(name), std::string::npos) << log;
      EXPECT_EQ(log.find(name), log.rfind(name)) << "named once";
    }
  }
  EXPECT_EQ(seen[0], seen[1]);
  for (size_t p = 0; p < 198; ++p) {
    size_t place = p;
    while (dataset->broken_ones.count(order[place]) > 0) place = (place + 1) % 200;
    EXPECT_EQ(seen[0][p], order[place]) << p;
  }
}

TEST(TrainLoader, EndsWhenTooManyImagesAreBroken) {
  auto dataset = std::make_shared<MadeUp>(200, true);
  dataset->broken_ones = {17, 18, 60};
  DataSource source = source_of(dataset);
  const auto read_all = [&] {
    TrainLoader loader(source, all_of(200), plain_options());
    loader.start(0, 0);
    for (int i = 0; i < 40; ++i) loader.next();
  };
  source.max_broken = 0.014;
  expect_error(read_all, {"3 of 200 images are broken", "0.014", "DATA.max_broken", "cannot be read"});
  source.max_broken = 0.015;
  EXPECT_NO_THROW(read_all());
  for (int64_t i = 0; i < 200; ++i) dataset->broken_ones.insert(i);
  source.max_broken = 1;
  source.any_size = true;
  expect_error(read_all, {"200 of 200 images are broken"});
  source.max_broken = 1.5;
  expect_error(read_all, {"max_broken", "1.5"});
}

// Each copy has numbers of its own; copies are decoded once, but where a batch begins among them.
TEST(TrainLoader, AugmentsAnImageSeveralTimesAndDecodesItOnce) {
  auto dataset = std::make_shared<MadeUp>(300);
  LoaderOptions options = plain_options();
  options.augmentation.crop_padding = 3;
  options.sampler.repeats = 3;
  const std::vector<int64_t> order = dataset->epoch_order(all_of(300), options.seed, 1);
  TrainLoader loader(source_of(dataset), all_of(300), options);
  ASSERT_EQ(loader.steps_per_epoch(), 256 / 6);
  dataset->reads = 0;
  loader.start(1, 0);
  int different = 0;
  for (int64_t step = 0; step < 42; ++step) {
    const Batch& batch = loader.next();
    const size_t values = batch.images.size() / 6;
    for (int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(batch.labels[i], order[(step * 6 + i) / 3] % kClasses);
      if (i % 3 == 0) continue;
      const auto first = batch.images.begin() + (i - 1) * static_cast<int64_t>(values);
      different += !std::equal(first, first + static_cast<int64_t>(values), first + static_cast<int64_t>(values));
    }
  }
  EXPECT_GT(different, 150);                  // of 168 pairs; one in 49 is moved alike
  EXPECT_LE(dataset->reads, 42 * 2 + 3 * 2);  // and of the batches ahead
}

TEST(TrainLoader, RepeatsAreTheSameForAnyNumberOfWorkersAndAfterAResume) {
  const DataSource source = source_of(std::make_shared<MadeUp>(35));
  LoaderOptions options = full_options();
  options.batch_size = 7;  // so that copies lie in two batches
  options.sampler.repeats = 3;
  const std::vector<Batch> want = batches_from(source, options, 0, 0, 12);  // 5 an epoch
  options.workers = 8;
  for (const int number : {0, 3, 7}) {
    const std::vector<Batch> got = batches_from(source, options, number / 5, number % 5, 5);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(same(got[i], want[number + i])) << number << " + " << i;
  }
}

// What each of three ranks sees of an epoch, step by step, is what PyTorch's generator and the published sampler gave
// it.
TEST(TrainLoader, GoesThroughThePublishedOrder) {
  const auto golden = nlohmann::json::parse(std::ifstream("tests/golden/published_order.json"));
  int checked = 0;
  for (const auto& c : golden) {
    if (c["images"] != 1000 && c["images"] != 300) continue;
    const int64_t images = c["images"], ranks = c["ranks"], epoch = c["epoch"];
    LoaderOptions options = plain_options();
    options.batch_size = 6 * ranks;
    options.share = {ranks, c["rank"]};
    options.sampler = {3, true};
    TrainLoader loader(source_of(std::make_shared<MadeUp>(images, true)), all_of(images), options);
    const std::vector<int64_t> order = c["indices"];
    ASSERT_EQ(loader.steps_per_epoch(), static_cast<int64_t>(order.size()) / 6);
    loader.start(epoch, 0);
    for (int64_t step = 0; step < loader.steps_per_epoch(); ++step) {
      const Batch& batch = loader.next();
      for (int64_t i = 0; i < 6; ++i, ++checked) {
        const int64_t index = order[static_cast<size_t>(step * 6 + i)];
        ASSERT_EQ(batch.labels[i], index % kClasses);
        ASSERT_EQ(std::lround(batch.images[i * 2 * kSize * kSize]), index % 256);
      }
    }
  }
  EXPECT_EQ(checked, 3 * 126 + 3 * 252);
}

// One draw a batch, one a pair, one an image.
TEST(TrainLoader, MixesByBatchPairAndImage) {
  const DataSource source = source_of(std::make_shared<MadeUp>(320));
  LoaderOptions options = plain_options();
  options.batch_size = 32;
  options.form = BatchForm::staged;
  options.augmentation.mixup_alpha = 1;
  for (const auto& [mode, draws] : {std::pair("batch", 5), std::pair("pair", 5 * 16), std::pair("elem", 5 * 32)}) {
    options.augmentation.mix_mode = mode;
    std::set<double> lambdas;
    for (Batch& batch : batches_from(source, options, 0, 0, 5)) {
      const ImagePlan* plans = batch.staged.plans();
      for (int64_t i = 0; i < 32; ++i) {
        lambdas.insert(plans[i].mix.lambda);
        const bool same = plans[i].mix.lambda == plans[mix_partner(i, 32)].mix.lambda;
        EXPECT_EQ(same, mode != std::string("elem")) << mode << ' ' << i;
      }
    }
    EXPECT_EQ(lambdas.size(), static_cast<size_t>(draws)) << mode;
  }
}

TEST(LoadForEvaluation, LeavesBrokenImagesOut) {
  const auto dataset = std::make_shared<MadeUp>(60);
  dataset->broken_ones = {3, 50};
  const DataSource source = source_of(dataset);
  const std::vector<int64_t> indices = {50, 3, 59, 0, 7};
  BrokenImages broken(5, 0.5);
  const Batch batch = load_for_evaluation(*dataset, source, indices, 0, 5, kSize, &broken);
  EXPECT_EQ(batch.count, 3);
  EXPECT_EQ(batch.labels, (std::vector<int64_t>{59 % kClasses, 0, 7 % kClasses}));
  EXPECT_EQ(batch.images, load_for_evaluation(*dataset, source, indices, 2, 3, kSize).images);
  EXPECT_EQ(load_for_evaluation(*dataset, source, indices, 0, 2, kSize, &broken).count, 0);
  EXPECT_EQ(broken.count(), 2);
  BrokenImages strict(5, 0.2);
  expect_error([&] { load_for_evaluation(*dataset, source, indices, 0, 5, kSize, &strict); }, {"2 of 5 images"});
  expect_error([&] { load_for_evaluation(*dataset, source, indices, 0, 5, kSize); }, {"image 50 cannot be read"});
}

}  // namespace
}  // namespace entangle
