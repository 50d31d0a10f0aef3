// The entangled Vision Transformer supernet (Chen et al., "AutoFormer: searching transformers for visual recognition",
// ICCV 2021, arXiv 2107.00651): one set of weights in which every architecture is a view.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/ops.h"
#include "engine/parameters.h"
#include "engine/tensor.h"
#include "nn/architecture.h"

namespace entangle {

// How the QKV bias is shared by subnets with different numbers of heads. aligned: entry j of Q, K and V is the same
// whatever the width, as the weight is. contiguous: the published code's bias[0 : 3*width].
enum class QkvBias { aligned, contiguous };

// The supernet at full size.
struct SupernetConfig {
  int64_t image_size = 224, patch_size = 16, in_channels = 3, num_classes = 1000;
  int64_t embed_dim = 256, depth = 14, num_heads = 4, head_dim = 64;
  double mlp_ratio = 4;
  bool absolute_position = true;
  bool relative_position = true;
  int64_t max_relative_position = 14;
  bool global_pool = true;  // mean over the patch tokens; otherwise the class token
  QkvBias qkv_bias = QkvBias::aligned;
  double init_std = 0.02;  // truncated normal of weights, tables, class token and positions. 0: width-scaled instead
  double drop_path = 0, dropout = 0, attention_dropout = 0;
  Precision precision = Precision::fp32;  // of the operands of linear layers
  // With a depth above 0, weights of this one architecture and no other, every block at its own size: embed_dim and depth
  // are then the architecture's, num_heads and mlp_ratio the largest of its blocks.
  Architecture dense = {};
  bool recompute = false;  // compute attention's p and the MLP's hidden layer again in the backward pass: less memory

  int64_t side() const { return image_size / patch_size; }
  int64_t tokens() const { return side() * side() + 1; }
  bool is_dense() const { return dense.depth > 0; }
  int64_t heads_of(int64_t block) const { return is_dense() ? dense.num_heads[static_cast<size_t>(block)] : num_heads; }
  double ratio_of(int64_t block) const { return is_dense() ? dense.mlp_ratio[static_cast<size_t>(block)] : mlp_ratio; }
  // Throws Error naming the value out of range.
  void validate() const;
  // The whole supernet as an architecture; of dense weights, theirs.
  Architecture full() const;
  // Throws Error naming what is larger than the supernet (an architecture may lie outside of the search's choices).
  void check_fits(const Architecture& architecture) const;
};

// How a forward pass is run.
struct ForwardOptions {
  bool training = false;  // whether dropout and drop-path act
  uint64_t seed = 0;      // with `step`, the key of dropout and drop-path
  uint64_t step = 0;
  int64_t first_sample = 0;                 // index of images[0] within the global batch: drop-path is keyed by it
  std::vector<TapedView>* views = nullptr;  // when not null, receives every view of a parameter that the pass used
};

// The residual stream between two blocks: sum + branch [B, N, C], or sum alone behind the stem. The addition is left to the
// norm that follows it.
struct ResidualStream {
  Tensor sum, branch;
  KeptImages kept;  // of the branch
};

class Supernet {
 public:
  // Declares and allocates every parameter; draws them from `seed` as published.
  Supernet(const SupernetConfig& config, uint64_t seed, DeviceKind device = DeviceKind::cpu);
  // Declares every parameter without memory for it: load_checkpoint (nn/checkpoint.h) gives it values for inference, once
  // the file is known to fit.
  explicit Supernet(const SupernetConfig& config);

  const SupernetConfig& config() const { return config_; }
  ParameterArena& parameters() { return parameters_; }
  const ParameterArena& parameters() const { return parameters_; }

  // images [B, in_channels, image_size, image_size], normalised -> logits [B, num_classes]. Throws Error when the
  // architecture does not fit.
  Tensor forward(const Tensor& images, const Architecture& architecture, const ForwardOptions& options = {}) const;

  // The same for inference, in stages: forward(images, a) has the bits of head(block(... block(stem(images, e), 0, ...)
  // ..., depth - 1, ...)). So subnets that begin alike can share what they have in common, and each stage be timed.
  ResidualStream stem(const Tensor& images, int embed_dim) const;
  ResidualStream block(const ResidualStream& stream, int64_t index, int num_heads, double mlp_ratio) const;
  Tensor head(const ResidualStream& stream) const;

 private:
  struct Block {
    int attention_norm_w, attention_norm_b, qkv_w, qkv_b, proj_w, proj_b;
    int key_v, key_h, value_v, value_h;  // -1 without relative position
    int mlp_norm_w, mlp_norm_b, fc1_w, fc1_b, fc2_w, fc2_b;
  };
  class Pass;  // one forward pass

  void declare_parameters();
  void check_images(const Tensor& images) const;
  void initialise(uint64_t seed);

  SupernetConfig config_;
  ParameterArena parameters_;
  int patch_w_, patch_b_, class_token_, position_ = -1;
  std::vector<Block> blocks_;
  int norm_w_, norm_b_, head_w_, head_b_;
};

}  // namespace entangle
