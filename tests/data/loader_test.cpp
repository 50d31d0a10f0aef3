#include "data/loader.h"
#include "data/evaluation_images.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "data/evaluation_images.h"
#include "engine/check.h"
#include "tests/data/every_augmentation.h"
#include "tests/expect_error.h"
#include "tests/made_up_images.h"

namespace entangle {
namespace {

using namespace made_up;

TEST(TrainLoader, EveryEpochGoesOnceThroughTheIndices) {
  const DataSource source = source_of(std::make_shared<MadeUp>(200, true));
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < 40; ++i) indices.push_back(5 * i);
  LoaderOptions options = plain_options();
  options.workers = 2;
  TrainLoader loader(source, indices, options);
  ASSERT_EQ(loader.steps_per_epoch(), 6);  // the last 4 of 40 are dropped
  loader.start(0, 0);
  std::vector<std::vector<int64_t>> orders(3);
  for (std::vector<int64_t>& order : orders) {
    for (int64_t step = 0; step < 6; ++step) {
      const Batch& batch = loader.next();
      ASSERT_EQ(batch.count, 6);
      ASSERT_EQ(batch.labels.size(), 6u);
      ASSERT_EQ(batch.targets.size(), size_t{6 * kClasses});
      ASSERT_EQ(batch.images.size(), size_t{6 * 2 * kSize * kSize});
      for (int64_t i = 0; i < 6; ++i) {
        const int64_t index = std::lround(batch.images[i * 2 * kSize * kSize]);
        order.push_back(index);
        EXPECT_EQ(batch.labels[i], index % kClasses);
        EXPECT_EQ(batch.targets[i * kClasses + index % kClasses], 1.0f);
      }
    }
    const std::set<int64_t> unique(order.begin(), order.end());
    EXPECT_EQ(unique.size(), 36u);
    for (const int64_t index : unique) EXPECT_TRUE(index >= 0 && index < 200 && index % 5 == 0) << index;
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST(TrainLoader, SameBitsForAnyNumberOfWorkers) {
  const DataSource source = source_of(std::make_shared<MadeUp>(50));
  LoaderOptions options = full_options();
  const std::vector<Batch> want = batches_from(source, options, 0, 0, 30);
  for (const int workers : {1, 2, 8}) {
    for (const int64_t prefetch : {1, 3, 20}) {
      options.workers = workers;
      options.prefetch = prefetch;
      const std::vector<Batch> got = batches_from(source, options, 0, 0, 30);
      for (int i = 0; i < 30; ++i) ASSERT_TRUE(same(got[i], want[i])) << workers << " workers, batch " << i;
    }
  }
}

// What `rank` of `ranks` loads of a batch is what one process has there.
TEST(TrainLoader, RanksShareABatch) {
  const DataSource source = source_of(std::make_shared<MadeUp>(150));
  LoaderOptions options = full_options();
  options.batch_size = 32;
  const std::pair<BatchForm, const char*> kForms[] = {{BatchForm::images, "batch"},
                                                      {BatchForm::images, "pair"},
                                                      {BatchForm::images, "elem"},
                                                      {BatchForm::staged, "batch"},
                                                      {BatchForm::staged, "elem"}};
  for (const auto& [form, mix_mode] : kForms) {
    options.form = form;
    options.augmentation.mix_mode = mix_mode;
    options.share = {};
    const std::vector<Batch> whole = batches_from(source, options, 1, 2, 6);
    for (const int64_t ranks : {2, 4}) {
      for (int64_t rank = 0; rank < ranks; ++rank) {
        options.share = {ranks, rank};
        const std::vector<Batch> part = batches_from(source, options, 1, 2, 6);
        for (size_t b = 0; b < part.size(); ++b) {
          const int64_t count = 32 / ranks, first = rank * count;
          ASSERT_EQ(part[b].count, count);
          const auto equal = [&](const auto& some, const auto& all) {
            const size_t n = some.size();
            return n * static_cast<size_t>(ranks) == all.size() &&
                   std::equal(some.begin(), some.end(), all.begin() + static_cast<int64_t>(n) * rank);
          };
          EXPECT_TRUE(equal(part[b].labels, whole[b].labels));
          if (form == BatchForm::images) {
            EXPECT_TRUE(equal(part[b].images, whole[b].images));
            EXPECT_TRUE(equal(part[b].targets, whole[b].targets));
            continue;
          }
          StagedBatch some = part[b].staged, all = whole[b].staged;
          for (int64_t i = 0; i < count; ++i) {
            const ImagePlan &some_plan = some.plans()[i], &all_plan = all.plans()[first + i];
            EXPECT_EQ(some_plan.mix.lambda, all_plan.mix.lambda);
            EXPECT_EQ(some_plan.boxes, all_plan.boxes);
            EXPECT_EQ(some_plan.erased[0].first_noise, all_plan.erased[0].first_noise);
            EXPECT_EQ(some_plan.placement.top, all_plan.placement.top);
          }
          const int64_t values = 2 * kSize * kSize, classes = kClasses;
          EXPECT_TRUE(std::equal(some.pixels(), some.pixels() + count * values, all.pixels() + first * values));
          EXPECT_TRUE(std::equal(some.targets(), some.targets() + count * classes, all.targets() + first * classes));
        }
      }
    }
  }
}

TEST(TrainLoader, RefusesABatchThatRanksCannotShare) {
  const DataSource source = source_of(std::make_shared<MadeUp>(150));
  std::vector<int64_t> indices(150);
  std::iota(indices.begin(), indices.end(), 0);
  LoaderOptions options = full_options();
  options.batch_size = 24;
  options.share = {2, 0};
  expect_error([&] { TrainLoader(source, indices, options); }, {"batch_size is 24", "2 processes", "multiple of 16"});
  options.augmentation.mixup_alpha = options.augmentation.cutmix_alpha = 0;
  TrainLoader(source, indices, options);
  options.share = {5, 0};
  expect_error([&] { TrainLoader(source, indices, options); }, {"batch_size is 24", "5 processes", "multiple of 5"});
  options.share = {2, 2};
  expect_error([&] { TrainLoader(source, indices, options); }, {"no rank 2 of 2"});
}

TEST(TrainLoader, BatchesDependOnSeedEpochAndStep) {
  const DataSource source = source_of(std::make_shared<MadeUp>(50));
  LoaderOptions options = full_options();
  const std::vector<Batch> first = batches_from(source, options, 0, 0, 16);
  for (size_t a = 0; a < first.size(); ++a) {
    for (size_t b = 0; b < a; ++b) EXPECT_FALSE(same(first[a], first[b])) << a << ' ' << b;
  }
  options.seed = 12;
  EXPECT_FALSE(same(batches_from(source, options, 0, 0, 1)[0], first[0]));
}

// The same image again and again, so that only what is drawn for it tells one place from another.
TEST(TrainLoader, EveryImageOfAnEpochDrawsItsOwnNumbers) {
  const DataSource source = source_of(std::make_shared<MadeUp>(50));
  LoaderOptions options = plain_options();
  options.augmentation.erase = 1;
  TrainLoader loader(source, std::vector<int64_t>(36, 7), options);
  loader.start(0, 0);
  std::set<std::vector<float>> seen;
  for (int step = 0; step < 12; ++step) {
    const Batch& batch = loader.next();
    constexpr int64_t kValues = 2 * kSize * kSize;
    for (int64_t i = 0; i < 6; ++i) seen.emplace(&batch.images[i * kValues], &batch.images[i * kValues] + kValues);
  }
  EXPECT_EQ(seen.size(), 72u);
}

TEST(TrainLoader, EveryBatchDrawsItsOwnMix) {
  const DataSource source = source_of(std::make_shared<MadeUp>(60));
  LoaderOptions options = plain_options();
  options.augmentation.mixup_alpha = 0.8;
  std::set<float> shares;  // lambda and 1 - lambda of each batch
  for (const Batch& batch : batches_from(source, options, 0, 0, 20)) {
    std::set<float> own;
    for (const float target : batch.targets) {
      if (target != 0 && target != 1) own.insert(target);
    }
    EXPECT_EQ(own.size(), 2u);
    shares.insert(own.begin(), own.end());
  }
  EXPECT_EQ(shares.size(), 40u);
}

TEST(TrainLoader, StartInTheMiddleEqualsTheUninterruptedSequence) {
  const DataSource source = source_of(std::make_shared<MadeUp>(50));
  LoaderOptions options = full_options();
  options.workers = 2;
  const std::vector<Batch> want = batches_from(source, options, 0, 0, 30);  // 8 steps an epoch
  for (const int number : {0, 3, 7, 8, 21}) {
    const std::vector<Batch> got = batches_from(source, options, number / 8, number % 8, 6);
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(same(got[i], want[number + i])) << number << " + " << i;
  }
}

TEST(TrainLoader, StartDiscardsEarlierWork) {
  auto dataset = std::make_shared<MadeUp>(50);
  dataset->delay = std::chrono::microseconds(50);
  LoaderOptions options = full_options();
  options.workers = 3;
  const std::vector<Batch> want = batches_from(source_of(dataset), options, 0, 0, 30);
  TrainLoader loader(source_of(dataset), all_of(50), options);
  for (const int number : {0, 17, 2, 2, 9, 8, 25}) {
    loader.start(number / 8, number % 8);
    for (int i = 0; i < number % 4; ++i) ASSERT_TRUE(same(loader.next(), want[number + i])) << number << " + " << i;
  }
}

TEST(TrainLoader, KeepsTheBatchInHandAndPreparesOnlyPrefetchAhead) {
  auto dataset = std::make_shared<MadeUp>(60);
  LoaderOptions options = full_options();
  options.workers = 4;
  options.prefetch = 2;
  TrainLoader loader(source_of(dataset), all_of(60), options);
  dataset->reads = 0;
  loader.start(0, 0);
  const Batch& held = loader.next();
  const Batch copy = held;
  while (dataset->reads < 18) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(dataset->reads, 18);  // the batch in hand and two ahead
  EXPECT_TRUE(same(held, copy));
}

TEST(TrainLoader, ReusesTheMemoryOfItsBatches) {
  const DataSource source = source_of(std::make_shared<MadeUp>(60));
  LoaderOptions options = full_options();
  options.prefetch = 2;
  TrainLoader loader(source, all_of(60), options);
  loader.start(0, 0);
  std::set<const float*> buffers;
  for (int i = 0; i < 30; ++i) buffers.insert(loader.next().images.data());
  EXPECT_EQ(buffers.size(), 3u);
}

TEST(TrainLoader, RethrowsWhatAWorkerThrew) {
  auto dataset = std::make_shared<MadeUp>(60);
  dataset->broken = 37;
  LoaderOptions options = plain_options();
  options.workers = 3;
  TrainLoader loader(source_of(dataset), all_of(60), options);
  loader.start(0, 0);
  int delivered = 0;
  const auto read_on = [&] {
    for (; delivered < 10; ++delivered) loader.next();
  };
  expect_error(read_on, {"image 37 cannot be read"});
  EXPECT_LT(delivered, 10);
  expect_error([&] { loader.next(); }, {"image 37 cannot be read"});
  // Batches before the broken one are whole, and a new start serves them again.
  loader.start(0, 0);
  delivered = 0;
  expect_error(read_on, {"image 37 cannot be read"});
}

TEST(TrainLoader, TellsWhereTheTimeGoes) {
  auto dataset = std::make_shared<MadeUp>(60);
  dataset->delay = std::chrono::milliseconds(1);
  LoaderOptions options = full_options();
  options.prefetch = 1;
  TrainLoader loader(source_of(dataset), all_of(60), options);
  loader.start(0, 0);
  for (int i = 0; i < 4; ++i) loader.next();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (int i = 0; i < 4; ++i) loader.next();  // the worker has gone on
  const LoaderTimes times = loader.times();
  EXPECT_GE(times.images, 30);
  EXPECT_GT(times.starved, 0.003);       // for the first batch
  EXPECT_GT(times.back_pressure, 0.01);  // while nobody asked
  EXPECT_GT(times.stages.cpu[static_cast<size_t>(Stage::place)], 0);
  EXPECT_GE(times.cpu, times.stages.cpu[static_cast<size_t>(Stage::place)]);
}

TEST(TrainLoader, RefusesAnImageOfAnotherSize) {
  auto dataset = std::make_shared<MadeUp>(60);
  dataset->odd_one = 21;
  TrainLoader loader(source_of(dataset), all_of(60), plain_options());
  loader.start(0, 0);
  const auto read_all = [&] {
    for (int i = 0; i < 10; ++i) loader.next();
  };
  expect_error(read_all, {"9x9", "image_size 8"});
}

TEST(TrainLoader, IsDestroyedAtAnyMoment) {
  auto dataset = std::make_shared<MadeUp>(1000);
  dataset->delay = std::chrono::milliseconds(1);
  LoaderOptions options = full_options();
  options.batch_size = 500;
  options.workers = 4;
  for (int i = 0; i < 5; ++i) {
    int64_t before = 0;
    {
      TrainLoader loader(source_of(dataset), all_of(1000), options);
      if (i > 0) loader.start(i, 0);  // the first one is never started
      if (i > 1) std::this_thread::sleep_for(std::chrono::milliseconds(i));
      before = dataset->reads;
    }
    // Four batches of 500 were begun: their rest is not read.
    EXPECT_LT(dataset->reads, before + 1000);
  }
}

TEST(TrainLoader, RefusesBadOptions) {
  const DataSource source = source_of(std::make_shared<MadeUp>(20));
  const auto expect_refused = [&](std::vector<std::string> parts, const std::function<void(LoaderOptions&)>& spoil) {
    LoaderOptions options = plain_options();
    spoil(options);
    expect_error([&] { TrainLoader loader(source, all_of(20), options); }, parts);
  };
  expect_refused({"batch_size", "0"}, [](LoaderOptions& o) { o.batch_size = 0; });
  expect_refused({"21", "20"}, [](LoaderOptions& o) { o.batch_size = 21; });
  expect_refused({"workers", "0"}, [](LoaderOptions& o) { o.workers = 0; });
  expect_refused({"prefetch", "-1"}, [](LoaderOptions& o) { o.prefetch = -1; });
  expect_refused({"repeated_augmentation", "0"}, [](LoaderOptions& o) { o.sampler.repeats = 0; });
  expect_refused({"flip", "2"}, [](LoaderOptions& o) { o.augmentation.flip = 2; });
  expect_refused({"8x8", "image_size 9"}, [](LoaderOptions& o) { o.augmentation.image_size = 9; });
  const LoaderOptions options = plain_options();
  expect_error([&] { TrainLoader loader(source, {0, 1, 2, 3, 4, 20}, options); }, {"training image 20"});
  expect_error([&] { TrainLoader loader(source, {}, options); }, {"there are 0"});
  expect_error([&] { TrainLoader loader(DataSource(), all_of(20), options); }, {"normalisation"});
  DataSource grey = source;
  grey.mean = grey.std_dev = {0.5f};
  expect_error([&] { TrainLoader loader(grey, all_of(20), options); }, {"2 channels"});
  DataSource none = source;
  none.train = nullptr;
  expect_error([&] { TrainLoader loader(none, all_of(20), options); }, {"no training images"});
}

TEST(TrainLoader, RefusesBadStarts) {
  TrainLoader loader(source_of(std::make_shared<MadeUp>(20)), all_of(20), plain_options());
  expect_error([&] { loader.next(); }, {"start()"});
  expect_error([&] { loader.start(-1, 0); }, {"epoch -1"});
  expect_error([&] { loader.start(0, 3); }, {"step 3"});
  expect_error([&] { loader.start(0, -1); }, {"step -1"});
}

TEST(LoadForEvaluation, GivesImagesInOrder) {
  const auto dataset = std::make_shared<MadeUp>(60);
  const DataSource source = source_of(dataset);
  const std::vector<int64_t> indices = {50, 3, 59, 0, 7};
  for (const auto& [begin, count, want] : {std::tuple(0, 2, 2), std::tuple(2, 3, 3), std::tuple(3, 10, 2)}) {
    const Batch batch = load_for_evaluation(*dataset, source, indices, begin, count, kSize);
    ASSERT_EQ(batch.count, want);
    EXPECT_TRUE(batch.targets.empty());
    ASSERT_EQ(batch.images.size(), static_cast<size_t>(want * 2 * kSize * kSize));
    for (int64_t i = 0; i < want; ++i) {
      EXPECT_EQ(batch.labels[i], indices[begin + i] % kClasses);
      Image image;
      dataset->get(indices[begin + i], image);
      const float* planes = &batch.images[i * 2 * kSize * kSize];
      for (int64_t k = 0; k < kSize * kSize; ++k) {
        EXPECT_NEAR(planes[k], image.pixels[2 * k], 1e-3);
        EXPECT_NEAR(planes[kSize * kSize + k], (image.pixels[2 * k + 1] / 255.0 - 0.5) / 0.25, 1e-5);
      }
    }
  }
}

TEST(LoadForEvaluation, RefusesWhatIsNotThere) {
  const auto dataset = std::make_shared<MadeUp>(60);
  dataset->odd_one = 4;
  const DataSource source = source_of(dataset);
  const std::vector<int64_t> indices = {1, 4, 60};
  const auto load = [&](int64_t begin, int64_t count, int64_t size) {
    return [=, &indices] { load_for_evaluation(*dataset, source, indices, begin, count, size); };
  };
  expect_error(load(3, 1, kSize), {"from 3 on", "3"});
  expect_error(load(-1, 1, kSize), {"from -1 on"});
  expect_error(load(0, 0, kSize), {"0 images"});
  expect_error(load(0, 2, kSize), {"9x9", "image_size 8"});
  expect_error(load(2, 1, kSize), {"no image 60"});
  expect_error(load(0, 1, int64_t{1} << 40), {"8x8", "image_size"});
}

}  // namespace
}  // namespace entangle
