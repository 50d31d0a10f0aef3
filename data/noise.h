// Many normal numbers at once.
#pragma once

#include <cstdint>

#include "engine/rng.h"

namespace entangle {

// out[i] = rng_normal(key, first + 2 i) (engine/rng.h) as fp32, i < count. Logarithm and cosine are series here, right
// to some 1e-16 as those of the mathematical library are: rounded to fp32, hardly one number in some ten millions is
// another.
void normal_numbers(RngKey key, uint64_t first, int64_t count, float* out);

}  // namespace entangle
