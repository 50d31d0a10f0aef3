// Values of an ONNX graph as tools/common/onnx_evaluate.cpp computes them: in double, row-major.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "engine/check.h"

namespace entangle {

using Sizes = std::vector<int64_t>;

inline int64_t count_of(const Sizes& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

inline Sizes strides_of(const Sizes& shape) {
  Sizes strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  return strides;
}

struct Value {
  Sizes shape;
  std::vector<double> data;
  Sizes integers;  // of a constant that is a list of indices or sizes
};

inline Value zeros(const Sizes& shape) {
  return {shape, std::vector<double>(static_cast<size_t>(count_of(shape))), {}};
}

// f(place in row-major order, sum of index * stride) for every index of a shape.
template <class F>
void walk(const Sizes& shape, const Sizes& strides, const F& f) {
  Sizes index(shape.size(), 0);
  int64_t offset = 0;
  for (int64_t i = 0, count = count_of(shape); i < count; ++i) {
    f(static_cast<size_t>(i), static_cast<size_t>(offset));
    for (size_t d = shape.size(); d-- > 0;) {
      offset += strides[d];
      if (++index[d] < shape[d]) break;
      offset -= shape[d] * strides[d];
      index[d] = 0;
    }
  }
}

// Values picked with strides of the caller's: transposed, cut out or repeated.
inline Value picked(const Value& x, const Sizes& shape, const Sizes& strides, int64_t first = 0) {
  Value y = zeros(shape);
  walk(shape, strides, [&](size_t i, size_t at) { y.data[i] = x.data[static_cast<size_t>(first) + at]; });
  return y;
}

// Shapes are aligned at their ends; a size of 1, or a missing one, is repeated.
inline Sizes broadcast_shape(const Sizes& a, const Sizes& b) {
  Sizes out(std::max(a.size(), b.size()), 1);
  for (size_t i = 1; i <= out.size(); ++i) {
    const int64_t x = i <= a.size() ? a[a.size() - i] : 1, y = i <= b.size() ? b[b.size() - i] : 1;
    CHECK(x == y || x == 1 || y == 1, "sizes ", x, " and ", y, " do not broadcast");
    out[out.size() - i] = x == 1 ? y : x;
  }
  return out;
}

inline Value broadcast(const Value& x, const Sizes& shape) {
  const Sizes own = strides_of(x.shape);
  Sizes strides(shape.size(), 0);
  for (size_t i = 1; i <= x.shape.size(); ++i) {
    if (x.shape[x.shape.size() - i] != 1) strides[shape.size() - i] = own[own.size() - i];
  }
  return picked(x, shape, strides);
}

}  // namespace entangle
