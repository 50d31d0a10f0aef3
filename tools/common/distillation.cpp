#include "tools/common/distillation.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"

namespace entangle {

Teacher::Teacher(const Config& student, DeviceKind device)
    : model_(load_model(student.train.teacher, "", device)),
      architecture_(model_.config.largest()),
      soft_(student.train.distillation == "soft"),
      share_(static_cast<float>(student.train.distillation_share)) {
  const auto check_equal = [&](const char* key, int64_t teachers, int64_t students) {
    CHECK(teachers == students, student.train.teacher, ": the teacher's ", key, " is ", teachers, ", the student's ",
          students, "; they must see the same images and classes");
  };
  const SupernetConfig &teacher = model_.config.model, &taught = student.model;
  check_equal("MODEL.image_size", teacher.image_size, taught.image_size);
  check_equal("MODEL.in_channels", teacher.in_channels, taught.in_channels);
  check_equal("MODEL.num_classes", teacher.num_classes, taught.num_classes);
}

Tensor Teacher::targets(const DeviceBatch& batch) const {
  std::vector<float> targets = batch.targets.to_vector();
  const std::vector<float> logits = model_.supernet->forward(batch.images, architecture_).to_vector();
  mix_in_teacher(logits, batch.targets.size(1), soft_, share_, targets);
  return Tensor::from(batch.targets.shape(), targets, batch.targets.device());
}

void mix_in_teacher(const std::vector<float>& logits, int64_t classes, bool soft, float share,
                    std::vector<float>& targets) {
  for (size_t row = 0; row < targets.size(); row += static_cast<size_t>(classes)) {
    const float* z = logits.data() + row;
    const float* best = std::max_element(z, z + classes);
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(static_cast<double>(z[k]) - *best);
    for (int64_t k = 0; k < classes; ++k) {
      const double q = soft ? std::exp(static_cast<double>(z[k]) - *best) / sum : z + k == best;
      float& target = targets[row + static_cast<size_t>(k)];
      target = (1 - share) * target + share * static_cast<float>(q);
    }
  }
}

}  // namespace entangle
