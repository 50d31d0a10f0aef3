#include <algorithm>

#include "engine/check.h"
#include "nn/supernet.h"

namespace entangle {
namespace {

// With these and LargestSize no product of a cost leaves 63 bits.
constexpr int64_t kLargestImage = 8192, kLargestSide = 128, kLargestChannels = 1024, kLargestClasses = 1 << 20;
constexpr int64_t kLargestHeadDim = 1024, kLargestAttentionWidth = 16384, kLargestRelativePosition = 1024;

void check_range(const char* key, int64_t value, int64_t low, int64_t high) {
  CHECK(value >= low && value <= high, "model: ", key, " is ", value, ", but must lie in ", low, " .. ", high);
}

// Written so that NaN fails.
void check_rate(const char* key, double value) {
  CHECK(value >= 0 && value < 1, "model: ", key, " is ", value, ", but must be at least 0 and below 1");
}

// Any depth up to the largest has weights.
void check_is_choice(const SearchSpace& choices, const Architecture& architecture) {
  SearchSpace any_depth = choices;
  CHECK(architecture.depth <= choices.depth.back(), "architecture: depth is ", architecture.depth,
        ", larger than the supernet's ", choices.depth.back());
  any_depth.depth = {architecture.depth};
  CHECK(any_depth.contains(architecture), "architecture ", architecture.to_json(),
        " is not made of this supernet's choices: with MODEL.sharing=classical only its choices have weights");
}

}  // namespace

void SupernetConfig::validate() const {
  check_range("image_size", image_size, 1, kLargestImage);
  check_range("patch_size", patch_size, 1, image_size);
  CHECK(image_size % patch_size == 0, "model: patch_size is ", patch_size, ", but must divide image_size ", image_size);
  CHECK(side() <= kLargestSide, "model: image_size ", image_size, " and patch_size ", patch_size, " make ", side(),
        " patches a side, but at most ", kLargestSide, " are allowed");
  check_range("in_channels", in_channels, 1, kLargestChannels);
  check_range("num_classes", num_classes, 1, kLargestClasses);
  check_range("embed_dim", embed_dim, 1, LargestSize::embed_dim);
  check_range("depth", depth, 1, LargestSize::depth);
  check_range("num_heads", num_heads, 1, LargestSize::num_heads);
  check_range("head_dim", head_dim, 1, kLargestHeadDim);
  CHECK(num_heads * head_dim <= kLargestAttentionWidth, "model: num_heads ", num_heads, " times head_dim ", head_dim,
        " is ", num_heads * head_dim, ", but at most ", kLargestAttentionWidth, " is allowed");
  CHECK(mlp_ratio > 0 && mlp_ratio <= LargestSize::mlp_ratio, "model: mlp_ratio is ", mlp_ratio,
        ", but must be above 0 and at most ", LargestSize::mlp_ratio);
  CHECK(hidden_width(embed_dim, mlp_ratio) >= 1, "model: mlp_ratio is ", mlp_ratio,
        ", which leaves an MLP without a hidden unit at embed_dim ", embed_dim);
  if (relative_position) check_range("max_relative_position", max_relative_position, 1, kLargestRelativePosition);
  CHECK(init_std >= 0 && init_std <= 1, "model: init_std is ", init_std,
        ", but must lie in 0 .. 1 (0: scaled by the width)");
  if (is_dense()) {
    dense.validate();
    CHECK(dense.depth == depth && dense.embed_dim == embed_dim, "model: weights of one architecture of depth ",
          dense.depth, " and embed_dim ", dense.embed_dim, " in a supernet of depth ", depth, " and embed_dim ",
          embed_dim, "; they must be equal");
    const bool largest = *std::max_element(dense.num_heads.begin(), dense.num_heads.end()) == num_heads &&
                         *std::max_element(dense.mlp_ratio.begin(), dense.mlp_ratio.end()) == mlp_ratio;
    CHECK(largest, "model: num_heads ", num_heads, " and mlp_ratio ", mlp_ratio,
          " are not the largest of the one architecture that the weights are of");
  }
  if (is_classical()) {
    CHECK(!is_dense(), "model: weights of one architecture share nothing, so sharing cannot be classical");
    classical.validate();
    SupernetConfig sizes = *this;
    sizes.classical = {};
    sizes.check_fits(classical.largest());
  }
  check_rate("drop_path", drop_path);
  check_rate("dropout", dropout);
  check_rate("attention_dropout", attention_dropout);
}

Architecture SupernetConfig::full() const {
  if (is_dense()) return dense;
  if (is_classical()) return classical.largest();
  return Architecture::uniform(static_cast<int>(depth), static_cast<int>(embed_dim), static_cast<int>(num_heads),
                               mlp_ratio);
}

void SupernetConfig::check_fits(const Architecture& architecture) const {
  architecture.validate();
  CHECK(architecture.depth <= depth, "architecture: depth is ", architecture.depth, ", larger than the supernet's ",
        depth);
  CHECK(architecture.embed_dim <= embed_dim, "architecture: embed_dim is ", architecture.embed_dim,
        ", larger than the supernet's ", embed_dim);
  for (size_t i = 0; i < architecture.num_heads.size(); ++i) {
    const double ratio = ratio_of(static_cast<int64_t>(i));
    const int64_t heads = heads_of(static_cast<int64_t>(i));
    CHECK(architecture.mlp_ratio[i] <= ratio, "architecture: mlp_ratio[", i, "] is ", architecture.mlp_ratio[i],
          ", larger than the supernet's ", ratio);
    CHECK(architecture.num_heads[i] <= heads, "architecture: num_heads[", i, "] is ", architecture.num_heads[i],
          ", larger than the supernet's ", heads);
  }
  if (is_classical()) check_is_choice(classical, architecture);
}

}  // namespace entangle
