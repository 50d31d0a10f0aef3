#include "tools/common/memory_check.h"

#include <limits>
#include <string>

#include "data/batch_feed.h"
#include "engine/check.h"
#include "engine/device.h"
#include "engine/system_memory.h"
#include "nn/cost.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

constexpr int64_t kLargestBatch = 65536, kFloat = sizeof(float);
constexpr int64_t kOther = int64_t{32} << 20;  // packed weights, threads, files: what does not grow with the batch

// Bytes on one device, as a function of the batch.
struct Need {
  int64_t fixed, per_image;

  int64_t of(int64_t batch) const { return fixed + batch * per_image; }
  // 0 when not even one image fits.
  int64_t largest_batch(int64_t available) const {
    return available < of(1) ? 0 : std::min(kLargestBatch, (available - fixed) / per_image);
  }
};

Need step_need(SupernetConfig model, const Architecture& largest, int64_t params, bool recompute) {
  model.recompute = recompute;
  return {4 * params * kFloat + kOther, cost_of(model, largest, 1).step_bytes};
}

std::string gigabytes(int64_t bytes) { return format("%.2f GB", 1e-9 * static_cast<double>(bytes)); }

void check_one(const Need& need, const Need& recomputing, int64_t batch, DeviceKind device, const char* batch_flag) {
  const int64_t available = available_memory(device);
  if (need.of(batch) <= available) return;
  const int64_t fits = need.largest_batch(available), fits_recomputing = recomputing.largest_batch(available);
  std::string advice;
  if (fits > 0) advice = concat("; the largest batch that fits is ", fits, ": use ", batch_flag, " ", fits);
  if (fits_recomputing > fits) {
    advice += concat(fits > 0 ? ", or " : "; use ", batch_flag, " ", std::min(batch, fits_recomputing),
                     " with --set TRAIN.recompute=true");
  }
  if (advice.empty()) advice = "; not even one image fits: use smaller images or a smaller search space";
  RAISE("a batch of ", batch, " needs ", need.of(batch), " bytes (", gigabytes(need.of(batch)), ") of ",
        device == DeviceKind::cpu ? "" : "GPU ", "memory for a step of the largest subnet, and ", available, " (",
        gigabytes(available), ") are available", advice);
}

}  // namespace

void check_memory(const SupernetConfig& model, const Architecture& largest, int64_t batch,
                  const TrainingMemory& training, DeviceKind device, const char* batch_flag) {
  Need need = step_need(model, largest, training.params, model.recompute);
  Need recomputing = step_need(model, largest, training.params, true);
  const int64_t images = kFloat * (model.in_channels * model.image_size * model.image_size + model.num_classes);
  const int64_t staged =
      static_cast<int64_t>(staged_batch(1, model.in_channels, model.image_size, model.num_classes).bytes());
  // On a GPU the loader's batches stay in host memory, and some of them are copied.
  const int64_t copies = training.held_batches > 0 ? BatchFeed::kUploads : 0;
  const int64_t with_step = device == DeviceKind::cpu ? training.held_batches * images : copies * staged;
  const int64_t beside = device == DeviceKind::cpu ? 0 : training.held_batches * staged;
  need.per_image += with_step;
  recomputing.per_image += with_step;
  if (beside > 0) check_one({0, beside}, {0, beside}, batch, DeviceKind::cpu, batch_flag);
  check_one(need, recomputing, batch, device, batch_flag);
}

}  // namespace entangle
