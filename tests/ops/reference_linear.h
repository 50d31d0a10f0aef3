// Linear layers and what stands between them once more; see tests/ops/reference.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "engine/ops.h"
#include "tests/ops/reference_numbers.h"

namespace entangle::reference {

// ---------------------------------------------------------------------------------------------------------- linear ---
struct LinearSize {
  int64_t rows, in, out, groups;
  Precision precision = Precision::fp32;
};

// A factor of a product, in the precision of the layer.
template <class T>
T factor(const LinearSize& s, const T& x) {
  return s.precision == Precision::bf16 ? to_bf16(x) : x;
}

// in = {x [R, I], w [G, O, I], b [G, O]}, the last one optional -> [R, G, O]
template <class T>
Array<T> linear(const LinearSize& s, const Arrays<T>& in) {
  Array<T> y(at(s.rows * s.groups * s.out));
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t go = 0; go < s.groups * s.out; ++go) {
      T sum = in.size() > 2 ? in[2][at(go)] : T(0);
      for (int64_t i = 0; i < s.in; ++i) {
        sum += factor(s, in[0][at(r * s.in + i)]) * factor(s, in[1][at(go * s.in + i)]);
      }
      y[at(r * s.groups * s.out + go)] = sum;
    }
  }
  return y;
}

// {dx, dw, db}
template <class T>
Arrays<T> linear_backward(const LinearSize& s, const Arrays<T>& in, const Array<T>& dy) {
  const int64_t outputs = s.groups * s.out;
  Array<T> dx(in[0].size()), dw(in[1].size()), db(at(outputs));
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t go = 0; go < outputs; ++go) {
      const T g = factor(s, dy[at(r * outputs + go)]);
      for (int64_t i = 0; i < s.in; ++i) {
        dx[at(r * s.in + i)] += g * factor(s, in[1][at(go * s.in + i)]);
        dw[at(go * s.in + i)] += g * factor(s, in[0][at(r * s.in + i)]);
      }
      db[at(go)] += dy[at(r * outputs + go)];
    }
  }
  return {dx, dw, db};
}

// ------------------------------------------------------------------------------------------------------------ gelu ---
// (1 + erf(x / sqrt 2)) / 2, written so that the left tail keeps its digits.
template <class T>
T normal_cdf(const T& x) {
  return erfc(-x / T(std::sqrt(2.0))) / T(2);
}

template <class T>
Array<T> gelu(const Array<T>& x) {
  Array<T> y;
  for (const T& e : x) y.push_back(e * normal_cdf(e));
  return y;
}

template <class T>
Arrays<T> gelu_backward(const Array<T>& x, const Array<T>& dy) {
  Array<T> dx;
  for (size_t i = 0; i < x.size(); ++i) {
    const T density = exp(-x[i] * x[i] / T(2)) / T(std::sqrt(2 * M_PI));
    dx.push_back(dy[i] * (normal_cdf(x[i]) + x[i] * density));
  }
  return {dx};
}

// ------------------------------------------------------------------------------------------------------------- mlp ---
// in = {x [R, I], w1 [F, I], b1 [F], w2 [O, F], b2 [O]}. In bf16 a kernel may round x w1^T and da.
template <class T>
Array<T> maybe_rounded(const LinearSize& s, Array<T> values) {
  for (T& value : values) value = s.precision == Precision::bf16 ? maybe_bf16(value) : value;
  return values;
}
template <class T>
Array<T> mlp_hidden(const LinearSize& first, const Arrays<T>& in) {
  Array<T> h = maybe_rounded(first, linear(first, Arrays<T>{in[0], in[1]}));
  for (size_t i = 0; i < h.size(); ++i) h[i] = h[i] + in[2][i % in[2].size()];
  return h;
}
template <class T>
Array<T> mlp(const LinearSize& first, const LinearSize& second, const Arrays<T>& in) {
  return linear(second, Arrays<T>{gelu(mlp_hidden(first, in)), in[3], in[4]});
}

// {dx, dw1, db1, dw2, db2}
template <class T>
Arrays<T> mlp_backward(const LinearSize& first, const LinearSize& second, const Arrays<T>& in, const Array<T>& dy) {
  const Array<T> h = mlp_hidden(first, in);
  const Arrays<T> outer = linear_backward(second, Arrays<T>{gelu(h), in[3]}, dy);
  const Array<T> dh = gelu_backward(h, maybe_rounded(first, outer[0]))[0];
  const Arrays<T> inner = linear_backward(first, Arrays<T>{in[0], in[1]}, dh);
  return {inner[0], inner[1], inner[2], outer[1], outer[2]};
}

}  // namespace entangle::reference
