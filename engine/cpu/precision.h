// How the operands of a matrix product are rounded: what its tiles multiply.
//
// A product sums over k. Its operands are matrices of elements: fp32 numbers or, where the processor multiplies them,
// pairs of bf16 numbers that follow each other along k, so that a step of k stands for two products. A precision says
// how numbers become elements; sums are fp32.
#pragma once

#include "engine/cpu/simd.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// Where the elements of a matrix lie: (i, j) at data[i*row + j*col].
template <class Element>
struct View {
  const Element* data;
  int64_t row, col;
};

// sum += a[0] * b[0 .. kLanes)
static inline void multiply_add(vec& sum, const float* a, const float* b) { sum += splat(*a) * load(b); }

// Operands as they are.
struct Fp32 {
  typedef float Element;
  enum { kStep = 1, kInPlace = true };  // numbers along k in one element; whether matrices are elements already
  // The elements of n <= kLanes * kStep numbers that follow each other along k; zeros behind them.
  static inline vec elements(const float* from, int64_t n) { return load_some(from, n); }
  // The elements of kStep vectors, each one step of k.
  static inline vec joined(vec row, vec) { return row; }
  // sum + a b, of elements.
  static inline vec sum_of_products(vec sum, vec a, vec b) { return a * b + sum; }
};

// Operands rounded to bf16: in pairs where the processor multiplies pairs, else as fp32 numbers, which gives the same
// products.
#if defined(__AVX512BF16__)
// The number of the smaller k is in the lower half.
struct Bf16Pair {
  uint32_t bits;
};

struct Bf16 {
  typedef Bf16Pair Element;
  enum { kStep = 2, kInPlace = false };
  static inline vec elements(const float* from, int64_t n) {
    const vec first = load_some(from, min_of(n, kLanes));
    return rounded(first, n > kLanes ? load_some(from + kLanes, n - kLanes) : vec{});
  }
  static inline vec joined(vec row, vec next) {
    typedef uint16_t halves __attribute__((vector_size(kLanes * 4)));
    halves alternate;  // 0, kLanes, 1, kLanes + 1, ...
    for (int i = 0; i < 2 * kLanes; ++i) alternate[i] = static_cast<uint16_t>(i / 2 + i % 2 * kLanes);
    return reinterpret_cast<vec>(__builtin_shuffle(reinterpret_cast<halves>(rounded(row, next)), alternate));
  }
  // The numbers of both vectors, one vector behind the other.
  static inline vec rounded(vec first, vec second) {
    return reinterpret_cast<vec>(
        _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(second), reinterpret_cast<__m512>(first)));
  }
  static inline vec sum_of_products(vec sum, vec a, vec b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

static inline void multiply_add(vec& sum, const Bf16Pair* a, const Bf16Pair* b) {
  const __m512i spread = _mm512_set1_epi32(static_cast<int>(a->bits));
  sum = Bf16::sum_of_products(sum, reinterpret_cast<vec>(spread), load(reinterpret_cast<const float*>(b)));
}
#else
struct Bf16 {
  typedef float Element;
  enum { kStep = 1, kInPlace = false };
  static inline vec elements(const float* from, int64_t n) { return joined(load_some(from, n), vec{}); }
  static inline vec joined(vec row, vec) { return reinterpret_cast<vec>(bf16_bits(row)); }
  static inline vec sum_of_products(vec sum, vec a, vec b) { return a * b + sum; }
};
#endif

// The elements of n numbers that follow each other along k.
template <class P>
static inline void convert(const float* from, int64_t n, typename P::Element* to) {
  for_vectors(chunks_of(n, P::kStep), [&](int64_t i, int64_t count) {
    const int64_t left = n - i * P::kStep;
    store_some(reinterpret_cast<float*>(to + i), P::elements(from + i * P::kStep, min_of(left, kLanes * P::kStep)),
               count);
  });
}

// The elements of kStep rows of n numbers, each row one step of k; `next`, the second row, may be null for zeros.
template <class P>
static inline void interleave(const float* row, const float* next, int64_t n, typename P::Element* to) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    const vec second = P::kStep > 1 && next != nullptr ? load_some(next + i, count) : vec{};
    store_some(reinterpret_cast<float*>(to + i), P::joined(load_some(row + i, count), second), count);
  });
}

// The matrix m[rows, depth] as left operand, k along its rows: where it lies, or converted in `memory`.
template <class P>
static inline View<typename P::Element> left_operand(int64_t rows, int64_t depth, const float* m, int64_t stride,
                                                     typename P::Element* memory) {
  if constexpr (P::kInPlace) {
    return {m, stride, 1};
  } else {
    const int64_t steps = chunks_of(depth, P::kStep);
    for (int64_t i = 0; i < rows; ++i) convert<P>(m + i * stride, depth, memory + i * steps);
    return {memory, steps, 1};
  }
}

// The transpose of m[depth, columns] as left operand, k along its columns.
template <class P>
static inline View<typename P::Element> transposed_operand(int64_t depth, int64_t columns, const float* m,
                                                           int64_t stride, typename P::Element* memory) {
  if constexpr (P::kInPlace) {
    return {m, 1, stride};
  } else {
    for (int64_t k = 0; k < depth; k += P::kStep) {
      interleave<P>(m + k * stride, k + 1 < depth ? m + (k + 1) * stride : nullptr, columns,
                    memory + k / P::kStep * columns);
    }
    return {memory, 1, columns};
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
