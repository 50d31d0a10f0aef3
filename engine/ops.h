// The registry of operations: what each computes, its Tensor function, its kernels.
//
// For an operation `gelu`: this paragraph; engine/ops/gelu.cpp (shape checks, the gradient under its forward);
// engine/cpu/gelu.cpp and cuda/gelu.cu (kernels); a double loop in tests/reference.h; a row in tests/ops_test.cpp.
//
// Dimensions: B batch, N tokens (class token first), C width, H heads, D head width, K classes, R rows (the product of
// all leading dimensions), n elements.
//
// Conventions. Activations are contiguous fp32. Weights are views with inner stride 1. `dx` is the gradient of `x`.
// Gradients of parameters are always added to what is there; a gradient of an activation is added when `add` is true
// and stored otherwise. Null pointers are allowed only where said. Kernels give the same bits for any thread count.
//
// This header is read by files compiled per instruction set: declarations only, C headers only.
#pragma once

#include <stdint.h>

#include "engine/kernel.h"
#include "engine/rng.h"

namespace entangle {

class Tensor;

// ---------------------------------------------------------------------------------------------------------- linear ---
// y[r, g*O + o] = sum_i x[r, i] w[g, o, i] + b[g, o]
// x [..., I]; w [O, I] or [G, O, I], rows at any stride; b [O] or [G, O], groups at any stride, or undefined.
// y [..., G*O]. Three groups are the query, key and value rows of an attention layer.
//   dx[r, i]    = sum_go dy[r, g*O+o] w[g, o, i]
//   dw[g, o, i] = sum_r dy[r, g*O+o] x[r, i],   db[g, o] = sum_r dy[r, g*O+o]
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b);

struct LinearShape {
  int64_t rows, in, out, groups;    // R, I, O, G
  int64_t w_row, w_group, b_group;  // strides of w and b in elements
};
KERNEL(linear_forward,
       (const LinearShape& s, const float* x, const float* w, const float* b, float* y));  // b may be null
KERNEL(linear_backward_input, (const LinearShape& s, const float* dy, const float* w, float* dx, bool add));
KERNEL(linear_backward_weight,
       (const LinearShape& s, const float* x, const float* dy, float* dw, float* db));  // db may be null

// ------------------------------------------------------------------------------------------------------ layer_norm ---
// y[r, c] = (x[r, c] - mean[r]) rstd[r] w[c] + b[c],  mean and (biased) variance over c,  rstd = 1/sqrt(variance + eps)
// x [..., C]; w, b [C]; mean and rstd [R] are kept for the backward pass.
//   with xhat = (x - mean) rstd and h = dy w:  dx = rstd (h - avg_c(h) - xhat avg_c(h xhat))
//   dw[c] = sum_r dy xhat,  db[c] = sum_r dy
Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps);

KERNEL(layer_norm_forward, (int64_t rows, int64_t width, float eps, const float* x, const float* w, const float* b,
                            float* y, float* mean, float* rstd));
KERNEL(layer_norm_backward, (int64_t rows, int64_t width, const float* x, const float* w, const float* mean,
                             const float* rstd, const float* dy, float* dx, bool add, float* dw, float* db));

// ------------------------------------------------------------------------------------------------------------ gelu ---
// y = x Phi(x),  Phi(x) = (1 + erf(x / sqrt 2)) / 2: the exact form.
//   dx = dy (Phi(x) + x phi(x)),  phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
Tensor gelu(const Tensor& x);

KERNEL(gelu_forward, (int64_t n, const float* x, float* y));
KERNEL(gelu_backward, (int64_t n, const float* x, const float* dy, float* dx, bool add));

// ------------------------------------------------------------------------------------------------------- attention ---
// Softmax attention of H heads with two-dimensional relative position for keys and for values, in factorised form.
// Tokens: 0 is the class token, 1 + row*side + col a patch of the side x side grid; N = 1 + side^2.
// Buckets of a pair (i, j) of patches, with m = max_relative_position:
//   v(i, j) = clamp(row_j - row_i, -m, m) + m + 1,   h(i, j) likewise on columns;
//   0 for any pair with the class token.
//   s_ij = scale (q_i . k_j + q_i . key_v[v(i,j)] + q_i . key_h[h(i,j)]),   p = softmax_j(s)
//   y_i  = sum_j p~_ij (v_j + value_v[v(i,j)] + value_h[h(i,j)]),   p~ = p, or with dropout p masked and rescaled
// The (N, N, D) table is never built: q_i . table is an [N, 2m+2] product that is looked up, and the value term is
// bucket sums of p~ times the table.
// qkv [B, N, 3*H*D], rows [Q | K | V], each [H, D]; tables [2m+2, D]; y [B, N, H*D].
// m = 0 means no relative position: the tables are then undefined (null).
// p [B, H, N, N] is kept for the backward pass, its rows padded with zeros to attention_row(N) values.
// With dp~_ij = dy_i . (v_j + value terms), D_i = sum_j p~_ij dp~_ij:
//   g_ij = scale p_ij (mask_ij dp~_ij - D_i)
//   dq_i = sum_j g_ij (k_j + key terms),  dk_j = sum_i g_ij q_i,  dv_j = sum_i p~_ij dy_i
//   d key_v[b] = sum_{v(i,j)=b} g_ij q_i,  d value_v[b] = sum_{v(i,j)=b} p~_ij dy_i,  likewise h; summed over B and H.
struct AttentionShape {
  int64_t batch, tokens, heads, head_dim, side, max_relative_position;
  float scale;
  float dropout;  // probability that an entry of p is dropped; its random index is ((b*H + h)*N + i)*N + j
  RngKey key;
};
static inline ENTANGLE_HOST_DEVICE int64_t attention_row(int64_t tokens) { return (tokens + 15) / 16 * 16; }
struct AttentionTables;  // four tensors: key_v, key_h, value_v, value_h; engine/tensor.h
Tensor attention(const Tensor& qkv, const AttentionTables& tables, const AttentionShape& shape);

KERNEL(attention_forward, (const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                           const float* value_v, const float* value_h, float* y, float* p));  // p may be null: not kept
KERNEL(attention_backward, (const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                            const float* value_v, const float* value_h, const float* p, const float* dy, float* dqkv,
                            bool add, float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h));

// --------------------------------------------------------------------------------------------------------- patchify ---
// Cuts images [B, channels, S, S] into (S/P)^2 patches in row-major order: y [B, (S/P)^2, channels*P*P], a patch
// laid out channel, row, column like the weight of a convolution. Then a patch projection is a linear layer.
//   dimages: the inverse permutation.
Tensor patchify(const Tensor& images, int64_t patch);

struct PatchShape {
  int64_t batch, channels, image, patch;
};
KERNEL(patchify_forward, (const PatchShape& s, const float* images, float* y));
KERNEL(patchify_backward, (const PatchShape& s, const float* dy, float* dimages, bool add));

// ----------------------------------------------------------------------------------------------------------- tokens ---
// y[b, 0] = class_token + position[0];  y[b, 1 + i] = patches[b, i] + position[1 + i]
// patches [B, N-1, C]; class_token [C]; position [N, C], rows at any stride, or undefined (null) for none. y [B, N, C].
//   dpatches = dy of the patch tokens;  dclass = sum_b dy[b, 0];  dposition = sum_b dy[b]
Tensor tokens(const Tensor& patches, const Tensor& class_token, const Tensor& position);

struct TokensShape {
  int64_t batch, tokens, width, position_row;  // position_row: stride between rows of position
};
KERNEL(tokens_forward,
       (const TokensShape& s, const float* patches, const float* class_token, const float* position, float* y));
KERNEL(tokens_backward,
       (const TokensShape& s, const float* dy, float* dpatches, bool add, float* dclass, float* dposition));

// --------------------------------------------------------------------------------------------------------- residual ---
// y[b] = x[b] + factor[b] branch[b]: a residual connection with drop-path. factor [B] is 0 for a dropped image and
// 1/keep for a kept one, or undefined (null) for 1. x and branch [B, ...].
//   dx = dy (taken over, not copied),  dbranch[b] = factor[b] dy[b]
Tensor residual(const Tensor& x, const Tensor& branch, const Tensor& factor);

KERNEL(residual_forward,
       (int64_t batch, int64_t n, const float* x, const float* branch, const float* factor, float* y));
KERNEL(residual_backward, (int64_t batch, int64_t n, const float* factor, const float* dy, float* dbranch, bool add));

// ---------------------------------------------------------------------------------------------------------- dropout ---
// y[i] = x[i] / (1 - rate) where rng_uniform(key, i) >= rate, else 0.   dx = dy under the same mask, drawn again.
Tensor dropout(const Tensor& x, float rate, RngKey key);

KERNEL(dropout_forward, (int64_t n, float rate, RngKey key, const float* x, float* y));
KERNEL(dropout_backward, (int64_t n, float rate, RngKey key, const float* dy, float* dx, bool add));

// ------------------------------------------------------------------------------------------------------------- pool ---
// y[b] = mean of x[b, first .. first+count): x [B, N, C] -> y [B, C]. (0, 1) takes the class token, (1, N-1)
// averages the patch tokens.   dx[b, t] = dy[b] / count for those tokens, 0 for the others.
Tensor pool(const Tensor& x, int64_t first, int64_t count);

struct PoolShape {
  int64_t batch, tokens, width, first, count;
};
KERNEL(pool_forward, (const PoolShape& s, const float* x, float* y));
KERNEL(pool_backward, (const PoolShape& s, const float* dy, float* dx, bool add));

// ---------------------------------------------------------------------------------------------------- cross_entropy ---
// loss[0] = -1/B sum_b sum_k target[b, k] log softmax(logits[b])[k]: soft targets [B, K], which carry label
// smoothing and mixup. The probabilities [B, K] are kept.
//   dlogits[b, k] = dloss/B (p[b, k] sum_k' target[b, k'] - target[b, k])
Tensor cross_entropy(const Tensor& logits, const Tensor& target);

KERNEL(cross_entropy_forward,
       (int64_t batch, int64_t classes, const float* logits, const float* target, float* loss, float* p));
KERNEL(cross_entropy_backward, (int64_t batch, int64_t classes, const float* target, const float* p, const float* dloss,
                                float* dlogits, bool add));

// -------------------------------------------------------------------------------------------------------- optimiser ---
// Not operations on a tape: one sweep over the parameter arena (engine/optimizer.h).
// sum_squares: out[0] = sum g^2, accumulated in double in fixed chunks.
// adamw:  g' = clip g;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2;
//         w = w (1 - lr decay);  w = w - lr (m/c1) / (sqrt(v/c2) + eps);  g = 0 for the next step.
struct AdamWStep {
  float lr, beta1, beta2, eps, decay;
  float correction1, correction2;  // c1 = 1 - beta1^t, c2 = 1 - beta2^t
  float clip;                      // factor on every gradient
};
KERNEL(sum_squares, (int64_t n, const float* g, double* out));
KERNEL(adamw, (int64_t n, const AdamWStep& s, float* w, float* g, float* m, float* v));

}  // namespace entangle
