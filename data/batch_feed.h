// The training loader's batches as tensors on the device that trains.
//
// On the processor the loader's threads augment. For a GPU they leave pixels and what was drawn for them in pinned
// memory, a quarter of the bytes: next() starts their copy on a stream of its own and launches augment_images behind
// it. So a trainer that calls next() while a step still runs has the copy beside that step; two buffers on the GPU take
// turns, so that a copy need not wait for the step before.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/loader.h"
#include "engine/device.h"
#include "engine/tensor.h"

namespace entangle {

// images [B, channels, size, size], targets [B, classes].
struct DeviceBatch {
  Tensor images, targets;
};

// A loader's batches on the device that trains: one is copied there while the step before runs.
class BatchFeed {
 public:
  static constexpr int kUploads = 2;  // staged batches in a device's memory

  // As TrainLoader. options.form may be staged on the processor too, which then runs its own augment_images.
  BatchFeed(const DataSource& source, std::vector<int64_t> indices, const LoaderOptions& options, DeviceKind device);
  int64_t steps_per_epoch() const { return loader_.steps_per_epoch(); }
  void start(int64_t epoch, int64_t step);
  DeviceBatch next();

 private:
  void wait_for_uploads();
  DeviceBatch augment(const StagedBatch& staged);

  DeviceKind device_;
  TrainLoader loader_;
  int64_t size_;                                 // of an image
  Tensor table_;                                 // of the normaliser, on the device
  std::vector<std::unique_ptr<Upload>> upload_;  // none when batches come as images
  size_t turn_ = 0;                              // of the next
};

}  // namespace entangle
