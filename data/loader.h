// Batches for training and evaluation: decoded, augmented, normalised, mixed, in a deterministic order, prepared by
// background threads ahead of the consumer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/dataset.h"

namespace entangle {

// What happens to an image on its way into a batch. All probabilities and sizes are checked by validate().
struct Augmentation {
  int64_t image_size = 28;
  int64_t crop_padding = 0;         // zero padding on each side before a random crop back to image_size; 0: no crop
  double flip = 0;                  // probability of a horizontal flip
  double erase = 0;                 // probability of random erasing, pixel mode: N(0,1) per value after normalisation
  double mixup_alpha = 0;           // Beta parameter; 0: off
  double cutmix_alpha = 0;          // 0: off
  double mix_probability = 1;       // probability that a batch is mixed at all
  double switch_probability = 0.5;  // of CutMix, when both are on
  double label_smoothing = 0;

  void validate() const;  // throws Error naming the value out of range
};

// One batch. images [count, channels, size, size] normalised fp32; targets [count, classes] soft; labels [count].
struct Batch {
  int64_t count = 0;
  std::vector<float> images, targets;
  std::vector<int64_t> labels;
};

struct LoaderOptions {
  int64_t batch_size = 64;
  int workers = 1;       // background threads, >= 1
  int64_t prefetch = 3;  // batches prepared ahead
  uint64_t seed = 0;
  Augmentation augmentation;
};

// Training: every epoch goes once through `indices` in an order that is a function of (seed, epoch); the incomplete
// last batch is dropped. Batch `step` of `epoch` is a function of (seed, epoch, step) alone: the same bits for any
// number of workers, and after a resume.
class TrainLoader {
 public:
  // Throws Error when fewer than batch_size indices are given.
  TrainLoader(const DataSource& source, std::vector<int64_t> indices, const LoaderOptions& options);
  ~TrainLoader();
  int64_t steps_per_epoch() const;
  // Starts preparing batches from (epoch, step) on; any earlier work is discarded.
  void start(int64_t epoch, int64_t step);
  // The next batch; epochs follow one another without end. Rethrows what a worker threw. The reference stays valid
  // until the next call.
  const Batch& next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Evaluation: images `indices` of a data set, in that order, resized to image_size only if they have another size, and
// normalised; the last batch may be smaller. targets are left empty.
Batch load_for_evaluation(const Dataset& dataset, const DataSource& source, const std::vector<int64_t>& indices,
                          int64_t begin, int64_t count, int64_t image_size);

}  // namespace entangle
