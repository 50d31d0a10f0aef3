#include "tools/common/onnx_graph.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/check.h"

namespace entangle {
namespace {

using Sizes = std::vector<int64_t>;
using Names = std::vector<std::string>;

constexpr float kLayerNormEps = 1e-5f;

// Adds constants and nodes; each call returns the name of the value that it made.
class Builder {
 public:
  explicit Builder(OnnxModel& model) : model_(model) {}

  std::string constant(const std::string& name, const Sizes& shape, std::vector<float> values) {
    model_.constants.push_back({name, shape, std::move(values), {}});
    return name;
  }
  // Equal lists are one constant, named by what they hold.
  std::string list(const Sizes& values) {
    std::string name = "list";
    for (const int64_t value : values) name += "_" + std::to_string(value);
    return integers(name, {static_cast<int64_t>(values.size())}, values);
  }
  std::string integers(const std::string& name, const Sizes& shape, const Sizes& values) {
    if (made_.insert(name).second) model_.constants.push_back({name, shape, {}, values});
    return name;
  }
  std::string number(float value) {
    const std::string name = concat("number_", value);
    if (made_.insert(name).second) model_.constants.push_back({name, {}, {value}, {}});
    return name;
  }

  OnnxNode& node(const std::string& op, const Names& inputs, const Names& outputs) {
    OnnxNode one;
    one.op = op;
    one.inputs = inputs;
    one.outputs = outputs;
    model_.nodes.push_back(one);
    return model_.nodes.back();
  }
  std::string value(const std::string& op, const Names& inputs, const std::string& name) {
    return node(op, inputs, {name}).outputs.front();
  }

  std::string reshape(const std::string& x, const Sizes& shape, const std::string& name) {
    return value("Reshape", {x, list(shape)}, name);  // a size of 0 stays as it is
  }
  std::string transpose(const std::string& x, const Sizes& order, const std::string& name) {
    node("Transpose", {x}, {name}).integers["perm"] = order;
    return name;
  }
  // Indices [begin, end) along the axes.
  std::string slice(const std::string& x, const Sizes& begin, const Sizes& end, const Sizes& axes,
                    const std::string& name) {
    return value("Slice", {x, list(begin), list(end), list(axes)}, name);
  }
  // One index more, of zeros, in front along an axis.
  std::string zero_in_front(const std::string& x, size_t rank, size_t axis, const std::string& name) {
    Sizes pads(2 * rank, 0);
    pads[axis] = 1;
    return value("Pad", {x, list(pads)}, name);
  }
  std::string sum_over(const std::string& x, int64_t axis, const std::string& name) {
    node("ReduceSum", {x, list({axis})}, {name}).integer["keepdims"] = 0;
    return name;
  }

 private:
  OnnxModel& model_;
  std::set<std::string> made_;
};

std::vector<float> transposed(const std::vector<float>& values, int64_t rows, int64_t columns) {
  std::vector<float> out(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out[static_cast<size_t>(c * rows + r)] = values[static_cast<size_t>(r * columns + c)];
    }
  }
  return out;
}

class Network {
 public:
  Network(const Supernet& subnet, OnnxModel& model)
      : subnet_(subnet),
        c_(subnet.config()),
        architecture_(c_.full()),
        graph_(model),
        side_(c_.side()),
        patches_(side_ * side_),
        tokens_(patches_ + 1),
        e_(architecture_.embed_dim),
        d_(c_.head_dim) {}

  void build() {
    std::string x = stem();
    for (int64_t i = 0; i < architecture_.depth; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      x = graph_.value("Add", {x, attention_branch(x, block, architecture_.num_heads[static_cast<size_t>(i)])},
                       block + "attn.sum");
      x = graph_.value("Add", {x, mlp_branch(x, block)}, block + "sum");
    }
    const std::string normed = norm(x, "norm");
    const int64_t first = c_.global_pool ? 1 : 0, last = c_.global_pool ? tokens_ : 1;
    const std::string pooled = graph_.slice(normed, {first}, {last}, {1}, "pooled_tokens");
    OnnxNode& mean = graph_.node("ReduceMean", {pooled}, {"features"});
    mean.integers["axes"] = {1};
    mean.integer["keepdims"] = 0;
    linear("features", "head", "logits");
  }

 private:
  std::vector<float> values(const std::string& name) const {
    const Parameter* parameter = subnet_.parameters().find(name);
    CHECK(parameter != nullptr, "the network has no parameter ", name);
    return parameter->tensor.to_vector();
  }
  std::string vector(const std::string& name) {
    const std::vector<float> all = values(name);
    return graph_.constant(name, {static_cast<int64_t>(all.size())}, all);
  }

  // MatMul multiplies from the right, so a weight [out, in] is stored transposed. That of Q, K and V has rows Q, K, V.
  std::string linear(const std::string& x, const std::string& layer, const std::string& name) {
    const std::vector<float> weight = values(layer + ".weight");
    const std::string bias = vector(layer + ".bias");
    const int64_t out = static_cast<int64_t>(values(layer + ".bias").size());
    const int64_t in = static_cast<int64_t>(weight.size()) / out;
    const std::string w = graph_.constant(layer + ".weight_transposed", {in, out}, transposed(weight, out, in));
    return graph_.value("Add", {graph_.value("MatMul", {x, w}, layer + ".product"), bias}, name);
  }

  std::string norm(const std::string& x, const std::string& layer) {
    const std::string weight = vector(layer + ".weight"), bias = vector(layer + ".bias");
    OnnxNode& node = graph_.node("LayerNormalization", {x, weight, bias}, {layer});
    node.integer["axis"] = -1;
    node.real["epsilon"] = kLayerNormEps;
    return layer;
  }

  // Row 0 is the class token; the patches follow, row by row of the image.
  std::string stem() {
    const int64_t p = c_.patch_size;
    const std::string weight = graph_.constant("patch_embed_super.proj.weight", {e_, c_.in_channels, p, p},
                                               values("patch_embed_super.proj.weight"));
    OnnxNode& projection =
        graph_.node("Conv", {"images", weight, vector("patch_embed_super.proj.bias")}, {"patches_of_image"});
    projection.integers["kernel_shape"] = {p, p};
    projection.integers["strides"] = {p, p};
    std::string x = graph_.reshape("patches_of_image", {0, e_, patches_}, "patches_of_channel");
    x = graph_.transpose(x, {0, 2, 1}, "patches");
    x = graph_.zero_in_front(x, 3, 1, "patches_behind_class_token");
    std::vector<float> added = values("cls_token");
    added.resize(static_cast<size_t>(tokens_ * e_));
    if (c_.absolute_position) {
      const std::vector<float> positions = values("pos_embed");
      for (size_t i = 0; i < added.size(); ++i) added[i] += positions[i];
    }
    return graph_.value("Add", {x, graph_.constant("cls_token_and_pos_embed", {tokens_, e_}, added)}, "tokens");
  }

  std::string attention_branch(const std::string& x, const std::string& block, int64_t heads) {
    const std::string attn = block + "attn.";
    const int64_t width = heads * d_;
    const std::string qkv = linear(norm(x, block + "attn_layer_norm"), attn + "qkv", attn + "qkv");
    graph_.node("Split", {qkv, graph_.list({width, width, width})}, {attn + "q_rows", attn + "k_rows", attn + "v_rows"})
        .integer["axis"] = 2;
    const auto of_heads = [&](const std::string& rows, const Sizes& order, const std::string& name) {
      return graph_.transpose(graph_.reshape(attn + rows, {0, tokens_, heads, d_}, attn + rows + "_of_heads"), order,
                              attn + name);
    };
    const std::string k = of_heads("k_rows", {0, 2, 3, 1}, "k"), v = of_heads("v_rows", {0, 2, 1, 3}, "v");
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d_)));
    const std::string q =
        graph_.value("Mul", {of_heads("q_rows", {0, 2, 1, 3}, "q_unscaled"), graph_.number(scale)}, attn + "q");
    std::string scores = graph_.value("MatMul", {q, k}, attn + "q_k");
    if (c_.relative_position) {
      scores = graph_.value("Add", {scores, position_scores(q, attn + "rel_pos_embed_k.")}, attn + "scores");
    }
    const std::string p = attn + "probabilities";
    graph_.node("Softmax", {scores}, {p}).integer["axis"] = -1;
    std::string out = graph_.value("MatMul", {p, v}, attn + "p_v");
    if (c_.relative_position) {
      out = graph_.value("Add", {out, position_values(p, attn + "rel_pos_embed_v.")}, attn + "attended");
    }
    out = graph_.transpose(out, {0, 2, 1, 3}, attn + "attended_tokens");
    return linear(graph_.reshape(out, {0, tokens_, width}, attn + "attended_rows"), attn + "proj", attn + "proj");
  }

  // GELU in the exact form: x / 2 (1 + erf(x / sqrt 2)).
  std::string mlp_branch(const std::string& x, const std::string& block) {
    const std::string h = linear(norm(x, block + "ffn_layer_norm"), block + "fc1", block + "fc1");
    std::string g = graph_.value("Div", {h, graph_.number(static_cast<float>(std::sqrt(2.0)))}, block + "gelu.scaled");
    g = graph_.value("Erf", {g}, block + "gelu.erf");
    g = graph_.value("Add", {g, graph_.number(1)}, block + "gelu.erf_and_1");
    g = graph_.value("Mul", {h, g}, block + "gelu.doubled");
    g = graph_.value("Mul", {g, graph_.number(0.5f)}, block + "gelu");
    return linear(g, block + "fc2", block + "fc2");
  }

  // Entry (a, b): the table row for a query and a key in grid rows, or columns, a and b.
  std::string distances() {
    const int64_t m = c_.max_relative_position;
    Sizes rows;
    for (int64_t a = 0; a < side_; ++a) {
      for (int64_t b = 0; b < side_; ++b) rows.push_back(std::clamp(b - a, -m, m) + m + 1);
    }
    return graph_.integers("distances", {side_, side_}, rows);
  }
  // The rows of a table for each pair of grid rows or columns, [side, side, D].
  std::string gathered(const std::string& table) {
    const std::string rows = graph_.constant(table, {2 * c_.max_relative_position + 2, d_}, values(table));
    return graph_.value("Gather", {rows, distances()}, table + ".of_distances");
  }
  // Row 0 of both tables together: of every pair with the class token.
  std::string class_row(const std::string& tables, const Sizes& shape) {
    const std::vector<float> v = values(tables + "embeddings_table_v"), h = values(tables + "embeddings_table_h");
    std::vector<float> row;
    for (size_t i = 0; i < static_cast<size_t>(d_); ++i) row.push_back(v[i] + h[i]);
    return graph_.constant(tables + "class_token", shape, row);
  }
  std::string rows_and_columns_exchanged(const std::string& grid, const std::string& name) {
    return graph_.transpose(grid, {0, 1, 3, 2, 4}, name);
  }

  // q [N, H, tokens, D] -> what relative position adds to the scores, [N, H, tokens, tokens]. The class token's query adds
  // the same number to every key, which softmax does not see: its row is left at 0.
  std::string position_scores(const std::string& q, const std::string& tables) {
    const std::string patches = graph_.slice(q, {1}, {tokens_}, {2}, tables + "q");
    const std::string grid = graph_.reshape(patches, {0, 0, side_, side_, d_}, tables + "q_of_grid");
    const std::string v = graph_.transpose(gathered(tables + "embeddings_table_v"), {0, 2, 1}, tables + "table_v");
    const std::string h = graph_.transpose(gathered(tables + "embeddings_table_h"), {0, 2, 1}, tables + "table_h");
    // [N, H, row of i, column of i, row of j]
    std::string vertical = graph_.value("MatMul", {grid, v}, tables + "vertical");
    // [N, H, column of i, row of i, column of j], and the first two exchanged
    std::string horizontal = rows_and_columns_exchanged(grid, tables + "q_of_columns");
    horizontal = graph_.value("MatMul", {horizontal, h}, tables + "horizontal_of_columns");
    horizontal = rows_and_columns_exchanged(horizontal, tables + "horizontal");
    vertical = graph_.reshape(vertical, {0, 0, patches_, side_, 1}, tables + "vertical_of_rows");
    horizontal = graph_.reshape(horizontal, {0, 0, patches_, 1, side_}, tables + "horizontal_of_rows");
    std::string both = graph_.value("Add", {vertical, horizontal}, tables + "both");
    both = graph_.reshape(both, {0, 0, patches_, patches_}, tables + "of_patches");
    const std::string first = graph_.value("MatMul", {patches, class_row(tables, {d_, 1})}, tables + "of_class_token");
    const std::string all = tables + "of_tokens";
    graph_.node("Concat", {first, both}, {all}).integer["axis"] = 3;
    return graph_.zero_in_front(all, 4, 2, tables + "scores");
  }

  // p [N, H, tokens, tokens] -> what relative position adds to the weighted values, [N, H, tokens, D].
  std::string position_values(const std::string& p, const std::string& tables) {
    std::string grid = graph_.slice(p, {1, 1}, {tokens_, tokens_}, {2, 3}, tables + "p_of_patches");
    grid = graph_.reshape(grid, {0, 0, patches_, side_, side_}, tables + "p_of_keys");
    const Sizes of_grid = {0, 0, side_, side_, side_};
    std::string vertical = graph_.sum_over(grid, 4, tables + "p_of_key_rows");
    vertical = graph_.reshape(vertical, of_grid, tables + "p_vertical");
    vertical = graph_.value("MatMul", {vertical, gathered(tables + "embeddings_table_v")}, tables + "vertical");
    std::string horizontal = graph_.sum_over(grid, 3, tables + "p_of_key_columns");
    horizontal = graph_.reshape(horizontal, of_grid, tables + "p_horizontal");
    horizontal = rows_and_columns_exchanged(horizontal, tables + "p_of_columns");
    horizontal =
        graph_.value("MatMul", {horizontal, gathered(tables + "embeddings_table_h")}, tables + "horizontal_of_columns");
    horizontal = rows_and_columns_exchanged(horizontal, tables + "horizontal");
    std::string out = graph_.value("Add", {vertical, horizontal}, tables + "both");
    out = graph_.zero_in_front(graph_.reshape(out, {0, 0, patches_, d_}, tables + "of_patches"), 4, 2,
                               tables + "of_tokens");
    // The class token's row of the tables counts with the class token's probability; for the query of the class token
    // itself every pair has that row, and probabilities add up to one.
    std::string weight = graph_.slice(p, {0}, {1}, {3}, tables + "p_of_class_token");
    weight = graph_.value("Max", {weight, one_for_the_class_token()}, tables + "weight_of_class_token");
    const std::string first = graph_.value("Mul", {weight, class_row(tables, {d_})}, tables + "of_class_token");
    return graph_.value("Add", {out, first}, tables + "values");
  }
  std::string one_for_the_class_token() {
    if (first_.empty()) {
      std::vector<float> first(static_cast<size_t>(tokens_));
      first[0] = 1;
      first_ = graph_.constant("one_for_the_class_token", {tokens_, 1}, first);
    }
    return first_;
  }

  const Supernet& subnet_;
  const SupernetConfig& c_;
  const Architecture architecture_;
  Builder graph_;
  const int64_t side_, patches_, tokens_, e_, d_;
  std::string first_;
};

}  // namespace

OnnxModel onnx_of(const Supernet& subnet) {
  const SupernetConfig& c = subnet.config();
  OnnxModel model;
  model.description = "Image classifier: " + c.full().to_json();
  model.input = {"images", {0, c.in_channels, c.image_size, c.image_size}};
  model.output = {"logits", {0, c.num_classes}};
  Network(subnet, model).build();
  return model;
}

}  // namespace entangle
