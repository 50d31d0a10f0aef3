// The registry of operations: what each computes, its Tensor function, its kernels.
//
// For an operation `gelu`: this paragraph; engine/ops/gelu.cpp (shape checks, the gradient under its forward);
// engine/cpu/gelu.cpp and cuda/gelu.cu (kernels); a double loop in tests/ops/reference.h; a row in tests/ops/*_rows.cpp.
//
// Dimensions: B batch, N tokens (class token first), C width, H heads, D head width, K classes, R rows (the product of
// all leading dimensions), n elements.
//
// Conventions. Activations are contiguous fp32. Weights are views with inner stride 1. `dx` is the gradient of `x`.
// Gradients of parameters are always added to what is there; a gradient of an activation is added when `add` is true
// and stored otherwise. Null pointers are allowed only where said. Kernels give the same bits for any thread count.
//
// COST(flops, bytes) says what a call costs (KernelCost in engine/kernel.h); a bool counts as 0 or 1. Behind it stands what
// the kernel computes in one line, for tables of kernels.
//
// This header is read by files compiled per instruction set: declarations only, C headers only.
#pragma once

#include <stdint.h>

#include "engine/image_plan.h"
#include "engine/kernel.h"
#include "engine/rng.h"

namespace entangle {

// Of engine/tensor.h.
class Tensor;
struct AttentionTables;
struct KeptImages;
struct ResidualNorm;

// Of the operands of matrix products; everything else is fp32.
enum class Precision { fp32, bf16 };

// ---------------------------------------------------------------------------------------------------------- linear ---
// y[r, g*O + o] = sum_i x[r, i] w[g, o, i] + b[g, o]
// x [..., I]; w [O, I] or [G, O, I], rows at any stride; b [O] or [G, O], groups at any stride, or undefined.
// y [..., G*O]. Three groups are the query, key and value rows of an attention layer.
// Precision::bf16 rounds x, w and dy to bf16 (nearest, ties to even) where they enter a product; sums stay fp32.
//   dx[r, i]    = sum_go dy[r, g*O+o] w[g, o, i]
//   dw[g, o, i] = sum_r dy[r, g*O+o] x[r, i],   db[g, o] = sum_r dy[r, g*O+o]
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b, Precision precision = Precision::fp32);

// Sizes and strides of a linear layer.
struct LinearShape {
  int64_t rows, in, out, groups;    // R, I, O, G
  int64_t w_row, w_group, b_group;  // strides of w and b in elements
  Precision precision = Precision::fp32;
};
// The biases b and db may be null.
KERNEL(linear_forward, (const LinearShape& s, const float* x, const float* w, const float* b, float* y),
       COST(2 * s.rows * s.in * s.groups * s.out,
            4 * (s.rows * s.in + s.groups * s.out * (s.in + (b != nullptr) + s.rows))),
       "y[r, g*O+o] = sum_i x[r, i] w[g, o, i] + b[g, o]");
// dx may be null, and dw together with db.
KERNEL(linear_backward,
       (const LinearShape& s, const float* x, const float* w, const float* dy, float* dx, bool add, float* dw,
        float* db),
       COST(2 * s.rows * s.in * s.groups * s.out * ((dx != nullptr) + (dw != nullptr)),
            4 * (s.rows * s.groups * s.out + (dx != nullptr) * (s.groups * s.out + (1 + add) * s.rows) * s.in +
                 (dw != nullptr) * (s.rows + 2 * s.groups * s.out) * s.in + 2 * (db != nullptr) * s.groups * s.out)),
       "dx[r, i] = sum_go dy[r, g*O+o] w[g, o, i],  dw[g, o, i] += sum_r dy[r, g*O+o] x[r, i],  db[g, o] += sum_r "
       "dy[r, g*O+o]");

// ------------------------------------------------------------------------------------------------------ layer_norm ---
// y[r, c] = (x[r, c] - mean[r]) rstd[r] w[c] + b[c],  mean and (biased) variance over c,  rstd = 1/sqrt(variance + eps)
// x [..., C]; w, b [C]; mean and rstd [R] are kept for the backward pass.
//   with xhat = (x - mean) rstd and h = dy w:  dx = rstd (h - avg_c(h) - xhat avg_c(h xhat))
//   dw[c] = sum_r dy xhat,  db[c] = sum_r dy
Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps);

KERNEL(layer_norm_forward,
       (int64_t rows, int64_t width, float eps, const float* x, const float* w, const float* b, float* y, float* mean,
        float* rstd),
       COST(0, 4 * (2 * rows * (width + 1) + 2 * width)), "y[r, c] = (x[r, c] - mean[r]) rstd[r] w[c] + b[c]");
KERNEL(layer_norm_backward,
       (int64_t rows, int64_t width, const float* x, const float* w, const float* mean, const float* rstd,
        const float* dy, float* dx, bool add, float* dw, float* db),
       COST(0, 4 * (rows * ((3 + add) * width + 2) + 5 * width)),
       "dx = rstd (h - avg(h) - xhat avg(h xhat)), h = dy w,  dw += sum_r dy xhat,  db += sum_r dy");

// ------------------------------------------------------------------------------------------------------------ gelu ---
// y = x Phi(x),  Phi(x) = (1 + erf(x / sqrt 2)) / 2: the exact form.
//   dx = dy (Phi(x) + x phi(x)),  phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
Tensor gelu(const Tensor& x);

KERNEL(gelu_forward, (int64_t n, const float* x, float* y), COST(0, 4 * 2 * n), "y = x Phi(x)");
KERNEL(gelu_backward, (int64_t n, const float* x, const float* dy, float* dx, bool add), COST(0, 4 * (3 + add) * n),
       "dx = dy (Phi(x) + x phi(x))");

// ------------------------------------------------------------------------------------------------------------- mlp ---
// y = gelu(x w1^T + b1) w2^T + b2: linear, gelu and linear in one, which keep the hidden activations in the cache.
// x [..., I]; w1 [F, I], b1 [F], w2 [O, F], b2 [O] as in linear; y [..., O]. Of the hidden layer only h = x w1^T + b1,
// [R, F], is kept for the backward pass, or with `recompute` nothing. With a = gelu(h):
//   dh = (dy w2) gelu'(h),   dx = dh w1,   dw2 = dy^T a,   dw1 = dh^T x,   db2 and db1 the column sums of dy and dh
// Precision::bf16 as in linear; a kernel may also round x w1^T and dy w2, before anything is done with them.
Tensor mlp(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
           Precision precision = Precision::fp32, bool recompute = false);

// h may be null: not kept. What mlp_forward leaves in it is for mlp_backward alone.
KERNEL(mlp_forward,
       (const LinearShape& first, const LinearShape& second, const float* x, const float* w1, const float* b1,
        const float* w2, const float* b2, float* h, float* y),
       COST(2 * first.rows * first.out * (first.in + second.out),
            4 * (first.rows * (first.in + (h != nullptr) * first.out + second.out) +
                 first.out * (first.in + second.out + 1) + second.out)),
       "h = x w1^T + b1,  y = gelu(h) w2^T + b2");
// h may be overwritten; `recompute` fills it first. a [R, F] is room; dx may be null.
KERNEL(mlp_backward,
       (const LinearShape& first, const LinearShape& second, bool recompute, const float* x, const float* w1,
        const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx, bool add, float* dw1,
        float* db1, float* dw2, float* db2),
       COST(2 * first.rows * first.out * ((1 + (dx != nullptr) + recompute) * first.in + 2 * second.out),
            4 * (first.rows *
                     ((1 + (dx != nullptr) * (1 + add)) * first.in + (3 - recompute) * first.out + second.out) +
                 3 * first.out * (first.in + second.out) + 2 * (first.out + second.out) + recompute * first.out)),
       "dh = (dy w2) gelu'(h),  dx = dh w1,  dw1 += dh^T x,  dw2 += dy^T gelu(h),  db1, db2 += column sums");

// --------------------------------------------------------------------------------------------------------- softmax ---
// y[r, c] = exp(scale x[r, c]) / sum_j exp(scale x[r, j]): over the last dimension. x, y [..., C]; y is kept.
//   dx[r, c] = scale y[r, c] (dy[r, c] - sum_j y[r, j] dy[r, j])
Tensor softmax(const Tensor& x, float scale = 1);

KERNEL(softmax_forward, (int64_t rows, int64_t width, float scale, const float* x, float* y),
       COST(0, 4 * 2 * rows * width), "y[r, c] = exp(scale x[r, c]) / sum_j exp(scale x[r, j])");
KERNEL(softmax_backward,
       (int64_t rows, int64_t width, float scale, const float* y, const float* dy, float* dx, bool add),
       COST(0, 4 * (3 + add) * rows * width), "dx[r, c] = scale y[r, c] (dy[r, c] - sum_j y[r, j] dy[r, j])");

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
// p [B, H, N, N] is kept for the backward pass, its rows padded with zeros to attention_row(N) values; with `recompute`
// it is not, and the backward pass computes it again.
// With dp~_ij = dy_i . (v_j + value terms), D_i = sum_j p~_ij dp~_ij:
//   g_ij = scale p_ij (mask_ij dp~_ij - D_i)
//   dq_i = sum_j g_ij (k_j + key terms),  dk_j = sum_i g_ij q_i,  dv_j = sum_i p~_ij dy_i
//   d key_v[b] = sum_{v(i,j)=b} g_ij q_i,  d value_v[b] = sum_{v(i,j)=b} p~_ij dy_i,  likewise h; summed over B and H.
// Precision::bf16: a kernel may round the operands of its products to bf16, which are q, k, v, the tables, dy, p~, g, the
// terms q_i . table and dy_i . table that are looked up, and the bucket sums of p~ and g. Scores, the softmax and all sums
// stay fp32. The GPU's kernels keep no p there; the CPU's keep it, and look the terms up as they are.
struct AttentionShape {
  int64_t batch, tokens, heads, head_dim, side, max_relative_position;
  float scale;
  float dropout;  // probability that an entry of p is dropped
  RngKey key;
  Precision precision = Precision::fp32;
  int64_t first_image = 0;  // how many images of a whole come before these: the mask of a part is that part of its mask
};
// The random index of entry (i, 0) of p, for pair = b*H + h; those of (i, j) follow.
static inline ENTANGLE_HOST_DEVICE uint64_t attention_mask_index(const AttentionShape& s, int64_t pair, int64_t i) {
  return static_cast<uint64_t>(((s.first_image * s.heads + pair) * s.tokens + i) * s.tokens);
}
static inline ENTANGLE_HOST_DEVICE int64_t attention_row(int64_t tokens) { return (tokens + 15) / 16 * 16; }
// Multiply-accumulates of a forward pass: two products of [N, N, D] and, factorised, four of [N, 2m+2, D]. The backward
// pass has twice as many of both.
static inline int64_t attention_table_rows(const AttentionShape& s) {
  return s.max_relative_position > 0 ? 2 * s.max_relative_position + 2 : 0;
}
static inline int64_t attention_values(const AttentionShape& s) { return s.batch * s.tokens * s.heads * s.head_dim; }
static inline int64_t attention_macs(const AttentionShape& s) {
  return attention_values(s) * (2 * s.tokens + 4 * attention_table_rows(s));
}
static inline int64_t attention_scores(const AttentionShape& s) {
  return s.batch * s.heads * s.tokens * attention_row(s.tokens);
}
// The y of what stands above AttentionShape.
Tensor attention(const Tensor& qkv, const AttentionTables& tables, const AttentionShape& shape, bool recompute = false);

// p may be null: not kept
KERNEL(attention_forward,
       (const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h, const float* value_v,
        const float* value_h, float* y, float* p),
       COST(2 * attention_macs(s), 4 * (4 * attention_values(s) + (p != nullptr) * attention_scores(s) +
                                        4 * attention_table_rows(s) * s.head_dim)),
       "p = softmax_j(scale q_i (k_j + key_v[v(i,j)] + key_h[h(i,j)])),  y_i = sum_j p_ij (v_j + value_v[v(i,j)] + "
       "value_h[h(i,j)])");
KERNEL(attention_backward,
       (const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h, const float* value_v,
        const float* value_h, const float* p, const float* dy, float* dqkv, bool add, float* dkey_v, float* dkey_h,
        float* dvalue_v, float* dvalue_h),
       COST((4 + (p == nullptr)) * attention_macs(s),
            4 * ((4 + 3 * (1 + add)) * attention_values(s) + (p != nullptr) * attention_scores(s) +
                 12 * attention_table_rows(s) * s.head_dim)),
       "g_ij = scale p_ij (dp_ij - D_i),  dq_i = sum_j g_ij (k_j + key terms),  dk_j = sum_i g_ij q_i,  dv_j = sum_i "
       "p_ij dy_i,  tables likewise");

// --------------------------------------------------------------------------------------------------------- patchify ---
// Cuts images [B, channels, S, S] into (S/P)^2 patches in row-major order: y [B, (S/P)^2, channels*P*P], a patch
// laid out channel, row, column like the weight of a convolution. Then a patch projection is a linear layer.
//   dimages: the inverse permutation.
Tensor patchify(const Tensor& images, int64_t patch);

// Sizes of images that are cut into patches.
struct PatchShape {
  int64_t batch, channels, image, patch;
};
KERNEL(patchify_forward, (const PatchShape& s, const float* images, float* y),
       COST(0, 4 * 2 * s.batch * s.channels * s.image * s.image),
       "y[b, patch, (c, i, j)] = images[b, c, row P + i, col P + j]");
KERNEL(patchify_backward, (const PatchShape& s, const float* dy, float* dimages, bool add),
       COST(0, 4 * (2 + add) * s.batch * s.channels * s.image * s.image),
       "dimages[b, c, row P + i, col P + j] = dy[b, patch, (c, i, j)]");

// ----------------------------------------------------------------------------------------------------------- tokens ---
// y[b, 0] = class_token + position[0];  y[b, 1 + i] = patches[b, i] + position[1 + i]
// patches [B, N-1, C]; class_token [C]; position [N, C], rows at any stride, or undefined (null) for none. y [B, N, C].
//   dpatches = dy of the patch tokens;  dclass = sum_b dy[b, 0];  dposition = sum_b dy[b]
Tensor tokens(const Tensor& patches, const Tensor& class_token, const Tensor& position);

// Sizes of the sequence of tokens.
struct TokensShape {
  int64_t batch, tokens, width, position_row;  // position_row: stride between rows of position
};
KERNEL(tokens_forward,
       (const TokensShape& s, const float* patches, const float* class_token, const float* position, float* y),
       COST(0, 4 * s.width * (s.batch * (2 * s.tokens - 1) + 1 + (position != nullptr) * s.tokens)),
       "y[b, 0] = class_token + position[0],  y[b, 1+i] = patches[b, i] + position[1+i]");
KERNEL(tokens_backward,
       (const TokensShape& s, const float* dy, float* dpatches, bool add, float* dclass, float* dposition),
       COST(0, 4 * s.width *
                   (s.batch * (s.tokens + (1 + add) * (s.tokens - 1)) + 2 + 2 * (dposition != nullptr) * s.tokens)),
       "dpatches[b, i] = dy[b, 1+i],  dclass += sum_b dy[b, 0],  dposition += sum_b dy[b]");

// --------------------------------------------------------------------------------------------------- residual_norm ---
// A residual connection with drop-path, and the layer norm that the next branch begins with, in one sweep:
//   sum[b]  = x[b] + scale branch[from[b]],  or x[b] when image b was dropped from the branch,
//   norm[to[b]] = layer_norm(sum[b]) for the images b that the next branch keeps.
// x [B, N, C]. A branch computes only the images that it keeps, side by side: branch and norm are [kept, N, C]. from[b]
// and to[b] are the place of image b among the kept, or -1 (KeptImages in engine/tensor.h); null arrays keep all.
// mean and rstd [rows of norm] are kept. The gradient of sum gathers what later operations and the norm ask for:
//   dsum[b] += layer_norm's dx for dnorm[to[b]],   dx = dsum (taken over, not copied),   dbranch[from[b]] = scale dsum[b]
ResidualNorm residual_norm(const Tensor& x, const Tensor& branch, const KeptImages& from, const Tensor& w,
                           const Tensor& b, float eps, const KeptImages& to);

// Sizes of a residual connection and the norm behind it.
struct ResidualNormShape {
  int64_t batch, tokens, width;
  int64_t added, normed;  // images of branch and of norm
  float eps, scale;
};
KERNEL(residual_norm_forward,
       (const ResidualNormShape& s, const int64_t* from, const int64_t* to, const float* x, const float* branch,
        const float* w, const float* b, float* sum, float* norm, float* mean, float* rstd),
       COST(0, 4 * (s.tokens * (s.width * (2 * s.batch + s.added) + s.normed * (s.width + 2)) + 2 * s.width)),
       "sum[b] = x[b] + scale branch[from[b]],  norm[to[b]] = layer_norm(sum[b])");
// dnorm may be null (the norm was not used), dbranch too.
KERNEL(residual_norm_backward,
       (const ResidualNormShape& s, const int64_t* from, const int64_t* to, const float* sum, const float* w,
        const float* mean, const float* rstd, const float* dnorm, float* dsum, bool add, float* dbranch,
        bool add_branch, float* dw, float* db),
       COST(0, 4 * (s.tokens * (s.width * (1 + add) * s.batch + (dnorm != nullptr) * s.normed * (2 * s.width + 2) +
                                (dbranch != nullptr) * (1 + add_branch) * s.added * s.width) +
                    (dnorm != nullptr) * 5 * s.width)),
       "dsum[b] += layer_norm's dx for dnorm[to[b]],  dbranch[from[b]] = scale dsum[b],  dw, db as in layer_norm");

// ---------------------------------------------------------------------------------------------------------- dropout ---
// y[i] = x[i] / (1 - rate) where rng_uniform(key, first + i) >= rate, else 0.   dx = dy under the same mask, drawn again.
// `first`: how many elements of a whole come before these: the mask of a part is that part of the whole's mask.
Tensor dropout(const Tensor& x, float rate, RngKey key, int64_t first = 0);

KERNEL(dropout_forward, (int64_t n, float rate, RngKey key, int64_t first, const float* x, float* y),
       COST(0, 4 * 2 * n), "y[i] = x[i] / (1 - rate) where rng_uniform(key, first + i) >= rate, else 0");
KERNEL(dropout_backward, (int64_t n, float rate, RngKey key, int64_t first, const float* dy, float* dx, bool add),
       COST(0, 4 * (2 + add) * n), "dx[i] = dy[i] / (1 - rate) where rng_uniform(key, first + i) >= rate, else 0");

// ------------------------------------------------------------------------------------------------------------- pool ---
// y[b] = mean of x[b, first .. first+count): x [B, N, C] -> y [B, C]. (0, 1) takes the class token, (1, N-1)
// averages the patch tokens.   dx[b, t] = dy[b] / count for those tokens, 0 for the others.
Tensor pool(const Tensor& x, int64_t first, int64_t count);

// Sizes of a mean over tokens [first, first + count).
struct PoolShape {
  int64_t batch, tokens, width, first, count;
};
KERNEL(pool_forward, (const PoolShape& s, const float* x, float* y), COST(0, 4 * s.batch * s.width * (s.count + 1)),
       "y[b] = mean of x[b, first .. first+count)");
KERNEL(pool_backward, (const PoolShape& s, const float* dy, float* dx, bool add),
       COST(0, 4 * s.batch * s.width * (1 + (add ? 2 * s.count : s.tokens))),
       "dx[b, t] = dy[b] / count for first <= t < first+count, else 0");

// ---------------------------------------------------------------------------------------------------- cross_entropy ---
// loss[0] = -1/B sum_b sum_k target[b, k] log softmax(logits[b])[k]: soft targets [B, K], which carry label
// smoothing and mixup. The probabilities [B, K] are kept.
//   dlogits[b, k] = dloss/B (p[b, k] sum_k' target[b, k'] - target[b, k])
Tensor cross_entropy(const Tensor& logits, const Tensor& target);

KERNEL(cross_entropy_forward,
       (int64_t batch, int64_t classes, const float* logits, const float* target, float* loss, float* p),
       COST(0, 4 * (3 * batch * classes + 1)),
       "loss = -1/B sum_bk target[b, k] log softmax(logits[b])[k],  p = softmax(logits)");
KERNEL(cross_entropy_backward,
       (int64_t batch, int64_t classes, const float* target, const float* p, const float* dloss, float* dlogits,
        bool add),
       COST(0, 4 * ((3 + add) * batch * classes + 1)),
       "dlogits[b, k] = dloss/B (p[b, k] sum_k' target[b, k'] - target[b, k])");

// -------------------------------------------------------------------------------------------------------- optimiser ---
// Not operations on a tape: one sweep over the parameter arena (engine/optimizer.h).
// sum_squares: out[0] = sum g^2, accumulated in double in fixed chunks; out lies on the device.
// adamw:  g' = clip g;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2;
//         w = w (1 - lr decay);  w = w - lr (m/c1) / (sqrt(v/c2) + eps);  g = 0 for the next step.
// With norm = sqrt(squares[0]), of the whole gradient and on the device like g, clip = min(1, clip_norm / norm), or 1
// when clip_norm is 0. When squares[0] is not finite, only g changes.
struct AdamWStep {
  float lr, beta1, beta2, eps, decay;
  float correction1, correction2;  // c1 = 1 - beta1^t, c2 = 1 - beta2^t
  float clip_norm;
};
KERNEL(sum_squares, (int64_t n, const float* g, double* out), COST(0, 4 * n + 8), "out = sum_i g[i]^2");
KERNEL(
    adamw, (int64_t n, const AdamWStep& s, const double* squares, float* w, float* g, float* m, float* v),
    COST(0, 4 * 8 * n + 8),
    "m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,  w = w (1 - lr decay) - lr (m/c1) / (sqrt(v/c2) + eps),  g clipped");

// --------------------------------------------------------------------------------------------------- augment_images ---
// Not an operation on a tape: the images of a training batch, from their pixels and from what was drawn for them
// (engine/image_plan.h; data/augment.h draws it).
// Image i is placed: the pixel (top, left) of the source becomes the upper left one, then it is mirrored if `flip`; the
// source continues with zeros beyond its edges. Every value v of channel c becomes table[c, v], its normalised value.
// Then its boxes are erased, one after another: a value becomes 0 (constant), or rng_normal(noise, first_noise + 2k),
// N(0, 1): k = c, a number for each channel of the box (random), or the value's own number k in the box, in the order
// channel, row, column (pixel). Then image i is mixed with image mix_partner(i, B), both as they were before: inside of
// its `mix.box` j's pixels replace i's (CutMix); without a box i <- lambda i + (1 - lambda) j (mixup); lambda = 1 mixes
// nothing.
// pixels [B, size, size, channels] uint8; table [channels, 256]; out [B, channels, size, size].

// Sizes of a batch of images, the key of what is erased to noise, and how.
struct AugmentShape {
  int64_t batch, channels, size;
  RngKey noise;
  EraseMode erase;
};
KERNEL(augment_images,
       (const AugmentShape& s, const ImagePlan* plans, const float* table, const uint8_t* pixels, float* out),
       COST(0, s.batch*(5 * s.channels * s.size * s.size + static_cast<int64_t>(sizeof(ImagePlan))) +
                   4 * 256 * s.channels),
       "out = lambda a[i] + (1 - lambda) a[partner(i)],  a = table[c, pixel] moved, mirrored and erased");

// --------------------------------------------------------------------------------------------------------- ceilings ---
// Not operations either: loops that run at what the processor can do, to judge the other kernels by
// (tools/common/ceilings.h).
// multiply_add: x[i] = a x[i] + b, `times` times in registers, 2 flops each.   copy: y = x.
// multiply_add_bf16: x[i] = x[i] + a b + a b likewise, a and b rounded to bf16, as a product of bf16 operands does it.
KERNEL(multiply_add, (int64_t n, int64_t times, float a, float b, float* x), COST(2 * n * times, 4 * 2 * n),
       "x[i] = a x[i] + b, times over");
KERNEL(multiply_add_bf16, (int64_t n, int64_t times, float a, float b, float* x), COST(4 * n * times, 4 * 2 * n),
       "x[i] = x[i] + 2 bf16(a) bf16(b), times over");
KERNEL(copy, (int64_t n, const float* x, float* y), COST(0, 4 * 2 * n), "y = x");

}  // namespace entangle
