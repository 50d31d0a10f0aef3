// A supernet that tests can run in no time, with images and targets for it.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/ops.h"
#include "engine/rng.h"
#include "nn/supernet.h"

namespace entangle {

inline SupernetConfig small_config() {
  SupernetConfig c;
  c.image_size = 12;
  c.patch_size = 4;
  c.in_channels = 2;
  c.num_classes = 5;
  c.embed_dim = 24;
  c.depth = 3;
  c.num_heads = 3;
  c.head_dim = 8;
  c.mlp_ratio = 2;
  c.max_relative_position = 1;
  c.init_std = 0.3;
  return c;
}

inline Architecture mixed_architecture() {
  Architecture a;
  a.depth = 2;
  a.embed_dim = 16;
  a.num_heads = {2, 1};
  a.mlp_ratio = {1.5, 2};
  return a;
}

inline Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  Tensor t = Tensor::empty(shape);
  std::generate_n(t.data(), t.count(), [&] { return static_cast<float>(normal(rng)); });
  return t;
}

inline Tensor random_images(const SupernetConfig& c, int64_t batch) {
  return random_tensor({batch, c.in_channels, c.image_size, c.image_size}, 7);
}

inline Tensor one_hot(int64_t batch, int64_t classes) {
  Tensor t = Tensor::zeros({batch, classes});
  for (int64_t b = 0; b < batch; ++b) t.data()[b * classes + b % classes] = 1;
  return t;
}

// Forward and backward; gradients are left in the arena. Returns the logits.
inline std::vector<float> run_step(const Supernet& net, const Architecture& a, const Tensor& images,
                                   ForwardOptions options = {}) {
  Tape tape;
  const Tensor logits = net.forward(images, a, options);
  const std::vector<float> values = logits.to_vector();
  tape.backward(cross_entropy(logits, one_hot(images.size(0), net.config().num_classes)));
  return values;
}

}  // namespace entangle
