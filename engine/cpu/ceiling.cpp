// The loops that ceilings are measured with.
#include "engine/cpu/precision.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// A fused multiply-add takes four or five cycles and two begin in each: ten independent chains keep both units busy.
enum { kChains = 12, kBlock = kChains * kLanes, kMultiplyAddsPerChunk = 1536, kCopiesPerChunk = 1 << 18 };

// Calls step(chain) `times` times for each of the chains at x.
template <class F>
static inline void run_chains(int64_t times, float* x, const F& step) {
  vec chain[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) chain[c] = load(x + c * kLanes);
  for (int64_t t = 0; t < times; ++t) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) step(chain[c]);
  }
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) store(x + c * kLanes, chain[c]);
}

template <class F>
static inline void run_all(int64_t n, int64_t times, float* x, const F& step) {
  parallel_for(chunks_of(n, kMultiplyAddsPerChunk), [&](int64_t chunk) {
    const int64_t last = min_of(n, (chunk + 1) * kMultiplyAddsPerChunk);
    int64_t i = chunk * kMultiplyAddsPerChunk;
    for (; i + kBlock <= last; i += kBlock) run_chains(times, x + i, step);
    for_vectors(last - i, [&](int64_t j, int64_t count) {
      vec v = load_some(x + i + j, count);
      for (int64_t t = 0; t < times; ++t) step(v);
      store_some(x + i + j, v, count);
    });
  });
}

void multiply_add(int64_t n, int64_t times, float a, float b, float* x) {
  run_all(n, times, x, [=](vec& v) { v = splat(a) * v + splat(b); });
}

void multiply_add_bf16(int64_t n, int64_t times, float a, float b, float* x) {
  const vec left = Bf16::joined(splat(a), splat(a)), right = Bf16::joined(splat(b), splat(b));
  run_all(n, times * (2 / Bf16::kStep), x, [=](vec& v) { v = Bf16::sum_of_products(v, left, right); });
}

void copy(int64_t n, const float* x, float* y) {
  parallel_for(chunks_of(n, kCopiesPerChunk), [&](int64_t chunk) {
    const int64_t first = chunk * kCopiesPerChunk;
    memcpy(y + first, x + first, static_cast<size_t>(min_of(kCopiesPerChunk, n - first)) * sizeof(float));
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
