// What operations refuse: each wrong call must name the operation and the sizes that do not fit.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "engine/ops.h"
#include "engine/tensor.h"

namespace entangle {
namespace {

struct Refusal {
  std::function<Tensor()> call;
  const char* expected;  // part of the message
};

void expect_refusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    std::string message = "(no error)";
    try {
      refusal.call();
    } catch (const std::exception& error) {
      message = error.what();
    }
    EXPECT_NE(message.find(refusal.expected), std::string::npos)
        << "wanted: " << refusal.expected << "\ngot: " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << "one line: " << message;
  }
}

Tensor of(const Shape& shape) { return Tensor::zeros(shape); }
Tensor with_gaps(int64_t rows, int64_t columns) { return of({rows, columns + 1}).slice(1, 0, columns); }

AttentionShape attention_shape() { return {2, 5, 3, 4, 2, 1, 0.5f, 0, rng_key(1, Stream::dropout)}; }

Tensor attend(const Shape& qkv, const Shape& table, const std::function<void(AttentionShape&)>& change) {
  AttentionShape s = attention_shape();
  change(s);
  return attention(of(qkv), {of(table), of(table), of(table), of(table)}, s);
}

TEST(OperationErrors, Linear) {
  expect_refusals({
      {[] {
         return linear(of({2, 3}), of({4, 5}), {});
       },
       "linear: x [2, 3] does not fit the weight [4, 5]"},
      {[] {
         return linear(with_gaps(2, 3), of({4, 3}), {});
       },
       "linear: x must be contiguous"},
      {[] {
         return linear({}, of({4, 3}), {});
       },
       "linear: x"},
      {[] {
         return linear(of({2, 3}), {}, {});
       },
       "linear: the weight must be"},
      {[] {
         return linear(of({2, 3}), of({3}), {});
       },
       "linear: the weight must be"},
      {[] {
         return linear(of({2, 3}), of({4, 6}).view({4, 3}, {6, 2}), {});
       },
       "must be adjacent, not 2 apart"},
      {[] {
         return linear(of({2, 3}), of({4, 3}), of({5}));
       },
       "linear: bias [5] for a weight [4, 3]"},
      {[] {
         return linear(of({2, 3}), of({3, 4, 3}), of({12}));
       },
       "linear: bias [12] for a weight [3, 4, 3]"},
      {[] {
         return linear(of({2, 3}), of({3, 4, 3}), of({2, 4}));
       },
       "linear: bias [2, 4] for a weight [3, 4, 3]"},
      {[] {
         return linear(of({2, 3}), of({4, 3}), of({8}).view({4}, {2}));
       },
       "a bias must be adjacent"},
  });
}

TEST(OperationErrors, Softmax) {
  expect_refusals({
      {[] { return softmax({}); }, "softmax: x must be contiguous"},
      {[] { return softmax(with_gaps(2, 3)); }, "softmax: x must be contiguous"},
      {[] {
         return softmax(of({2, 0}));
       },
       "softmax: a row of x [2, 0] is empty"},
  });
}

TEST(OperationErrors, Attention) {
  const auto same = [](AttentionShape&) {};
  expect_refusals({
      {[&] {
         return attend({2, 5, 35}, {4, 4}, same);
       },
       "attention: qkv [2, 5, 35] must be contiguous [2, 5, 36]"},
      {[&] {
         return attend({2, 5, 36}, {3, 4}, same);
       },
       "table is [3, 4], not contiguous [4, 4]"},
      {[] {
         return attention(of({2, 5, 36}), {}, attention_shape());
       },
       "attention: a relative position table"},
      {[] {
         return attend({2, 5, 36}, {4, 4}, [](AttentionShape& s) { s.side = 3; });
       },
       "5 tokens are not one class"},
      {[] {
         return attend({2, 5, 36}, {4, 4}, [](AttentionShape& s) { s.heads = 0; });
       },
       "heads 0"},
      {[] {
         return attend({2, 5, 36}, {4, 4}, [](AttentionShape& s) { s.dropout = 1; });
       },
       "[0, 1), not 1"},
  });
}

TEST(OperationErrors, Mlp) {
  const auto run = [](const Shape& x, const Shape& w1, const Shape& b1, const Shape& w2, const Shape& b2) {
    return mlp(of(x), of(w1), of(b1), of(w2), of(b2));
  };
  expect_refusals({
      {[&] {
         return mlp({}, of({5, 3}), of({5}), of({3, 5}), of({3}));
       },
       "mlp: x must be contiguous"},
      {[&] {
         return mlp(of({2, 3}), of({5, 3}), {}, of({3, 5}), of({3}));
       },
       "mlp: weights must be [out, in], with biases"},
      {[&] {
         return run({2, 3}, {1, 5, 3}, {1, 5}, {3, 5}, {3});
       },
       "mlp: weights must be [out, in]"},
      {[&] {
         return run({2, 4}, {5, 3}, {5}, {3, 5}, {3});
       },
       "mlp: x [2, 4] does not fit the weight [5, 3]"},
      {[&] {
         return run({2, 3}, {5, 3}, {5}, {3, 6}, {3});
       },
       "mlp: x [2, 5] does not fit the weight [3, 6]"},
      {[&] {
         return run({2, 3}, {5, 3}, {4}, {3, 5}, {3});
       },
       "mlp: bias [4] for a weight [5, 3]"},
  });
}

TEST(OperationErrors, ResidualNorm) {
  const KeptImages all, one = {{0, -1}, 1}, wrong = {{1, 0}, 1}, few = {{0}, 1};
  const auto run = [&](const Shape& x, const Shape& branch, const KeptImages& from, const KeptImages& to,
                       const Shape& w) { return residual_norm(of(x), of(branch), from, of(w), of(w), 1e-5f, to).norm; };
  expect_refusals({
      {[&] {
         return run({6, 4}, {6, 4}, all, all, {4});
       },
       "residual_norm: x must be contiguous [batch, tokens, width]"},
      {[&] {
         return run({2, 3, 4}, {2, 3, 5}, all, all, {4});
       },
       "residual_norm: branch [2, 3, 5] must be contiguous [2, 3, 4]"},
      {[&] {
         return run({2, 3, 4}, {2, 3, 4}, one, all, {4});
       },
       "residual_norm: branch [2, 3, 4] must be contiguous [1, 3, 4]"},
      {[&] {
         return run({2, 3, 4}, {2, 3, 4}, all, few, {4});
       },
       "residual_norm: to has 1 slots for 2 images"},
      {[&] {
         return run({2, 3, 4}, {2, 3, 4}, wrong, all, {4});
       },
       "residual_norm: from has slot 1 where -1 or 0 must stand"},
      {[&] {
         return run({2, 3, 4}, {2, 3, 4}, all, all, {3});
       },
       "residual_norm: weight [3] and bias [3] for x [2, 3, 4]"},
  });
}

TEST(OperationErrors, LayerNormAndElementwise) {
  const RngKey key = rng_key(1, Stream::dropout);
  expect_refusals({
      {[] {
         return layer_norm(of({2, 3}), of({4}), of({3}), 1e-5f);
       },
       "layer_norm: weight [4] and bias [3] for x [2, 3]"},
      {[] {
         return layer_norm(of({2, 3}), of({3}), {}, 1e-5f);
       },
       "layer_norm: weight [3] and bias"},
      {[] { return layer_norm(with_gaps(2, 3), of({3}), of({3}), 1e-5f); }, "layer_norm: x must be contiguous"},
      {[] { return gelu({}); }, "gelu: x must be contiguous"},
      {[] { return gelu(with_gaps(2, 3)); }, "gelu: x must be contiguous"},
      {[&] { return dropout(of({3}), 1, key); }, "dropout: the rate must be in [0, 1), not 1"},
      {[&] { return dropout(of({3}), -0.5f, key); }, "dropout: the rate must be in [0, 1), not -0.5"},
      {[&] { return dropout(of({3}), NAN, key); }, "dropout: the rate must be in [0, 1), not "},
      {[&] { return dropout(with_gaps(2, 3), 0.5f, key); }, "dropout: x must be contiguous"},
      {[&] { return dropout(of({3}), 0.5f, key, -1); }, "dropout: -1 elements cannot come before the first"},
  });
}

TEST(OperationErrors, TokensAndLoss) {
  expect_refusals({
      {[] {
         return patchify(of({1, 3, 6, 5}), 2);
       },
       "patchify: images [1, 3, 6, 5]"},
      {[] {
         return patchify(of({1, 3, 6, 6}), 4);
       },
       "patchify: patches of 4 do not divide images of 6"},
      {[] {
         return patchify(of({1, 3, 6, 6}), 0);
       },
       "patchify: patches of 0"},
      {[] {
         return tokens(of({2, 3}), of({3}), {});
       },
       "tokens: patches must be"},
      {[] {
         return tokens(of({2, 4, 3}), of({4}), {});
       },
       "tokens: class token [4] for patches [2, 4, 3]"},
      {[] {
         return tokens(of({2, 4, 3}), {}, {});
       },
       "tokens: class token"},
      {[] {
         return tokens(of({2, 4, 3}), of({3}), of({4, 3}));
       },
       "tokens: positions [4, 3] for patches [2, 4, 3]"},
      {[] {
         return pool(of({2, 5, 3}), 1, 5);
       },
       "pool: tokens [1, 6) of 5"},
      {[] {
         return pool(of({2, 5, 3}), -1, 2);
       },
       "pool: tokens [-1, 1) of 5"},
      {[] {
         return pool(of({2, 5, 3}), 0, 0);
       },
       "pool: tokens [0, 0) of 5"},
      {[] {
         return pool(of({2, 5}), 0, 1);
       },
       "pool: x must be contiguous [batch, tokens, width]"},
      {[] {
         return cross_entropy(of({2, 3}), of({2, 4}));
       },
       "cross_entropy: logits [2, 3] and targets [2, 4]"},
      {[] {
         return cross_entropy(of({0, 3}), of({0, 3}));
       },
       "cross_entropy: logits [0, 3]"},
      {[] {
         return cross_entropy({}, of({2, 3}));
       },
       "cross_entropy: logits"},
  });
}

}  // namespace
}  // namespace entangle
