#include "data/batch_feed.h"

#include <utility>

#include "engine/trace.h"

namespace entangle {
namespace {

LoaderOptions for_device(LoaderOptions options, DeviceKind device) {
  options.device = device;
  if (device != DeviceKind::cpu) options.form = BatchForm::staged;
  return options;
}

}  // namespace

BatchFeed::BatchFeed(const DataSource& source, std::vector<int64_t> indices, const LoaderOptions& options,
                     DeviceKind device)
    : device_(device),
      loader_(source, std::move(indices), for_device(options, device)),
      size_(options.augmentation.image_size) {
  const Normalizer normalizer(source.mean, source.std_dev);
  table_ = Tensor::from({normalizer.channels(), 256}, normalizer.table(), device);
  if (for_device(options, device).form == BatchForm::images) return;
  const size_t bytes =
      staged_batch(options.batch_size / options.share.ranks, normalizer.channels(), size_, source.train->classes())
          .bytes();
  for (int i = 0; i < kUploads; ++i) upload_.push_back(std::make_unique<Upload>(bytes, device));
}

void BatchFeed::start(int64_t epoch, int64_t step) {
  wait_for_uploads();
  loader_.start(epoch, step);
}

// Then the loader may write to the batches that it gave.
void BatchFeed::wait_for_uploads() {
  for (const auto& upload : upload_) upload->wait();
}

DeviceBatch BatchFeed::next() {
  const TraceSpan span("loader", "next batch");
  wait_for_uploads();
  const Batch& batch = loader_.next();
  if (!upload_.empty()) return augment(batch.staged);
  const int64_t classes = static_cast<int64_t>(batch.targets.size()) / batch.count;
  return {Tensor::from({batch.count, table_.size(0), size_, size_}, batch.images, device_),
          Tensor::from({batch.count, classes}, batch.targets, device_)};
}

DeviceBatch BatchFeed::augment(const StagedBatch& staged) {
  Upload& upload = *upload_[turn_++ % upload_.size()];
  upload.start(staged.memory.get(), staged.bytes());
  upload.arrive();
  const AugmentShape& s = staged.shape;
  const DeviceBatch out = {Tensor::empty({s.batch, s.channels, s.size, s.size}, device_),
                           Tensor::empty({s.batch, staged.classes}, device_)};
  const unsigned char* memory = upload.data();
  copy_floats(out.targets.count(), reinterpret_cast<const float*>(memory + staged.targets_at()), device_,
              out.targets.data(), device_);
  kernels::augment_images.on(device_)(s, reinterpret_cast<const ImagePlan*>(memory), table_.data(),
                                      memory + staged.pixels_at(), out.images.data());
  upload.release();
  return out;
}

}  // namespace entangle
