#include "tools/bench_kernels/layers.h"

#include <algorithm>

#include "engine/check.h"
#include "engine/rng.h"

namespace entangle {
namespace {

Tensor draw(const Shape& shape, uint64_t index) {
  Tensor t = Tensor::empty(shape);
  Rng rng(0, Stream::synthetic, index);
  std::generate_n(t.data(), t.count(), [&] { return static_cast<float>(rng.uniform(-1, 1)); });
  return t;
}

}  // namespace

std::vector<Layer> layers_of(const std::string& space, const Config& config, int64_t batch) {
  const SupernetConfig& m = config.model;
  const Architecture a = config.space.largest();
  const int64_t patches = m.side() * m.side(), pixels = m.in_channels * m.patch_size * m.patch_size;
  const int64_t rows = batch * m.tokens(), width = a.embed_dim, attention = a.num_heads[0] * m.head_dim;
  const int64_t hidden = hidden_width(width, a.mlp_ratio[0]), super_attention = m.num_heads * m.head_dim;
  const int64_t super_hidden = hidden_width(m.embed_dim, m.mlp_ratio);
  // A layer whose weight [out, in] is cut from one with rows of `row` elements.
  const auto plain = [&](int64_t layer_rows, int64_t in, int64_t out, int64_t row) {
    return LinearShape{layer_rows, in, out, 1, row, 0, 0, m.precision};
  };
  LinearShape qkv = plain(rows, width, attention, m.embed_dim);
  qkv.groups = 3;
  qkv.w_group = super_attention * m.embed_dim;
  qkv.b_group = super_attention;
  return {{space, "patch", plain(batch * patches, pixels, width, pixels), 1, false},
          {space, "qkv", qkv, a.depth, true},
          {space, "proj", plain(rows, attention, width, super_attention), a.depth, true},
          {space, "fc1", plain(rows, width, hidden, m.embed_dim), a.depth, true},
          {space, "fc2", plain(rows, hidden, width, super_hidden), a.depth, true},
          {space, "head", plain(batch, width, m.num_classes, m.embed_dim), 1, true}};
}

const char* name_of(Pass pass) {
  static const char* const names[] = {"forward", "dX", "dW"};
  return names[static_cast<int>(pass)];
}

LayerOperands::LayerOperands(const Layer& layer) : s_(layer.shape) {
  CHECK(
      s_.groups == 1 || s_.w_group == s_.out * s_.w_row, layer.space, " ", layer.name,
      ": a matrix product takes groups that lie next to each other; those of the largest subnet do when it has all of "
      "the supernet's heads");
  const int64_t columns = s_.groups * s_.out;
  x_ = draw({s_.rows, s_.in}, 1);
  w_ = draw({columns, s_.w_row}, 2);
  dy_ = draw({s_.rows, columns}, 3);
  y_ = Tensor::zeros({s_.rows, columns});
  dx_ = Tensor::zeros({s_.rows, s_.in});
  dw_ = Tensor::zeros({columns, s_.w_row});
}

void LayerOperands::run_ours(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return kernels::linear_forward.on(DeviceKind::cpu)(s_, x_.data(), w_.data(), nullptr, y_.data());
    case Pass::input:
      return kernels::linear_backward.on(DeviceKind::cpu)(s_, x_.data(), w_.data(), dy_.data(), dx_.data(), false,
                                                          nullptr, nullptr);
    case Pass::weight:
      return kernels::linear_backward.on(DeviceKind::cpu)(s_, x_.data(), w_.data(), dy_.data(), nullptr, false,
                                                          dw_.data(), nullptr);
  }
}

Product LayerOperands::product(Pass pass) {
  const int64_t columns = s_.groups * s_.out;
  switch (pass) {
    case Pass::forward:
      return {false, true, s_.rows, columns, s_.in, x_.data(), s_.in, w_.data(), s_.w_row, 0, y_.data(), columns};
    case Pass::input:
      return {false, false, s_.rows, s_.in, columns, dy_.data(), columns, w_.data(), s_.w_row, 0, dx_.data(), s_.in};
    case Pass::weight:
      break;
  }
  return {true, false, columns, s_.in, s_.rows, dy_.data(), columns, x_.data(), s_.in, 1, dw_.data(), s_.w_row};
}

KernelCost LayerOperands::cost(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return costs::linear_forward(s_, x_.data(), w_.data(), nullptr, y_.data());
    case Pass::input:
      return costs::linear_backward(s_, x_.data(), w_.data(), dy_.data(), dx_.data(), false, nullptr, nullptr);
    case Pass::weight:
      break;
  }
  return costs::linear_backward(s_, x_.data(), w_.data(), dy_.data(), nullptr, false, dw_.data(), nullptr);
}

const Tensor& LayerOperands::result(Pass pass) const {
  return pass == Pass::forward ? y_ : pass == Pass::input ? dx_ : dw_;
}

}  // namespace entangle
