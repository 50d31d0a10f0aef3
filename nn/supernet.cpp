#include "nn/supernet.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace {

constexpr float kLayerNormEps = 1e-5f;

// Four standard normals for one block of a sequence (Box-Muller).
void normal_block(RngKey key, uint64_t block, double* out) {
  constexpr double kUnit = 1.0 / 4294967296.0, kTwoPi = 6.283185307179586;
  const RngBlock words = rng_block(key, block);
  for (int pair = 0; pair < 2; ++pair) {
    const double radius = std::sqrt(-2 * std::log((words.word[2 * pair] + 0.5) * kUnit));
    const double angle = kTwoPi * kUnit * words.word[2 * pair + 1];
    out[2 * pair] = radius * std::cos(angle);
    out[2 * pair + 1] = radius * std::sin(angle);
  }
}

// Fills n values from a normal of that deviation, redrawing what lies beyond +-2: the cut is absolute, as published.
void fill_truncated_normal(RngKey key, double std_dev, int64_t n, float* values) {
  constexpr int64_t kPerChunk = 4096;
  parallel_for((n + kPerChunk - 1) / kPerChunk, [&](int64_t chunk) {
    double four[4];
    for (int64_t i = chunk * kPerChunk; i < std::min(n, (chunk + 1) * kPerChunk); ++i) {
      if (i % 4 == 0) normal_block(key, static_cast<uint64_t>(i) / 4, four);
      double value = std_dev * four[i % 4];
      for (uint64_t attempt = 1; std::abs(value) > 2; ++attempt) {
        double again[4];
        normal_block(key, (attempt << 40) + static_cast<uint64_t>(i), again);
        value = std_dev * again[0];
      }
      values[i] = static_cast<float>(value);
    }
  });
}

}  // namespace

Supernet::Supernet(const SupernetConfig& config) : config_(config) {
  config.validate();
  declare_parameters();
}

Supernet::Supernet(const SupernetConfig& config, uint64_t seed, DeviceKind device) : Supernet(config) {
  parameters_.allocate(device);
  initialise(seed);
}

// Published: truncated normal with std 0.02, biases 0, norms 1, the patch projection uniform in +-1/sqrt(fan_in). With
// init_std 0 the weights of a linear layer get std 1/sqrt(fan_in) instead, which narrow networks learn faster from.
void Supernet::initialise(uint64_t seed) {
  const double small = config_.init_std > 0 ? config_.init_std : 0.02;
  const auto ends_with = [](const std::string& name, const std::string& end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  for (size_t i = 0; i < parameters_.all().size(); ++i) {
    const Parameter& parameter = parameters_.all()[i];
    const std::string name = name_without_choice(parameter.name);
    const int64_t n = parameter.shape.count();
    std::vector<float> values(static_cast<size_t>(n));
    const double fan_in = static_cast<double>(parameter.shape[parameter.shape.rank - 1]);
    if (name.rfind("patch_embed_super", 0) == 0) {
      const int64_t columns = config_.in_channels * config_.patch_size * config_.patch_size;
      const double bound = 1 / std::sqrt(static_cast<double>(columns));
      Rng rng(seed, Stream::initialization, i);
      std::generate_n(values.begin(), n, [&] { return static_cast<float>(rng.uniform(-bound, bound)); });
    } else if (ends_with(name, "norm.weight")) {
      std::fill_n(values.begin(), n, 1.0f);
    } else if (!ends_with(name, ".bias")) {
      const bool is_linear = ends_with(name, ".weight");
      const double std_dev = config_.init_std > 0 || !is_linear ? small : 1 / std::sqrt(fan_in);
      fill_truncated_normal(rng_key(seed, Stream::initialization, i), std_dev, n, values.data());
    }
    copy_floats(n, values.data(), DeviceKind::cpu, parameters_.values() + parameter.offset, parameters_.device());
  }
}

// One forward pass: takes the views of an architecture and runs the operations on them.
class Supernet::Pass {
 public:
  Pass(const Supernet& net, const ForwardOptions& options, int64_t batch, int64_t embed_dim)
      : net_(net),
        config_(net.config_),
        ends_(net.ends_of(embed_dim)),
        options_(options),
        batch_(batch),
        e_(embed_dim) {}

  Tensor run(const Tensor& images, const Architecture& architecture) {
    ResidualStream stream = stem(images);
    for (int64_t i = 0; i < architecture.depth; ++i) {
      const size_t at = static_cast<size_t>(i);
      stream = block(stream, i, architecture.num_heads[at], architecture.mlp_ratio[at]);
    }
    return head(stream);
  }

  ResidualStream stem(const Tensor& images) {
    const SupernetConfig& c = config_;
    Tensor x =
        linear(patchify(images, c.patch_size), rows(ends_.patch_w, e_), vector(ends_.patch_b, e_), config_.precision);
    x = tokens(x, vector(ends_.class_token, e_), c.absolute_position ? columns(ends_.position, e_) : Tensor());
    return {scaled_dropout(x, options_.first_sample), Tensor(), {}};
  }

  // Branches alternate; the norm in front of each is computed with the residual connection behind the one before.
  ResidualStream block(const ResidualStream& in, int64_t i, int64_t heads, double ratio) {
    const Block& b = net_.block_of(i, e_, heads, ratio);
    KeptImages kept = drop_path(2 * i);
    ResidualNorm stream = add_and_norm(in, b.attention_norm_w, b.attention_norm_b, kept);
    const Tensor attended = attention_branch(attention_input(stream.norm, b, heads, kept_before(2 * i)), b);
    KeptImages next = drop_path(2 * i + 1);
    stream = add_and_norm({stream.sum, attended, std::move(kept)}, b.mlp_norm_w, b.mlp_norm_b, next);
    return {stream.sum, mlp_branch(stream.norm, b, ratio, kept_before(2 * i + 1)), std::move(next)};
  }

  AttentionInput attention_input(const ResidualStream& in, int64_t i, int64_t heads, double ratio) {
    const Block& b = net_.block_of(i, e_, heads, ratio);
    return attention_input(add_and_norm(in, b.attention_norm_w, b.attention_norm_b, {}).norm, b, heads, 0);
  }

  Tensor head(const ResidualStream& stream) {
    const SupernetConfig& c = config_;
    const Tensor x = add_and_norm(stream, ends_.norm_w, ends_.norm_b, {}).norm;
    const Tensor pooled = c.global_pool ? pool(x, 1, c.tokens() - 1) : pool(x, 0, 1);
    return linear(pooled, columns(ends_.head_w, e_), vector(ends_.head_b, c.num_classes), config_.precision);
  }

 private:
  // The stream's sum, and the norm of the images that the next branch keeps.
  ResidualNorm add_and_norm(const ResidualStream& stream, int w, int b, const KeptImages& next) {
    const Tensor weight = vector(w, e_), bias = vector(b, e_);
    if (!stream.branch.defined()) return {stream.sum, layer_norm(stream.sum, weight, bias, kLayerNormEps)};
    return residual_norm(stream.sum, stream.branch, stream.kept, weight, bias, kLayerNormEps, next);
  }

  // `first`: how many images of the whole batch come before those of x in the branch.
  AttentionInput attention_input(const Tensor& x, const Block& b, int64_t heads, int64_t first) {
    const SupernetConfig& c = config_;
    const int64_t width = heads * c.head_dim;
    AttentionInput in = {};
    AttentionShape& s = in.shape;
    s.batch = x.size(0);
    s.tokens = c.tokens();
    s.heads = heads;
    s.head_dim = c.head_dim;
    s.side = c.side();
    s.max_relative_position = c.relative_position ? c.max_relative_position : 0;
    s.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
    s.dropout = options_.training ? static_cast<float>(c.attention_dropout) : 0.0f;
    s.key = dropout_key();
    s.precision = config_.precision;
    s.first_image = first;
    if (c.relative_position) in.tables = {use(b.key_v), use(b.key_h), use(b.value_v), use(b.value_h)};
    in.qkv = linear(x, qkv_weight(b.qkv_w, width), qkv_bias(b.qkv_b, width), config_.precision);
    return in;
  }

  Tensor attention_branch(const AttentionInput& in, const Block& b) {
    const int64_t width = in.shape.heads * in.shape.head_dim;
    const Tensor y = linear(attention(in.qkv, in.tables, in.shape, config_.recompute), block_of(b.proj_w, e_, width),
                            vector(b.proj_b, e_), config_.precision);
    return unscaled_dropout(y, in.shape.first_image);
  }

  Tensor mlp_branch(const Tensor& x, const Block& b, double ratio, int64_t first) {
    const int64_t hidden = hidden_width(e_, ratio);
    const Tensor w1 = block_of(b.fc1_w, hidden, e_), b1 = vector(b.fc1_b, hidden);
    const Tensor w2 = block_of(b.fc2_w, e_, hidden), b2 = vector(b.fc2_b, e_);
    if (!options_.training || config_.dropout <= 0) {
      return mlp(x, w1, b1, w2, b2, config_.precision, config_.recompute);
    }
    const Tensor h = scaled_dropout(gelu(linear(x, w1, b1, config_.precision)), first);
    return scaled_dropout(linear(h, w2, b2, config_.precision), first);
  }

  // Views. Every parameter enters the pass through use().
  Tensor use(const Tensor& view) {
    const Tape* const tape = Tape::current();
    if (options_.views != nullptr) options_.views->push_back({view, tape == nullptr ? 0 : tape->size()});
    return view;
  }
  const Tensor& whole(int index) const { return net_.parameters_[index].tensor; }
  Tensor use(int index) { return use(whole(index)); }
  Tensor vector(int index, int64_t n) { return use(whole(index).slice(0, 0, n)); }
  Tensor rows(int index, int64_t n) { return use(whole(index).slice(0, 0, n)); }
  Tensor columns(int index, int64_t n) { return use(whole(index).slice(1, 0, n)); }
  Tensor block_of(int index, int64_t n, int64_t m) { return use(whole(index).slice(0, 0, n).slice(1, 0, m)); }
  Tensor qkv_weight(int index, int64_t width) { return use(whole(index).slice(1, 0, width).slice(2, 0, e_)); }
  // The contiguous bias packs the three groups of the drawn width one after another.
  Tensor qkv_bias(int index, int64_t width) {
    return use(config_.qkv_bias == QkvBias::aligned ? whole(index).slice(1, 0, width)
                                                    : whole(index).view({3, width}, {width, 1}));
  }

  double drop_path_rate(int64_t branch) const {
    const int64_t last = std::max<int64_t>(config_.depth - 1, 1);
    return options_.training ? config_.drop_path * static_cast<double>(branch / 2) / static_cast<double>(last) : 0;
  }
  // Keyed by (step, branch, index of the image in the global batch).
  bool is_dropped(int64_t branch, int64_t sample) const {
    const RngKey key = rng_key(options_.seed, Stream::drop_path, options_.step);
    const uint64_t index = (static_cast<uint64_t>(branch) << 32) + static_cast<uint64_t>(sample);
    return rng_uniform(key, index) < drop_path_rate(branch);
  }
  // The images that a branch keeps.
  KeptImages drop_path(int64_t branch) const {
    KeptImages kept;
    const double rate = drop_path_rate(branch);
    if (rate <= 0) return kept;
    kept.scale = static_cast<float>(1 / (1 - rate));
    int64_t next = 0;
    for (int64_t b = 0; b < batch_; ++b) {
      kept.slot.push_back(is_dropped(branch, options_.first_sample + b) ? -1 : next++);
    }
    if (next == batch_) kept.slot.clear();
    return kept;
  }
  // How many images the branch keeps of those that come before these in the global batch. In a branch the global batch lies
  // without gaps, and dropout's mask of these images is their part of that batch's: for any cut the same.
  int64_t kept_before(int64_t branch) const {
    const bool asked = options_.training && (config_.dropout > 0 || config_.attention_dropout > 0);
    if (!asked || drop_path_rate(branch) <= 0) return options_.first_sample;
    int64_t kept = 0;
    for (int64_t sample = 0; sample < options_.first_sample; ++sample) kept += !is_dropped(branch, sample);
    return kept;
  }

  // `first`: how many images of the whole batch come before x's.
  Tensor scaled_dropout(const Tensor& x, int64_t first) {
    const double share = static_cast<double>(e_) / static_cast<double>(config_.embed_dim);
    return apply_dropout(x, config_.dropout * share, first);
  }
  Tensor unscaled_dropout(const Tensor& x, int64_t first) { return apply_dropout(x, config_.dropout, first); }
  Tensor apply_dropout(const Tensor& x, double rate, int64_t first) {
    if (!options_.training || rate <= 0) return x;
    return dropout(x, static_cast<float>(rate), dropout_key(), first * x.size(1) * x.size(2));
  }
  // Every dropout of a pass has numbers of its own: the ordinal goes into the upper half of the seed.
  RngKey dropout_key() { return rng_key(options_.seed ^ (++dropouts_ << 40), Stream::dropout, options_.step); }

  const Supernet& net_;
  const SupernetConfig& config_;
  const Ends& ends_;
  const ForwardOptions& options_;
  const int64_t batch_, e_;
  uint64_t dropouts_ = 0;
};

void Supernet::check_images(const Tensor& images) const {
  CHECK(parameters_.allocated(), "the supernet has no weights yet; load a checkpoint first");
  const int64_t size = config_.image_size;
  CHECK(images.defined() && images.rank() == 4 &&
            images.shape() == Shape({images.size(0), config_.in_channels, size, size}),
        "the network takes images [batch, ", config_.in_channels, ", ", size, ", ", size, "], not ",
        images.shape().str());
}

Tensor Supernet::forward(const Tensor& images, const Architecture& architecture, const ForwardOptions& options) const {
  config_.check_fits(architecture);
  check_images(images);
  return Pass(*this, options, images.size(0), architecture.embed_dim).run(images, architecture);
}

ResidualStream Supernet::stem(const Tensor& images, int embed_dim) const {
  check_images(images);
  return Pass(*this, {}, images.size(0), embed_dim).stem(images);
}

ResidualStream Supernet::block(const ResidualStream& stream, int64_t index, int num_heads, double mlp_ratio) const {
  CHECK(index >= 0 && index < config_.depth, "block ", index, " of a supernet with ", config_.depth);
  return Pass(*this, {}, stream.sum.size(0), stream.sum.size(2)).block(stream, index, num_heads, mlp_ratio);
}

AttentionInput Supernet::attention_input(const ResidualStream& stream, int64_t index, int num_heads,
                                         double mlp_ratio) const {
  CHECK(index >= 0 && index < config_.depth, "block ", index, " of a supernet with ", config_.depth);
  return Pass(*this, {}, stream.sum.size(0), stream.sum.size(2)).attention_input(stream, index, num_heads, mlp_ratio);
}

Tensor Supernet::head(const ResidualStream& stream) const {
  return Pass(*this, {}, stream.sum.size(0), stream.sum.size(2)).head(stream);
}

}  // namespace entangle
