// Attention on tensor cores (attention_bf16.cu), for the dispatch in attention.cu. False: the shape is not one of
// theirs and nothing was done.
#pragma once

#include "engine/ops.h"

namespace entangle::gpu {

bool attention_forward_bf16(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                            const float* value_v, const float* value_h, float* y);
bool attention_backward_bf16(const AttentionShape& s, const float* qkv, const float* key_v, const float* key_h,
                             const float* value_v, const float* value_h, const float* dy, float* dqkv, bool add,
                             float* dkey_v, float* dkey_h, float* dvalue_v, float* dvalue_h);

}  // namespace entangle::gpu
