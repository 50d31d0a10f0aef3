// Attention written with the small operations, one head of one image at a time, and the fused operation: the same
// function of tokens and weights, so both are held to one reference, forward and backward, wherever kernels run.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/device.h"
#include "engine/ops.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference.h"

namespace entangle {
namespace {

// x [B, N, C] and w [3, H*D, C], the query, key and value rows -> [B, N, H*D]
Tensor fused(const AttentionShape& s, const Tensor& x, const Tensor& w) {
  return attention(linear(x, w, Tensor()), {}, s);
}

// One head of one image: x [1, N, C], wq, wk, wv [1, D, C] -> [1, N, D]. A linear layer is a product with a transpose,
// and takes an activation for its weight as well: so q k^T, and the values transposed from the start.
Tensor unfused_head(float scale, const Tensor& x, const Tensor& wq, const Tensor& wk, const Tensor& wv) {
  const Tensor q = linear(x, wq, Tensor()), k = linear(x, wk, Tensor());
  const Tensor values = linear(wv, x, Tensor());            // v^T [1, D, N]
  const Tensor p = softmax(linear(q, k, Tensor()), scale);  // [1, N, N]
  return linear(p, values, Tensor());
}

// Heads [1, N, D] of image b and head h, at b*H + h -> [B, N, H*D]. Of the test alone: through host memory.
Tensor join_heads(const AttentionShape& s, const std::vector<Tensor>& heads) {
  const auto place = [s](size_t head, int64_t token) {
    const int64_t b = static_cast<int64_t>(head) / s.heads, h = static_cast<int64_t>(head) % s.heads;
    return ((b * s.tokens + token) * s.heads + h) * s.head_dim;
  };
  std::vector<float> joined(static_cast<size_t>(attention_values(s)));
  for (size_t i = 0; i < heads.size(); ++i) {
    const std::vector<float> values = heads[i].to_vector();
    for (int64_t t = 0; t < s.tokens; ++t) {
      std::copy_n(values.begin() + t * s.head_dim, s.head_dim, joined.begin() + place(i, t));
    }
  }
  Tensor y = Tensor::from({s.batch, s.tokens, s.heads * s.head_dim}, joined, heads[0].device());
  if (Tape* tape = recording({&heads[0]})) {
    tape->record("join_heads", y, [s, heads, place, dy = y.gradient_only()] {
      const std::vector<float> all = dy.grad_to_vector();
      for (size_t i = 0; i < heads.size(); ++i) {
        std::vector<float> part;
        for (int64_t t = 0; t < s.tokens; ++t) {
          part.insert(part.end(), all.begin() + place(i, t), all.begin() + place(i, t) + s.head_dim);
        }
        copy_floats(heads[i].count(), part.data(), DeviceKind::cpu, heads[i].grad(), heads[i].device());
      }
    });
  }
  return y;
}

Tensor unfused(const AttentionShape& s, const Tensor& x, const Tensor& w) {
  std::vector<Tensor> heads;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const auto rows_of = [&](int64_t group) { return w.slice(0, group, 1).slice(1, h * s.head_dim, s.head_dim); };
      heads.push_back(unfused_head(s.scale, x.slice(0, b, 1), rows_of(0), rows_of(1), rows_of(2)));
    }
  }
  return join_heads(s, heads);
}

using Layer = Tensor (*)(const AttentionShape& s, const Tensor& x, const Tensor& w);

Case layer_case(const char* name, Layer layer, int64_t batch, int64_t side, int64_t heads, int64_t head_dim,
                int64_t width) {
  AttentionShape s = {batch, side * side + 1, heads, head_dim, side, 0, 0, 0, {}};
  s.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  const reference::LinearSize projection = {batch * s.tokens, width, heads * head_dim, 3};
  return {describe(name, {batch, side, heads, head_dim, width}),
          {{"x", {batch, s.tokens, width}}, {"w", {3, heads * head_dim, width}}},
          {batch, s.tokens, heads * head_dim},
          [=](const std::vector<Tensor>& t) { return layer(s, t[0], t[1]); },
          [=](const auto& in) {
            return reference::attention(s, std::decay_t<decltype(in)>{reference::linear(projection, in)});
          },
          [=](const auto& in, const auto& dy) {
            using All = std::decay_t<decltype(in)>;
            const auto dqkv = reference::attention_backward(s, All{reference::linear(projection, in)}, dy)[0];
            All gradients = reference::linear_backward(projection, in, dqkv);
            gradients.pop_back();  // there is no bias
            return gradients;
          },
          2};  // as for attention
}

TEST(UnfusedAttention, EqualsTheFusedOperation) {
  for (const Layer layer : {fused, unfused}) {
    const char* name = layer == fused ? "fused" : "unfused";
    for (const Case& c : {layer_case(name, layer, 2, 3, 3, 8, 12), layer_case(name, layer, 1, 5, 2, 5, 7)}) {
      for (const std::string& fault : check_case(c)) ADD_FAILURE() << fault;
    }
  }
}

}  // namespace
}  // namespace entangle
