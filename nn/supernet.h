// The entangled Vision Transformer supernet (Chen et al., "AutoFormer: searching transformers for visual recognition",
// ICCV 2021, arXiv 2107.00651): one set of weights in which every architecture is a view. And the classical sharing that the
// paper compares it with (its figure 3): each choice of a layer has weights of its own, shared by the architectures that make
// that choice.
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
  // With choices, classical sharing: block i has a set of weights for each (embed_dim, num_heads, mlp_ratio) of these, all of
  // its layers, norms and tables; what is in front of and behind the blocks (patch projection, class token, positions; last
  // norm, head) has one for each embed_dim. Different choices share nothing. Only these architectures have weights then;
  // embed_dim, num_heads and mlp_ratio above bound the choices.
  SearchSpace classical = {};
  bool recompute = false;  // compute attention's p and the MLP's hidden layer again in the backward pass: less memory

  int64_t side() const { return image_size / patch_size; }
  int64_t tokens() const { return side() * side() + 1; }
  bool is_dense() const { return dense.depth > 0; }
  bool is_classical() const { return !classical.embed_dim.empty(); }
  int64_t heads_of(int64_t block) const { return is_dense() ? dense.num_heads[static_cast<size_t>(block)] : num_heads; }
  double ratio_of(int64_t block) const { return is_dense() ? dense.mlp_ratio[static_cast<size_t>(block)] : mlp_ratio; }
  // Throws Error naming the value out of range.
  void validate() const;
  // The whole supernet as an architecture; of dense weights, theirs; of classical sharing the largest of the choices.
  Architecture full() const;
  // Throws Error naming what is larger than the supernet (an architecture may lie outside of the search's choices); of
  // classical sharing, what is none of the choices.
  void check_fits(const Architecture& architecture) const;
};

// How a forward pass is run.
struct ForwardOptions {
  bool training = false;  // whether dropout and drop-path act
  uint64_t seed = 0;      // with `step`, the key of dropout and drop-path
  uint64_t step = 0;
  int64_t first_sample = 0;                 // index of images[0] within the global batch, which keys what is dropped
  std::vector<TapedView>* views = nullptr;  // when not null, receives every view of a parameter that the pass used
};

// The residual stream between two blocks: sum + branch [B, N, C], or sum alone behind the stem. The addition is left to the
// norm that follows it.
struct ResidualStream {
  Tensor sum, branch;
  KeptImages kept;  // of the branch
};

// The published name of a parameter: of classical sharing without the choice in front of it ("96x3x2/blocks.0.fc1.bias").
std::string name_without_choice(const std::string& parameter);

// Queries, keys and values [B, N, 3*H*D] of a block, and its relative position tables.
struct AttentionInput {
  Tensor qkv;
  AttentionTables tables;
  AttentionShape shape;
};

// The network: its weights at full size, and forward passes of any architecture through views of them.
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
  // The parameter that `architecture` uses under a published name: that name, or of classical sharing the name of its
  // choice's own. Null when there is none.
  const Parameter* find(const std::string& published, const Architecture& architecture) const;

  // images [B, in_channels, image_size, image_size], normalised -> logits [B, num_classes]. Throws Error when the
  // architecture does not fit.
  Tensor forward(const Tensor& images, const Architecture& architecture, const ForwardOptions& options = {}) const;

  // The same for inference, in stages: forward(images, a) has the bits of head(block(... block(stem(images, e), 0, ...)
  // ..., depth - 1, ...)). So subnets that begin alike can share what they have in common, and each stage be timed.
  ResidualStream stem(const Tensor& images, int embed_dim) const;
  ResidualStream block(const ResidualStream& stream, int64_t index, int num_heads, double mlp_ratio) const;
  Tensor head(const ResidualStream& stream) const;
  // What attention() in that block gets, for those who look into a network.
  AttentionInput attention_input(const ResidualStream& stream, int64_t index, int num_heads, double mlp_ratio) const;

 private:
  struct Block {
    int attention_norm_w, attention_norm_b, qkv_w, qkv_b, proj_w, proj_b;
    int key_v, key_h, value_v, value_h;  // -1 without relative position
    int mlp_norm_w, mlp_norm_b, fc1_w, fc1_b, fc2_w, fc2_b;
  };
  // What is in front of and behind the blocks.
  struct Ends {
    int patch_w, patch_b, class_token, position;  // position: -1 without absolute position
    int norm_w, norm_b, head_w, head_b;
  };
  class Declaration;
  class Pass;  // one forward pass

  void declare_parameters();
  const Ends& ends_of(int64_t embed_dim) const;
  const Block& block_of(int64_t index, int64_t embed_dim, int64_t num_heads, double mlp_ratio) const;
  void check_images(const Tensor& images) const;
  void initialise(uint64_t seed);

  SupernetConfig config_;
  ParameterArena parameters_;
  std::vector<Ends> ends_;                  // one; of classical sharing one for each embed_dim
  std::vector<std::vector<Block>> blocks_;  // of each block: one; of classical sharing one for each choice
};

}  // namespace entangle
