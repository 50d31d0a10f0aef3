// All that can happen to an image of a small data set.
#pragma once

#include "data/augment.h"

namespace entangle {

inline Augmentation every_augmentation(int64_t size) {
  Augmentation a;
  a.image_size = size;
  a.crop_padding = 2;
  a.flip = 0.5;
  a.erase = 0.5;
  a.erase_max_count = 3;
  a.mixup_alpha = 0.8;
  a.cutmix_alpha = 1;
  a.mix_probability = 0.8;
  a.label_smoothing = 0.1;
  return a;
}

}  // namespace entangle
