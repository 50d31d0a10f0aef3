// Distillation into soft targets: cross-entropy is linear in them, so a teacher's opinion is a change of the targets.
#pragma once

#include <memory>

#include "data/batch_feed.h"
#include "tools/common/config.h"
#include "tools/common/models.h"

namespace entangle {

class Teacher {
 public:
  // Loads TRAIN.teacher, whose file must carry its configuration. Throws Error when its images or classes are not the
  // student's.
  Teacher(const Config& student, DeviceKind device);

  // (1 - share) t + share q [B, classes], with q the softmax of the teacher's logits on the batch's images (soft), or 1 for
  // its best class, the first of equal ones (hard). Waits for the device.
  Tensor targets(const DeviceBatch& batch) const;

 private:
  LoadedModel model_;
  Architecture architecture_;  // the largest that its configuration trains
  bool soft_;
  float share_;
};

// The mixing alone, in host memory: logits and targets are [B, classes].
void mix_in_teacher(const std::vector<float>& logits, int64_t classes, bool soft, float share,
                    std::vector<float>& targets);

}  // namespace entangle
