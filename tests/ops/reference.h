// Every operation of engine/ops.h once more, in plain loops, for the tests to hold the kernels against. Nothing here is
// fast, factorised or shared with a kernel: the (N, N, D) table of relative positions is built, and gradients are sums
// over Jacobians rather than the short forms in ops.h, so that a slip in a derivation cannot repeat itself.
//
// The functions are templates of the number type. With double they give the value; with Bounded they also give the
// tolerance to which fp32 arithmetic can be held.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/ops.h"
#include "engine/tensor.h"
#include "tests/ops/reference_attention.h"
#include "tests/ops/reference_linear.h"
#include "tests/ops/reference_numbers.h"

namespace entangle::reference {

// ------------------------------------------------------------------------------------------------------ layer_norm ---
template <class T>
struct Normalised {
  Array<T> xhat;  // [R, C]
  Array<T> rstd;  // [R]
};

template <class T>
Normalised<T> normalise(int64_t rows, int64_t width, double eps, const Array<T>& x) {
  Normalised<T> n{Array<T>(x.size()), Array<T>(at(rows))};
  for (int64_t r = 0; r < rows; ++r) {
    T sum = 0, squares = 0;
    for (int64_t c = 0; c < width; ++c) sum += x[at(r * width + c)];
    const T mean = sum / T(double(width));
    for (int64_t c = 0; c < width; ++c) {
      const T d = x[at(r * width + c)] - mean;
      squares += d * d;
    }
    n.rstd[at(r)] = T(1) / sqrt(squares / T(double(width)) + T(eps));
    for (int64_t c = 0; c < width; ++c) n.xhat[at(r * width + c)] = (x[at(r * width + c)] - mean) * n.rstd[at(r)];
  }
  return n;
}

template <class T>
Array<T> layer_norm(int64_t rows, int64_t width, double eps, const Array<T>& x, const Array<T>& w, const Array<T>& b) {
  const Normalised<T> n = normalise(rows, width, eps, x);
  Array<T> y(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) y[at(r * width + c)] = n.xhat[at(r * width + c)] * w[at(c)] + b[at(c)];
  }
  return y;
}

// {dx, dw, db} through the Jacobian  d xhat_k / d x_c = rstd (delta_kc - 1/C - xhat_k xhat_c / C).
template <class T>
Arrays<T> layer_norm_backward(int64_t rows, int64_t width, double eps, const Array<T>& x, const Array<T>& w,
                              const Array<T>& dy) {
  const Normalised<T> n = normalise(rows, width, eps, x);
  Array<T> dx(x.size()), dw(w.size()), db(w.size());
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = r * width;
    for (int64_t k = 0; k < width; ++k) {
      for (int64_t c = 0; c < width; ++c) {
        const T off = T(-1.0 / double(width)) - n.xhat[at(row + k)] * n.xhat[at(row + c)] / T(double(width));
        const T jacobian = n.rstd[at(r)] * (k == c ? T(1) + off : off);
        dx[at(row + c)] += dy[at(row + k)] * w[at(k)] * jacobian;
      }
      dw[at(k)] += dy[at(row + k)] * n.xhat[at(row + k)];
      db[at(k)] += dy[at(row + k)];
    }
  }
  return {dx, dw, db};
}

// -------------------------------------------------------------------------------------------------------- patchify ---
// Where element `index` of y, the patches in row-major order, stands in the images.
inline size_t at_image(const PatchShape& s, int64_t index) {
  const int64_t p = s.patch, side = s.image / p;
  const int64_t column = index % p, row = index / p % p, channel = index / (p * p) % s.channels;
  const int64_t patch = index / (p * p * s.channels) % (side * side), b = index / (p * p * s.channels * side * side);
  const int64_t image_row = patch / side * p + row, image_column = patch % side * p + column;
  return at(((b * s.channels + channel) * s.image + image_row) * s.image + image_column);
}

template <class T>
Array<T> patchify(const PatchShape& s, const Array<T>& images) {
  Array<T> y(images.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = images[at_image(s, static_cast<int64_t>(i))];
  return y;
}

template <class T>
Arrays<T> patchify_backward(const PatchShape& s, const Array<T>& dy) {
  Array<T> dimages(dy.size());
  for (size_t i = 0; i < dy.size(); ++i) dimages[at_image(s, static_cast<int64_t>(i))] += dy[i];
  return {dimages};
}

// ---------------------------------------------------------------------------------------------------------- tokens ---
// in = {patches [B, N-1, C], class_token [C], position [N, C]}, the last one optional
template <class T>
Array<T> tokens(int64_t batch, int64_t count, int64_t width, const Arrays<T>& in) {
  Array<T> y;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t c = 0; c < width; ++c) {
        const T token = t == 0 ? in[1][at(c)] : in[0][at((b * (count - 1) + t - 1) * width + c)];
        y.push_back(in.size() > 2 ? token + in[2][at(t * width + c)] : token);
      }
    }
  }
  return y;
}

template <class T>
Arrays<T> tokens_backward(int64_t batch, int64_t count, int64_t width, const Array<T>& dy) {
  Array<T> dpatches(at(batch * (count - 1) * width)), dclass(at(width)), dposition(at(count * width));
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t c = 0; c < width; ++c) {
        const T g = dy[at((b * count + t) * width + c)];
        (t == 0 ? dclass[at(c)] : dpatches[at((b * (count - 1) + t - 1) * width + c)]) += g;
        dposition[at(t * width + c)] += g;
      }
    }
  }
  return {dpatches, dclass, dposition};
}

// --------------------------------------------------------------------------------------------------- residual_norm ---
// The rows [kept, N, C] of the images with a slot, out of [B, N, C].
template <class T>
Array<T> gather_images(const std::vector<int64_t>& slot, const Array<T>& all) {
  if (slot.empty()) return all;
  const size_t n = all.size() / slot.size();
  Array<T> kept;
  for (size_t b = 0; b < slot.size(); ++b) {
    for (size_t i = 0; i < n && slot[b] >= 0; ++i) kept.push_back(all[b * n + i]);
  }
  return kept;
}

// all += scale kept, each image to its place.
template <class T>
void scatter_images(const std::vector<int64_t>& slot, double scale, const Array<T>& kept, Array<T>& all) {
  const size_t n = slot.empty() ? all.size() : all.size() / slot.size();
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t place = slot.empty() ? 0 : slot[i / n];
    if (place >= 0) all[i] += T(scale) * kept[at(place) * n + i % n];
  }
}

// in = {x [B, N, C], branch [kept by from, N, C], w [C], b [C]} -> {sum, norm}
template <class T>
Arrays<T> residual_norm(int64_t width, double eps, const KeptImages& from, const KeptImages& to, const Arrays<T>& in) {
  Array<T> sum = in[0];
  scatter_images(from.slot, from.scale, in[1], sum);
  const Array<T> kept = gather_images(to.slot, sum);
  return {sum, layer_norm(static_cast<int64_t>(kept.size()) / width, width, eps, kept, in[2], in[3])};
}

// {dx, dbranch, dw, db}
template <class T>
Arrays<T> residual_norm_backward(int64_t width, double eps, const KeptImages& from, const KeptImages& to,
                                 const Arrays<T>& in, const Array<T>& dsum, const Array<T>& dnorm) {
  const Array<T> kept = gather_images(to.slot, residual_norm(width, eps, from, to, in)[0]);
  const Arrays<T> through =
      layer_norm_backward(static_cast<int64_t>(kept.size()) / width, width, eps, kept, in[2], dnorm);
  Array<T> dx = dsum;
  scatter_images(to.slot, 1, through[0], dx);
  Array<T> dbranch = gather_images(from.slot, dx);
  for (T& g : dbranch) g = T(double(from.scale)) * g;
  return {dx, dbranch, through[1], through[2]};
}

// --------------------------------------------------------------------------------------------------------- dropout ---
// The map is linear and symmetric: its backward is the same function of dy.
template <class T>
Array<T> dropout(float rate, RngKey key, int64_t first, const Array<T>& x) {
  Array<T> y;
  for (size_t i = 0; i < x.size(); ++i) {
    y.push_back(rng_uniform(key, static_cast<uint64_t>(first) + i) >= rate ? x[i] / (T(1) - rate) : T(0));
  }
  return y;
}

// ------------------------------------------------------------------------------------------------------------ pool ---
template <class T>
Array<T> pool(const PoolShape& s, const Array<T>& x) {
  Array<T> y(at(s.batch * s.width));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t c = 0; c < s.width; ++c) {
      for (int64_t t = 0; t < s.count; ++t) {
        y[at(b * s.width + c)] += x[at((b * s.tokens + s.first + t) * s.width + c)] / T(double(s.count));
      }
    }
  }
  return y;
}

template <class T>
Arrays<T> pool_backward(const PoolShape& s, const Array<T>& dy) {
  Array<T> dx(at(s.batch * s.tokens * s.width));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      const bool pooled = t >= s.first && t < s.first + s.count;
      for (int64_t c = 0; c < s.width && pooled; ++c) {
        dx[at((b * s.tokens + t) * s.width + c)] = dy[at(b * s.width + c)] / T(double(s.count));
      }
    }
  }
  return {dx};
}

// --------------------------------------------------------------------------------------------------------- softmax ---
template <class T>
Array<T> softmax(int64_t rows, int64_t width, double scale, const Array<T>& x) {
  Array<T> y(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    double largest = -INFINITY;
    for (int64_t c = 0; c < width; ++c) largest = std::max(largest, scale * value_of(x[at(r * width + c)]));
    T sum = 0;
    for (int64_t c = 0; c < width; ++c) {
      y[at(r * width + c)] = exp(T(scale) * x[at(r * width + c)] - largest);
      sum += y[at(r * width + c)];
    }
    for (int64_t c = 0; c < width; ++c) y[at(r * width + c)] = y[at(r * width + c)] / sum;
  }
  return y;
}

// Through the Jacobian  d y_j / d x_c = scale y_j (delta_jc - y_c).
template <class T>
Arrays<T> softmax_backward(int64_t rows, int64_t width, double scale, const Array<T>& x, const Array<T>& dy) {
  const Array<T> y = softmax(rows, width, scale, x);
  Array<T> dx(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = r * width; j < (r + 1) * width; ++j) {
      for (int64_t c = r * width; c < (r + 1) * width; ++c) {
        dx[at(c)] += dy[at(j)] * T(scale) * y[at(j)] * (j == c ? T(1) - y[at(c)] : -y[at(c)]);
      }
    }
  }
  return {dx};
}

// --------------------------------------------------------------------------------------------------- cross_entropy ---
// log sum_k exp(logits[b, k])
template <class T>
T log_sum_exp(int64_t classes, const Array<T>& logits, int64_t b) {
  double largest = -INFINITY;
  for (int64_t k = 0; k < classes; ++k) largest = std::max(largest, value_of(logits[at(b * classes + k)]));
  T sum = 0;
  for (int64_t k = 0; k < classes; ++k) sum += exp(logits[at(b * classes + k)] - largest);
  return log(sum) + T(largest);
}

template <class T>
Array<T> cross_entropy(int64_t batch, int64_t classes, const Array<T>& logits, const Array<T>& target) {
  T loss = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const T normaliser = log_sum_exp(classes, logits, b);
    for (int64_t k = 0; k < classes; ++k) {
      loss += target[at(b * classes + k)] * (normaliser - logits[at(b * classes + k)]) / T(double(batch));
    }
  }
  return {loss};
}

// Through the Jacobian  d log p_j / d logit_k = delta_jk - p_k.
template <class T>
Arrays<T> cross_entropy_backward(int64_t batch, int64_t classes, const Array<T>& logits, const Array<T>& target,
                                 const Array<T>& dloss) {
  Array<T> dlogits(logits.size());
  for (int64_t b = 0; b < batch; ++b) {
    const double normaliser = value_of(log_sum_exp(classes, logits, b));
    for (int64_t k = 0; k < classes; ++k) {
      const T p = exp(logits[at(b * classes + k)] - normaliser);
      for (int64_t j = 0; j < classes; ++j) {
        const T jacobian = j == k ? T(1) - p : -p;
        dlogits[at(b * classes + k)] += -(dloss[0] / T(double(batch))) * target[at(b * classes + j)] * jacobian;
      }
    }
  }
  return {dlogits};
}

// ------------------------------------------------------------------------------------------------------- optimiser ---
template <class T>
T sum_squares(const Array<T>& g) {
  T sum = 0;
  for (const T& e : g) sum += e * e;
  return sum;
}

// One step on w, m and v in place; returns the new g.
template <class T>
Array<T> adamw(const AdamWStep& s, double squares, Array<T>& w, const Array<T>& g, Array<T>& m, Array<T>& v) {
  const double norm = std::sqrt(squares), clip = s.clip_norm > 0 && norm > s.clip_norm ? s.clip_norm / norm : 1;
  for (size_t i = 0; i < w.size() && std::isfinite(squares); ++i) {
    const T clipped = T(clip) * g[i];
    m[i] = T(s.beta1) * m[i] + (T(1) - s.beta1) * clipped;
    v[i] = T(s.beta2) * v[i] + (T(1) - s.beta2) * clipped * clipped;
    const T decayed = w[i] * (T(1) - T(s.lr) * T(s.decay));
    w[i] = decayed - T(s.lr) * (m[i] / T(s.correction1)) / (sqrt(v[i] / T(s.correction2)) + T(s.eps));
  }
  return Array<T>(g.size());
}

}  // namespace entangle::reference
