// Numbers of bf16 (8 bits of exponent, 8 of precision) as what they are: the upper half of an fp32 number.
#pragma once

#include <cstdint>
#include <cstring>

namespace entangle {

// The nearest one, of two equally near the even: off by at most 2^-8 |x| (for |x| >= 2^-126). What is 2^128 - 2^119 or larger
// becomes infinite; NaN stays NaN.
inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<uint16_t>(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

inline float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace entangle
