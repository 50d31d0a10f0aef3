// Batches for training and evaluation: decoded, augmented, normalised, mixed, in a deterministic order, prepared by
// background threads ahead of the consumer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/augment.h"
#include "data/broken_images.h"
#include "data/dataset.h"
#include "data/sampler.h"
#include "data/stages.h"
#include "engine/device.h"
#include "engine/ops.h"

namespace entangle {

// What the kernel augment_images makes a batch's images from, and its targets: plans [B], targets [B, classes] and
// pixels [B, size, size, channels], in this order in one piece of host memory, which is copied to a device in one go.
struct StagedBatch {
  AugmentShape shape = {};
  int64_t classes = 0;
  std::shared_ptr<unsigned char> memory;  // host_memory()

  size_t targets_at() const { return static_cast<size_t>(shape.batch) * sizeof(ImagePlan); }
  size_t pixels_at() const { return targets_at() + static_cast<size_t>(shape.batch * classes) * sizeof(float); }
  size_t bytes() const {
    return pixels_at() + static_cast<size_t>(shape.batch * shape.channels * shape.size * shape.size);
  }
  ImagePlan* plans() { return reinterpret_cast<ImagePlan*>(memory.get()); }
  float* targets() { return reinterpret_cast<float*>(memory.get() + targets_at()); }
  uint8_t* pixels() { return memory.get() + pixels_at(); }
};
// Of that size, without memory.
StagedBatch staged_batch(int64_t batch, int64_t channels, int64_t size, int64_t classes);

// One batch: images [count, channels, size, size] normalised fp32 and targets [count, classes], soft; or both staged.
// labels [count].
struct Batch {
  int64_t count = 0;
  std::vector<float> images, targets;
  StagedBatch staged;
  std::vector<int64_t> labels;
};

enum class BatchForm { images, staged };

// Which batches a loader prepares, and how.
struct LoaderOptions {
  int64_t batch_size = 64;  // of all ranks
  BatchShare share;
  int workers = 1;       // background threads, >= 1
  int64_t prefetch = 3;  // batches prepared ahead
  uint64_t seed = 0;
  Augmentation augmentation;
  Sampler sampler;
  BatchForm form = BatchForm::images;
  DeviceKind device = DeviceKind::cpu;  // that staged batches are copied to
};

// What a loader did so far, in seconds, summed over its threads.
struct LoaderTimes {
  StageTimes stages;
  int64_t images = 0;
  double cpu = 0;            // of the threads, stages and what lies between them
  double back_pressure = 0;  // threads waited for the consumer to give a batch back
  double starved = 0;        // the consumer waited for a batch
};

// Training: every epoch goes through `indices` in the data set's order of (seed, epoch) or the published one, as the
// sampler says; the incomplete last batch is dropped. In the place of an image that is broken stands the next one of
// the order that is not. Batch `step` of `epoch` is a function of (seed, epoch, step) alone: the same bits for any
// number of workers, and after a resume.
class TrainLoader {
 public:
  // Throws Error when fewer than batch_size indices are given, one is out of range, or an option is; and when the ranks
  // cannot share a batch evenly, or, where images are mixed, in whole groups (kMixGroup).
  TrainLoader(const DataSource& source, std::vector<int64_t> indices, const LoaderOptions& options);
  ~TrainLoader();
  int64_t steps_per_epoch() const;
  // Starts preparing batches from (epoch, step) on; any earlier work is discarded. Throws Error unless epoch >= 0 and
  // step is in [0, steps_per_epoch()).
  void start(int64_t epoch, int64_t step);
  // The next batch; epochs follow one another without end. Rethrows what a worker threw, an image that is not
  // image_size x image_size and too many broken ones among it, in the place of the batch that failed and in every call
  // from there on, until start() is called. The reference stays valid until the next call of next() or start().
  const Batch& next();
  LoaderTimes times() const;
  int64_t broken_images() const;  // found so far

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace entangle
