#include "nn/cost.h"

#include <algorithm>

#include "engine/check.h"
#include "engine/ops.h"

namespace entangle {
namespace {

// One architecture's sizes, in the letters of supernet.h and ops.h.
struct Sizes {
  int64_t patches, tokens, patch_values;  // n, N = n + 1, in_channels * patch_size^2
  int64_t width, classes, head_dim;       // C, K, D
  int64_t table_rows;                     // R = 2m + 2, or 0 without relative position
};

struct BlockSizes {
  int64_t heads, attention, hidden;  // H, w = H D, width of the MLP
};

Sizes sizes_of(const SupernetConfig& c, int64_t embed_dim) {
  const int64_t patches = c.side() * c.side();
  return {patches,
          patches + 1,
          c.in_channels * c.patch_size * c.patch_size,
          embed_dim,
          c.num_classes,
          c.head_dim,
          c.relative_position ? 2 * c.max_relative_position + 2 : 0};
}

BlockSizes block_of(const SupernetConfig& c, int64_t embed_dim, int64_t heads, double ratio) {
  return {heads, heads * c.head_dim, hidden_width(embed_dim, ratio)};
}

BlockSizes block_of(const SupernetConfig& c, const Architecture& a, size_t i) {
  return block_of(c, a.embed_dim, a.num_heads[i], a.mlp_ratio[i]);
}

int64_t linear_params(int64_t in, int64_t out) { return in * out + out; }

int64_t stem_params(const SupernetConfig& c, const Sizes& s) {
  int64_t sum = linear_params(s.patch_values, s.width) + s.width;  // patch projection, class token
  if (c.absolute_position) sum += s.tokens * s.width;
  return sum + 2 * s.width + linear_params(s.width, s.classes);  // final norm, head
}

int64_t block_params(const Sizes& s, const BlockSizes& b) {
  return 4 * s.width +  // two norms
         linear_params(s.width, 3 * b.attention) + linear_params(b.attention, s.width) +
         4 * s.table_rows * s.head_dim +  // keys and values, vertical and horizontal
         linear_params(s.width, b.hidden) + linear_params(b.hidden, s.width);
}

int64_t stem_macs(const Sizes& s) {
  return s.patches * s.patch_values * s.width + s.width * s.classes;  // the head sees the pooled token only
}

int64_t block_macs(const Sizes& s, const BlockSizes& b) {
  return s.tokens * s.width * 3 * b.attention +       // qkv
         2 * s.tokens * s.tokens * b.attention +      // q k^T and p v: N N D each, per head
         4 * s.tokens * s.table_rows * b.attention +  // q . table and bucket sums . table: N R D, two of each
         s.tokens * b.attention * s.width +           // proj
         2 * s.tokens * s.width * b.hidden;           // fc1, fc2
}

// The published get_complexity. T = n + 2 is its sequence length, one more than there are tokens.
double reference_complexity_of(const SupernetConfig& c, const Architecture& a) {
  const Sizes s = sizes_of(c, a.embed_dim);
  const double n = static_cast<double>(s.patches), e = static_cast<double>(s.width), t = n + 2;
  const double m = static_cast<double>(c.max_relative_position);
  double sum = e + n * e * static_cast<double>(s.patch_values);
  if (c.absolute_position) sum += e * (n + 1) / 2;
  for (size_t i = 0; i < a.num_heads.size(); ++i) {
    const BlockSizes b = block_of(c, a, i);
    const double w = static_cast<double>(b.attention), f = static_cast<double>(b.hidden);
    sum += t * e + t * 3 * w * e + 2 * t * t * w + t * w * e;
    if (c.relative_position) sum += 2 * m * t * t + t * t / 2 + t * w / 2;
    sum += t * e + 2 * t * e * f;
  }
  return sum + (n + 1) * static_cast<double>(s.classes) * e;
}

// Floats that one image leaves behind for the backward pass: the operands that a gradient reads. Outputs whose gradient
// alone is needed (projections into a residual, pooling, dropout, whose mask is drawn again) are gone. Drop-path leaves
// less: this is what a batch of which nothing is dropped leaves.
int64_t stream_floats(const Sizes& s) { return s.tokens * s.width; }  // one tensor [N, C]

// A layer_norm's input, and mean and rstd of each token.
int64_t norm_floats(const Sizes& s) { return stream_floats(s) + 2 * s.tokens; }

int64_t stem_floats(const Sizes& s) {
  return s.patches * s.patch_values +  // the patch projection's input
         norm_floats(s) + s.width +    // final layer_norm, the head's input
         2 * s.classes;                // cross_entropy: p and the targets
}

int64_t block_floats(const SupernetConfig& c, const Sizes& s, const BlockSizes& b) {
  int64_t sum = norm_floats(s) + stream_floats(s);                        // layer_norm; the qkv layer's input
  sum += 3 * s.tokens * b.attention;                                      // attention's input
  if (!c.recompute) sum += b.heads * s.tokens * attention_row(s.tokens);  // its p [H, N, N], rows padded
  sum += s.tokens * b.attention;                                          // proj's input
  sum += norm_floats(s) + stream_floats(s);                               // layer_norm; fc1's input
  if (c.dropout > 0) return sum + 2 * s.tokens * b.hidden;                // inputs of gelu and fc2
  return c.recompute ? sum : sum + s.tokens * b.hidden;                   // input of gelu
}

// Floats of the gradients (and of what is computed again) that the backward pass holds for one image in the block where
// they are the most.
int64_t gradient_floats_of_image(const SupernetConfig& c, const Architecture& a) {
  const Sizes s = sizes_of(c, a.embed_dim);
  const int64_t stream = s.tokens * s.width;
  int64_t most = 0;
  for (size_t i = 0; i < a.num_heads.size(); ++i) {
    const BlockSizes b = block_of(c, a, i);
    const int64_t hidden = s.tokens * b.hidden, attention = s.tokens * b.attention;
    const int64_t recomputed = c.recompute ? hidden : 0;
    most = std::max({most, 3 * stream + hidden + recomputed,  // mlp: of the sum, the branch and the norm; gelu(h)
                     2 * stream + 4 * attention});            // attention: of q, k, v and its output
  }
  return most;
}

constexpr int64_t kFloat = sizeof(float);

void check_batch(int64_t batch) {
  CHECK(batch >= 1 && batch <= 65536, "batch size is ", batch, ", but must lie in 1 .. 65536");
}

}  // namespace

LayerCost stem_cost(const SupernetConfig& supernet, int64_t embed_dim, int64_t batch) {
  check_batch(batch);
  const Sizes s = sizes_of(supernet, embed_dim);
  return {stem_params(supernet, s), stem_macs(s), kFloat * (batch * stem_floats(s) + 1)};  // + the loss
}

LayerCost block_cost(const SupernetConfig& supernet, int64_t embed_dim, int64_t heads, double ratio, int64_t batch) {
  check_batch(batch);
  const Sizes s = sizes_of(supernet, embed_dim);
  const BlockSizes b = block_of(supernet, embed_dim, heads, ratio);
  return {block_params(s, b), block_macs(s, b), kFloat * batch * block_floats(supernet, s, b)};
}

Cost cost_of(const SupernetConfig& supernet, const Architecture& architecture, int64_t batch) {
  supernet.validate();
  supernet.check_fits(architecture);
  LayerCost sum = stem_cost(supernet, architecture.embed_dim, batch);
  for (size_t i = 0; i < architecture.num_heads.size(); ++i) {
    const LayerCost block =
        block_cost(supernet, architecture.embed_dim, architecture.num_heads[i], architecture.mlp_ratio[i], batch);
    sum.params += block.params;
    sum.macs += block.macs;
    sum.activation_bytes += block.activation_bytes;
  }
  const int64_t image = supernet.in_channels * supernet.image_size * supernet.image_size;
  const int64_t step = batch * (image + gradient_floats_of_image(supernet, architecture)) * kFloat;
  return {sum.params, sum.macs, reference_complexity_of(supernet, architecture), sum.activation_bytes,
          sum.activation_bytes + step};
}

int64_t supernet_params(const SupernetConfig& supernet) {
  if (!supernet.is_classical()) return cost_of(supernet, supernet.full()).params;
  supernet.validate();
  const SearchSpace& choices = supernet.classical;
  int64_t sum = 0;
  for (const int e : choices.embed_dim) {
    sum += stem_cost(supernet, e).params;
    for (const int heads : choices.num_heads) {
      for (const double ratio : choices.mlp_ratio) {
        sum += choices.depth.back() * block_cost(supernet, e, heads, ratio).params;
      }
    }
  }
  return sum;
}

}  // namespace entangle
