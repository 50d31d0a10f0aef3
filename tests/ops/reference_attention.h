// Attention with relative position once more; see tests/ops/reference.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/ops.h"
#include "tests/ops/reference_numbers.h"

namespace entangle::reference {

// The bucket of a pair of tokens in the vertical (axis 0) or horizontal (axis 1) table.
inline int64_t bucket(const AttentionShape& s, int axis, int64_t i, int64_t j) {
  if (i == 0 || j == 0) return 0;
  const int64_t from = axis == 0 ? (i - 1) / s.side : (i - 1) % s.side;
  const int64_t to = axis == 0 ? (j - 1) / s.side : (j - 1) % s.side;
  const int64_t m = s.max_relative_position;
  return std::min(std::max(to - from, -m), m) + m + 1;
}

// An operand of a product: in bf16 a kernel may round it.
template <class T>
T operand(const AttentionShape& s, const T& x) {
  return s.precision == Precision::bf16 ? maybe_bf16(x) : x;
}
template <class T>
Array<T> operands(const AttentionShape& s, Array<T> all) {
  for (T& x : all) x = operand(s, x);
  return all;
}

// What relative position adds to key or value j as seen from token i: two tables [N, N, D]. For a pair with the class
// token `vertical` has the sum of both, which a kernel may round as one.
template <class T>
struct RelativePosition {
  Array<T> vertical, horizontal;
};

template <class T>
RelativePosition<T> relative_position(const AttentionShape& s, const Array<T>& vertical, const Array<T>& horizontal) {
  const int64_t n = s.tokens, width = s.head_dim;
  RelativePosition<T> table = {Array<T>(at(n * n * width)), Array<T>(at(n * n * width))};
  if (s.max_relative_position == 0) return table;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t d = 0; d < width; ++d) {
        const size_t to = at((i * n + j) * width + d);
        const T v = vertical[at(bucket(s, 0, i, j) * width + d)], h = horizontal[at(bucket(s, 1, i, j) * width + d)];
        const bool patches = i > 0 && j > 0;
        table.vertical[to] = operand(s, patches ? v : v + h);
        if (patches) table.horizontal[to] = operand(s, h);
      }
    }
  }
  return table;
}

// Position of component d of query (part 0), key (1) or value (2) in qkv.
inline size_t at_qkv(const AttentionShape& s, int part, int64_t b, int64_t h, int64_t token, int64_t d) {
  return at((((b * s.tokens + token) * 3 + part) * s.heads + h) * s.head_dim + d);
}

// Row i of softmax(scores) of head h of image b.
template <class T>
Array<T> attention_row(const AttentionShape& s, const Array<T>& qkv, const RelativePosition<T>& keys, int64_t b,
                       int64_t h, int64_t i) {
  Array<T> p(at(s.tokens));
  double largest = -INFINITY;
  for (int64_t j = 0; j < s.tokens; ++j) {
    T terms[2] = {0, 0};
    for (int64_t d = 0; d < s.head_dim; ++d) {
      const T query = qkv[at_qkv(s, 0, b, h, i, d)];
      const size_t from = at((i * s.tokens + j) * s.head_dim + d);
      p[at(j)] += query * qkv[at_qkv(s, 1, b, h, j, d)];
      terms[0] += query * keys.vertical[from];
      terms[1] += query * keys.horizontal[from];
    }
    p[at(j)] = (p[at(j)] + operand(s, terms[0]) + operand(s, terms[1])) * T(s.scale);
    largest = std::max(largest, value_of(p[at(j)]));
  }
  T sum = 0;
  for (T& e : p) {
    e = exp(e - largest);
    sum += e;
  }
  for (T& e : p) e = e / sum;
  return p;
}

// 1/(1 - rate) where an entry of p survives dropout, else 0.
template <class T>
T kept(const AttentionShape& s, int64_t b, int64_t h, int64_t i, int64_t j) {
  const int64_t index = (((s.first_image + b) * s.heads + h) * s.tokens + i) * s.tokens + j;
  return rng_uniform(s.key, static_cast<uint64_t>(index)) >= s.dropout ? T(1) / (T(1) - s.dropout) : T(0);
}

// in = {qkv, key_v, key_h, value_v, value_h}, or {qkv} alone without relative position.
template <class T>
Array<T> attention(const AttentionShape& s, const Arrays<T>& in) {
  const bool relative = s.max_relative_position > 0;
  const RelativePosition<T> keys = relative_position(s, relative ? in[1] : in[0], relative ? in[2] : in[0]);
  const RelativePosition<T> values = relative_position(s, relative ? in[3] : in[0], relative ? in[4] : in[0]);
  const Array<T> qkv = operands(s, in[0]);
  Array<T> y(at(s.batch * s.tokens * s.heads * s.head_dim));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.tokens; ++i) {
        const Array<T> p = attention_row(s, qkv, keys, b, h, i);
        for (int64_t j = 0; j < s.tokens; ++j) {
          const T weight = operand(s, p[at(j)] * kept<T>(s, b, h, i, j));
          for (int64_t d = 0; d < s.head_dim; ++d) {
            const size_t from = at((i * s.tokens + j) * s.head_dim + d);
            y[at(((b * s.tokens + i) * s.heads + h) * s.head_dim + d)] +=
                weight * qkv[at_qkv(s, 2, b, h, j, d)] +
                operand(s, weight) * (values.vertical[from] + values.horizontal[from]);
          }
        }
      }
    }
  }
  return y;
}

// Adds the gradient of a relative position table [N, N, D] to those of its two parts.
template <class T>
void relative_position_backward(const AttentionShape& s, const Array<T>& dtable, Array<T>& dvertical,
                                Array<T>& dhorizontal) {
  for (int64_t i = 0; i < s.tokens; ++i) {
    for (int64_t j = 0; j < s.tokens; ++j) {
      for (int64_t d = 0; d < s.head_dim; ++d) {
        const T g = dtable[at((i * s.tokens + j) * s.head_dim + d)];
        dvertical[at(bucket(s, 0, i, j) * s.head_dim + d)] += g;
        dhorizontal[at(bucket(s, 1, i, j) * s.head_dim + d)] += g;
      }
    }
  }
}

// One row of the backward pass, through the Jacobian of the softmax  d p_k / d s_j = p_k (delta_kj - p_j).
template <class T>
void attention_row_backward(const AttentionShape& s, const Array<T>& qkv, const RelativePosition<T>& keys,
                            const RelativePosition<T>& values, const Array<T>& dy, int64_t b, int64_t h, int64_t i,
                            Array<T>& dqkv, Array<T>& dkeys, Array<T>& dvalues) {
  const int64_t n = s.tokens, width = s.head_dim;
  const Array<T> p = attention_row(s, qkv, keys, b, h, i);
  Array<T> dp(at(n));
  for (int64_t j = 0; j < n; ++j) {
    const T keep = kept<T>(s, b, h, i, j), weight = operand(s, p[at(j)] * keep);
    T terms[2] = {0, 0};
    for (int64_t d = 0; d < width; ++d) {
      const T g = dy[at(((b * n + i) * s.heads + h) * width + d)];
      const size_t from = at((i * n + j) * width + d);
      dp[at(j)] += g * qkv[at_qkv(s, 2, b, h, j, d)];
      terms[0] += g * values.vertical[from];
      terms[1] += g * values.horizontal[from];
      dqkv[at_qkv(s, 2, b, h, j, d)] += weight * g;
      dvalues[from] += operand(s, weight) * g;
    }
    dp[at(j)] = keep * (dp[at(j)] + operand(s, terms[0]) + operand(s, terms[1]));
  }
  for (int64_t j = 0; j < n; ++j) {
    T ds = 0;
    for (int64_t k = 0; k < n; ++k) ds += dp[at(k)] * p[at(k)] * (k == j ? T(1) - p[at(j)] : -p[at(j)]);
    const T g = operand(s, T(s.scale) * ds), bucket_g = operand(s, g);
    for (int64_t d = 0; d < width; ++d) {
      const T query = qkv[at_qkv(s, 0, b, h, i, d)];
      const size_t from = at((i * n + j) * width + d);
      dqkv[at_qkv(s, 0, b, h, i, d)] +=
          g * qkv[at_qkv(s, 1, b, h, j, d)] + bucket_g * (keys.vertical[from] + keys.horizontal[from]);
      dqkv[at_qkv(s, 1, b, h, j, d)] += g * query;
      dkeys[from] += bucket_g * query;
    }
  }
}

// The gradients of all inputs, in their order.
template <class T>
Arrays<T> attention_backward(const AttentionShape& s, const Arrays<T>& in, const Array<T>& dy) {
  const bool relative = s.max_relative_position > 0;
  const RelativePosition<T> keys = relative_position(s, relative ? in[1] : in[0], relative ? in[2] : in[0]);
  const RelativePosition<T> values = relative_position(s, relative ? in[3] : in[0], relative ? in[4] : in[0]);
  const Array<T> qkv = operands(s, in[0]);
  const Array<T> dys = operands(s, dy);
  Array<T> dkeys(keys.vertical.size()), dvalues(dkeys.size());
  Arrays<T> gradients;
  for (const Array<T>& a : in) gradients.emplace_back(a.size());
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.tokens; ++i) {
        attention_row_backward(s, qkv, keys, values, dys, b, h, i, gradients[0], dkeys, dvalues);
      }
    }
  }
  if (relative) {
    relative_position_backward(s, dkeys, gradients[1], gradients[2]);
    relative_position_backward(s, dvalues, gradients[3], gradients[4]);
  }
  return gradients;
}

}  // namespace entangle::reference
