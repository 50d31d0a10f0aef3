// What a weights file says about its network, as JSON in its metadata: all that is needed to build it and to feed it.
#pragma once

#include <string>
#include <vector>

#include "data/image.h"
#include "nn/architecture.h"
#include "nn/supernet.h"

namespace entangle {

// The key of the metadata.
inline constexpr const char* kDescriptionKey = "model";

struct Description {
  SupernetConfig model;  // qkv_bias is not described: the file says it beside this (nn/checkpoint.h)
  SearchSpace space;     // of a supernet; of one architecture's own weights (model.dense) not described
  // Of pixel values in [0, 1], one entry a channel; both empty when nobody said it.
  std::vector<float> mean, std_dev;
  bool always_resize = true;  // false: images of the network's own size are taken as they are
  Interpolation interpolation = Interpolation::bicubic;

  // Sizes only: what bears on training (drop-path, precision) is left out.
  std::string to_json() const;
  // Throws Error, beginning with `name`, for text that is no such description, or of an impossible network.
  static Description from_json(const std::string& text, const std::string& name);
};

}  // namespace entangle
