// Small images made from their index, and loaders of them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "data/loader.h"
#include "engine/check.h"
#include "engine/device.h"
#include "tests/data/every_augmentation.h"

namespace entangle::made_up {

inline constexpr int64_t kSize = 8, kClasses = 5;

// Images made from their index alone; every pixel of image i is i mod 256 when `flat`.
class MadeUp : public Dataset {
 public:
  explicit MadeUp(int64_t size, bool flat = false) : size_(size), flat_(flat) {}
  int64_t size() const override { return size_; }
  int64_t classes() const override { return kClasses; }
  int64_t channels() const override { return 2; }
  int64_t label(int64_t index) const override { return index % kClasses; }
  void get(int64_t index, Image& image) const override {
    ++reads;
    if (index == broken || broken_ones.count(index) > 0)
      throw Error("image " + std::to_string(index) + " cannot be read");
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    image.height = image.width = index == odd_one ? kSize + 1 : kSize;
    image.channels = 2;
    image.pixels.resize(image.height * image.width * 2);
    for (size_t k = 0; k < image.pixels.size(); ++k) {
      image.pixels[k] = static_cast<uint8_t>(flat_ ? index : index * 31 + static_cast<int64_t>(k) * 7);
    }
  }

  mutable std::atomic<int64_t> reads{0};
  int64_t broken = -1, odd_one = -1;
  std::set<int64_t> broken_ones;
  std::chrono::microseconds delay{0};

 private:
  int64_t size_;
  bool flat_;
};

inline DataSource source_of(std::shared_ptr<const Dataset> dataset) {
  DataSource source;
  source.spec = "made-up";
  source.train = std::move(dataset);
  source.mean = {0.0f, 0.5f};
  source.std_dev = {1 / 255.0f, 0.25f};
  return source;
}

inline std::vector<int64_t> all_of(int64_t count) {
  std::vector<int64_t> indices(count);
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

inline LoaderOptions plain_options() {
  LoaderOptions options;
  options.batch_size = 6;
  options.seed = 11;
  options.augmentation.image_size = kSize;
  return options;
}

inline LoaderOptions full_options() {
  LoaderOptions options = plain_options();
  options.augmentation = every_augmentation(kSize);
  return options;
}

inline bool same(const Batch& a, const Batch& b) {
  return a.count == b.count && a.images == b.images && a.targets == b.targets && a.labels == b.labels;
}

// A batch with memory of its own: the loader fills that of a staged one anew.
inline Batch kept(Batch batch) {
  if (batch.staged.memory == nullptr) return batch;
  const size_t bytes = batch.staged.bytes();
  const std::shared_ptr<unsigned char> copy = host_memory(bytes, DeviceKind::cpu);
  std::memcpy(copy.get(), batch.staged.memory.get(), bytes);
  batch.staged.memory = copy;
  return batch;
}

inline std::vector<Batch> batches_from(const DataSource& source, const LoaderOptions& options, int64_t epoch,
                                       int64_t step, int count) {
  TrainLoader loader(source, all_of(source.train->size()), options);
  loader.start(epoch, step);
  std::vector<Batch> batches;
  for (int i = 0; i < count; ++i) batches.push_back(kept(loader.next()));
  return batches;
}

}  // namespace entangle::made_up
