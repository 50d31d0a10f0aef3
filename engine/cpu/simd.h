// One vector type for every instruction-set path, and the elementary functions on it.
//
// The compiler's vector extension gives +, -, *, comparisons and ?: on `vec`; a*b + c contracts to a fused
// multiply-add where the path has one. Everything is `static`, in the path's own namespace (see engine/kernel.h).
#pragma once

#include <stdint.h>
#include <string.h>

#include "engine/kernel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

#if defined(ENTANGLE_ISA_avx512) || defined(ENTANGLE_ISA_avx512_bf16)
enum { kLanes = 16 };
#elif defined(ENTANGLE_ISA_avx2)
enum { kLanes = 8 };
#else
enum { kLanes = 4 };
#endif

typedef float vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t ivec __attribute__((vector_size(kLanes * 4)));
typedef float vec_in_memory __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t chunks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

static inline vec splat(float x) { return x - vec{}; }
static inline vec load(const float* p) { return *reinterpret_cast<const vec_in_memory*>(p); }
static inline void store(float* p, vec x) { *reinterpret_cast<vec_in_memory*>(p) = x; }

// The first n < kLanes floats; the other lanes are `fill`.
static inline vec load_first(const float* p, int64_t n, float fill = 0) {
  vec x = splat(fill);
  memcpy(&x, p, static_cast<size_t>(n) * sizeof(float));
  return x;
}
static inline void store_first(float* p, vec x, int64_t n) { memcpy(p, &x, static_cast<size_t>(n) * sizeof(float)); }

// Brings n values, or the place for them, into the L1 cache.
static inline void prefetch(int64_t n, const float* from) {
  for (int64_t j = 0; j < n; j += 16) __builtin_prefetch(from + j);
}

// A NaN in the first operand stays: clamping does not turn it into a number.
static inline vec larger(vec a, vec b) { return a < b ? b : a; }
static inline vec smaller(vec a, vec b) { return a > b ? b : a; }
static inline vec absolute(vec x) { return reinterpret_cast<vec>(reinterpret_cast<ivec>(x) & 0x7fffffff); }

// Lanes [0, n) of x; the others are zero.
static inline vec keep_first(vec x, int64_t n) {
  ivec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return reinterpret_cast<vec>(reinterpret_cast<ivec>(x) & (lane < static_cast<int32_t>(n)));
}

// Lanes [0, n) of x, the others of y.
static inline vec first_of(vec x, int64_t n, vec y) {
  ivec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? x : y;
}

// Exchanges, for lanes in blocks of `half`, the odd blocks of a with the even blocks of b.
template <int half>
static inline void exchange_blocks(vec& a, vec& b) {
  ivec even, odd;  // a shuffle of two vectors counts the second one's lanes from kLanes
  for (int i = 0; i < kLanes; ++i) {
    even[i] = (i & half) == 0 ? i : kLanes + i - half;
    odd[i] = (i & half) == 0 ? i + half : kLanes + i;
  }
  const vec first = a;
  a = __builtin_shuffle(first, b, even);
  b = __builtin_shuffle(first, b, odd);
}

// Transposes the square x: exchanges halves at distance 1, 2, 4, ...
template <int half = 1>
static inline void transpose(vec (&x)[kLanes]) {
  if constexpr (half < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if ((i & half) == 0) exchange_blocks<half>(x[i], x[i + half]);
    }
    transpose<2 * half>(x);
  }
}

// f of neighbouring blocks of `half` lanes: of a's in the even blocks, of b's in the odd ones.
template <int half, class F>
static inline vec neighbours(vec a, vec b, const F& f) {
  ivec outer, inner, swapped;  // a shuffle of two vectors counts the second one's lanes from kLanes
  for (int i = 0; i < kLanes; ++i) {
    outer[i] = (i & half) == 0 ? i : kLanes + i;
    inner[i] = (i & half) != 0 ? i : kLanes + i;
    swapped[i] = i ^ half;
  }
  return f(__builtin_shuffle(a, b, outer), __builtin_shuffle(__builtin_shuffle(a, b, inner), swapped));
}

// Lane i is f, `plus` or `larger`, of the lanes of x[i]: blocks of 1, 2, 4, ... lanes meet their neighbours. x is
// overwritten.
template <int half = 1, class F>
static inline vec over_lanes(vec* x, const F& f) {
  if constexpr (half == kLanes) {
    return x[0];
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 2 * half) x[i] = neighbours<half>(x[i], x[i + half], f);
    return over_lanes<2 * half>(x, f);
  }
}
static inline vec plus(vec a, vec b) { return a + b; }

// Sum and maximum of the lanes, in a fixed order.
static inline float sum_of(vec x) {
  float lane[kLanes];
  store(lane, x);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}
static inline float largest_of(vec x) {
  float lane[kLanes];
  store(lane, x);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  }
  return lane[0];
}

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2; exp(r) by a minimax polynomial of degree 6 (4e-9).
// ln 2 is split in two so that r is exact to fp32. Arguments are clamped to [-87.3, 88.3]; relative error < 2e-7.
static inline vec exponential(vec x) {
  x = larger(smaller(x, splat(88.3f)), splat(-87.3f));
  const vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const vec shifted = x * 1.44269504f + magic;
  const vec n = shifted - magic;
  const vec r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  vec p = splat(0.00137512793f);
  p = p * r + 0.00836895220f;
  p = p * r + 0.0416695401f;
  p = p * r + 0.166665182f;
  p = p * r + 0.499999881f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const ivec exponent = (reinterpret_cast<ivec>(shifted) - reinterpret_cast<ivec>(magic) + 127) << 23;
  return p * reinterpret_cast<vec>(exponent);
}

// 2^x = 2^n 2^r for x in [-126, 127], n = round(x), |r| <= 1/2; 2^r by a minimax polynomial of degree 6 (2e-9).
// Relative error < 1e-7.
static inline vec power_of_two(vec x) {
  const vec magic = splat(12583039.0f);  // 1.5 * 2^23 + 127: adding it leaves the exponent of 2^n in the low bits
  const vec shifted = x + magic;
  const vec r = x - (shifted - magic);
  vec p = splat(0.00015353362f);
  p = p * r + 0.0013398875f;
  p = p * r + 0.00961843692f;
  p = p * r + 0.0555033237f;
  p = p * r + 0.240226477f;
  p = p * r + 0.693147182f;
  p = p * r + 1.0f;
  return p * reinterpret_cast<vec>(reinterpret_cast<ivec>(shifted) << 23);
}

// Applies f(first, count) to [0, n) in vectors: count is kLanes, and smaller once at the end.
template <class F>
static inline void for_vectors(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, static_cast<int64_t>(kLanes));
  if (i < n) f(i, n - i);
}
// load and store of a vector that may be the short one at the end.
static inline vec load_some(const float* p, int64_t n, float fill = 0) {
  return n == kLanes ? load(p) : load_first(p, n, fill);
}
static inline void store_some(float* p, vec x, int64_t n) { n == kLanes ? store(p, x) : store_first(p, x, n); }

// The nearest bf16 (ties to even) of every lane, in the upper half of its 32 bits. A NaN stays one.
static inline ivec bf16_bits(vec x) {
  const ivec bits = reinterpret_cast<ivec>(x), rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return (x == x ? rounded : bits | 0x00400000) & static_cast<int32_t>(0xffff0000);
}

// Puts a gradient: adds to p or stores.
static inline void put(float* p, vec x, int64_t n, bool add) { store_some(p, add ? x + load_some(p, n) : x, n); }

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
