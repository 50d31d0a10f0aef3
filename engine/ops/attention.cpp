#include "engine/ops.h"

#include "engine/check.h"
#include "engine/tensor.h"
#include "engine/trace.h"

namespace entangle {

namespace {

void check(const AttentionShape& s, const Tensor& qkv, const AttentionTables& tables) {
  CHECK(s.batch >= 0 && s.heads > 0 && s.head_dim > 0 && s.side > 0 && s.max_relative_position >= 0,
        "attention: heads ", s.heads, ", head_dim ", s.head_dim, ", side ", s.side, " must be positive");
  CHECK(s.tokens == 1 + s.side * s.side, "attention: ", s.tokens, " tokens are not one class token and a grid of side ",
        s.side);
  CHECK(s.dropout >= 0 && s.dropout < 1, "attention: dropout must be in [0, 1), not ", s.dropout);
  CHECK(qkv.defined() && qkv.contiguous() && qkv.shape() == Shape({s.batch, s.tokens, 3 * s.heads * s.head_dim}),
        "attention: qkv ", qkv.shape().str(), " must be contiguous [", s.batch, ", ", s.tokens, ", ",
        3 * s.heads * s.head_dim, "]");
  if (s.max_relative_position == 0) return;
  const Shape table = {2 * s.max_relative_position + 2, s.head_dim};
  for (const Tensor* t : {&tables.key_v, &tables.key_h, &tables.value_v, &tables.value_h}) {
    CHECK(t->defined() && t->contiguous() && t->shape() == table, "attention: a relative position table is ",
          t->shape().str(), ", not contiguous ", table.str());
  }
}

float* values(const Tensor& table) { return table.defined() ? table.data() : nullptr; }
float* gradient(const Tensor& table) { return table.defined() ? table.grad() : nullptr; }

}  // namespace

Tensor attention(const Tensor& qkv, const AttentionTables& tables, const AttentionShape& s, bool recompute) {
  const TraceSpan span("forward", "attention");
  check(s, qkv, tables);
  common_device("attention", {&qkv, &tables.key_v, &tables.key_h, &tables.value_v, &tables.value_h});
  Tape* tape = recording({&qkv, &tables.key_v, &tables.key_h, &tables.value_v, &tables.value_h});
  Tensor y = Tensor::empty({s.batch, s.tokens, s.heads * s.head_dim}, qkv.device());
  // In bf16 a GPU computes p again rather than write and read what is larger than all else.
  const bool keep =
      tape != nullptr && !recompute && !(s.precision == Precision::bf16 && qkv.device() == DeviceKind::cuda);
  const Tensor p = keep ? Tensor::empty({s.batch, s.heads, s.tokens, attention_row(s.tokens)}, qkv.device()) : Tensor();
  kernels::attention_forward.on(qkv.device())(s, qkv.data(), values(tables.key_v), values(tables.key_h),
                                              values(tables.value_v), values(tables.value_h), y.data(), values(p));
  count_macs(attention_macs(s));
  if (tape != nullptr) {
    tape->record("attention", y, [s, qkv, t = tables, p, dy = y.gradient_only()] {
      const GradTarget dqkv = qkv.grad_target();
      kernels::attention_backward.on(qkv.device())(
          s, qkv.data(), values(t.key_v), values(t.key_h), values(t.value_v), values(t.value_h), values(p), dy.grad(),
          dqkv.data, dqkv.add, gradient(t.key_v), gradient(t.key_h), gradient(t.value_v), gradient(t.value_h));
    });
  }
  return y;
}

}  // namespace entangle
