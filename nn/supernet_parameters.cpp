// Which parameters a supernet has, and which of them an architecture uses.
#include <algorithm>
#include <charconv>
#include <utility>

#include "engine/check.h"
#include "nn/supernet.h"

namespace entangle {
namespace {

// The shortest decimal that reads back as the same value.
std::string text_of(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr};
}

// In front of the published name of a parameter that belongs to a choice: "96/", "96x3x3.5/".
std::string prefix_of(int64_t embed_dim) { return std::to_string(embed_dim) + "/"; }
std::string prefix_of(int64_t embed_dim, int64_t heads, double ratio) {
  return concat(embed_dim, "x", heads, "x", text_of(ratio), "/");
}

// Where a value stands among the choices; throws Error when it does not.
template <class Number, class Value>
size_t place_of(const std::vector<Number>& choices, Value value, const char* name) {
  const auto found = std::find(choices.begin(), choices.end(), static_cast<Number>(value));
  CHECK(found != choices.end(), "architecture: ", name, " is ", value,
        ", which is no choice of this supernet: with MODEL.sharing=classical only its choices have weights");
  return static_cast<size_t>(found - choices.begin());
}

}  // namespace

// rfind() + 1 is 0 when there is none.
std::string name_without_choice(const std::string& parameter) { return parameter.substr(parameter.rfind('/') + 1); }

// Declares the parameters of one choice, whose names begin with `prefix`.
class Supernet::Declaration {
 public:
  Declaration(const SupernetConfig& config, ParameterArena& parameters, std::string prefix)
      : config_(config), parameters_(parameters), prefix_(std::move(prefix)) {}

  // Names and shapes are those of the published checkpoints; see from_file_order for the interleaved QKV rows.
  void front(int64_t e, Ends& ends) const {
    const int64_t p = config_.patch_size, fan_in = config_.in_channels * p * p;
    ends.position = -1;
    ends.class_token = declare("cls_token", {e}, {1, 1, e}, false);
    if (config_.absolute_position)
      ends.position = declare("pos_embed", {config_.tokens(), e}, {1, config_.tokens(), e}, false);
    ends.patch_w = declare("patch_embed_super.proj.weight", {e, fan_in}, {e, config_.in_channels, p, p}, true);
    ends.patch_b = vector("patch_embed_super.proj.bias", e);
  }

  Block block(int64_t index, int64_t e, int64_t heads, double ratio) const {
    const std::string block = "blocks." + std::to_string(index) + ".", attn = block + "attn.";
    const int64_t width = heads * config_.head_dim, hidden = hidden_width(e, ratio);
    const int64_t table_rows = 2 * config_.max_relative_position + 2;
    Block b = {};
    b.qkv_w = declare(attn + "qkv.weight", {3, width, e}, {3 * width, e}, true, 3);
    b.qkv_b = config_.qkv_bias == QkvBias::aligned ? declare(attn + "qkv.bias", {3, width}, {3 * width}, false, 3)
                                                   : vector(attn + "qkv.bias", 3 * width);
    b.key_v = b.key_h = b.value_v = b.value_h = -1;
    if (config_.relative_position) {
      b.key_v = matrix(attn + "rel_pos_embed_k.embeddings_table_v", table_rows, config_.head_dim);
      b.key_h = matrix(attn + "rel_pos_embed_k.embeddings_table_h", table_rows, config_.head_dim);
      b.value_v = matrix(attn + "rel_pos_embed_v.embeddings_table_v", table_rows, config_.head_dim);
      b.value_h = matrix(attn + "rel_pos_embed_v.embeddings_table_h", table_rows, config_.head_dim);
    }
    b.proj_w = matrix(attn + "proj.weight", e, width);
    b.proj_b = vector(attn + "proj.bias", e);
    b.attention_norm_w = vector(block + "attn_layer_norm.weight", e);
    b.attention_norm_b = vector(block + "attn_layer_norm.bias", e);
    b.mlp_norm_w = vector(block + "ffn_layer_norm.weight", e);
    b.mlp_norm_b = vector(block + "ffn_layer_norm.bias", e);
    b.fc1_w = matrix(block + "fc1.weight", hidden, e);
    b.fc1_b = vector(block + "fc1.bias", hidden);
    b.fc2_w = matrix(block + "fc2.weight", e, hidden);
    b.fc2_b = vector(block + "fc2.bias", e);
    return b;
  }

  void back(int64_t e, Ends& ends) const {
    ends.norm_w = vector("norm.weight", e);
    ends.norm_b = vector("norm.bias", e);
    ends.head_w = matrix("head.weight", config_.num_classes, e);
    ends.head_b = vector("head.bias", config_.num_classes);
  }

 private:
  int declare(const std::string& name, const Shape& shape, const Shape& file_shape, bool decay,
              int interleave = 1) const {
    Parameter parameter;
    parameter.name = prefix_ + name;
    parameter.shape = shape;
    parameter.file_shape = file_shape;
    parameter.decay = decay;
    parameter.interleave = interleave;
    return parameters_.declare(std::move(parameter));
  }
  int vector(const std::string& name, int64_t n) const { return declare(name, {n}, {n}, false); }
  int matrix(const std::string& name, int64_t out, int64_t in) const {
    return declare(name, {out, in}, {out, in}, true);
  }

  const SupernetConfig& config_;
  ParameterArena& parameters_;
  const std::string prefix_;
};

// In the published order; of classical sharing choice after choice within each part.
void Supernet::declare_parameters() {
  const SupernetConfig& c = config_;
  const SearchSpace& choices = c.classical;
  const auto of = [&](const std::string& prefix) { return Declaration(c, parameters_, prefix); };
  blocks_.resize(static_cast<size_t>(c.depth));
  if (!c.is_classical()) {
    ends_.resize(1);
    of("").front(c.embed_dim, ends_[0]);
    for (int64_t i = 0; i < c.depth; ++i) {
      blocks_[static_cast<size_t>(i)] = {of("").block(i, c.embed_dim, c.heads_of(i), c.ratio_of(i))};
    }
    return of("").back(c.embed_dim, ends_[0]);
  }
  for (const int e : choices.embed_dim) of(prefix_of(e)).front(e, ends_.emplace_back());
  for (int64_t i = 0; i < choices.depth.back(); ++i) {
    for (const int e : choices.embed_dim) {
      for (const int heads : choices.num_heads) {
        for (const double ratio : choices.mlp_ratio) {
          blocks_[static_cast<size_t>(i)].push_back(of(prefix_of(e, heads, ratio)).block(i, e, heads, ratio));
        }
      }
    }
  }
  for (size_t k = 0; k < ends_.size(); ++k) of(prefix_of(choices.embed_dim[k])).back(choices.embed_dim[k], ends_[k]);
}

const Supernet::Ends& Supernet::ends_of(int64_t embed_dim) const {
  return config_.is_classical() ? ends_[place_of(config_.classical.embed_dim, embed_dim, "embed_dim")] : ends_[0];
}

const Supernet::Block& Supernet::block_of(int64_t index, int64_t embed_dim, int64_t num_heads, double mlp_ratio) const {
  const std::vector<Block>& sets = blocks_[static_cast<size_t>(index)];
  if (!config_.is_classical()) return sets[0];
  const SearchSpace& choices = config_.classical;
  size_t place = place_of(choices.embed_dim, embed_dim, "embed_dim");
  place = place * choices.num_heads.size() + place_of(choices.num_heads, num_heads, "num_heads");
  return sets[place * choices.mlp_ratio.size() + place_of(choices.mlp_ratio, mlp_ratio, "mlp_ratio")];
}

const Parameter* Supernet::find(const std::string& published, const Architecture& architecture) const {
  if (!config_.is_classical()) return parameters_.find(published);
  const std::string block = "blocks.";
  if (published.rfind(block, 0) != 0) return parameters_.find(prefix_of(architecture.embed_dim) + published);
  const size_t index = static_cast<size_t>(std::stoll(published.substr(block.size())));
  if (index >= architecture.num_heads.size()) return nullptr;
  return parameters_.find(
      prefix_of(architecture.embed_dim, architecture.num_heads[index], architecture.mlp_ratio[index]) + published);
}

}  // namespace entangle
