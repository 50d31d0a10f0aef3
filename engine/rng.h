// Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// A number is a function of (seed, stream, step, index): no state is carried, so any thread, any device and a resumed
// run draw the same. Everything here is `static inline`, so kernels compiled per instruction set may use it.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define ENTANGLE_HOST_DEVICE __host__ __device__
#else
#define ENTANGLE_HOST_DEVICE
#endif
// Functions of double. A GPU has them under their names; on the processor no header of theirs is needed.
#if defined(__CUDA_ARCH__)
#define ENTANGLE_MATH(name) ::name
#else
#define ENTANGLE_MATH(name) __builtin_##name
#endif

namespace entangle {

// What a sequence of random numbers is for. Two purposes never share numbers.
enum class Stream : uint32_t {
  initialization = 1,
  architecture = 2,
  data_order = 3,
  augmentation = 4,
  mixing = 5,
  drop_path = 6,
  dropout = 7,
  search = 8,
  split = 9,
  synthetic = 10,
};

// Names one sequence: the numbers of `stream` in training step (or epoch, or generation) `step` of a run with `seed`.
struct RngKey {
  uint64_t seed;
  uint32_t stream;
  uint32_t step;
};

static inline ENTANGLE_HOST_DEVICE RngKey rng_key(uint64_t seed, Stream stream, uint64_t step = 0) {
  // The upper half of a step beyond 2^32 goes into the seed's upper half; such runs are not expected, only not wrong.
  RngKey key = {seed ^ ((step >> 32) << 32), static_cast<uint32_t>(stream), static_cast<uint32_t>(step)};
  return key;
}

// What one evaluation of the generator gives.
struct RngBlock {
  uint32_t word[4];
};

// Four independent 32-bit words for each block index of a sequence.
static inline ENTANGLE_HOST_DEVICE RngBlock rng_block(RngKey key, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = key.step, c3 = key.stream;
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  RngBlock out = {{c0, c1, c2, c3}};
  return out;
}

// Word number `index` of a sequence.
static inline ENTANGLE_HOST_DEVICE uint32_t rng_word(RngKey key, uint64_t index) {
  return rng_block(key, index >> 2).word[index & 3];
}

// Uniform in [0, 1), 24 bits: exact in fp32 and equal on every device.
static inline ENTANGLE_HOST_DEVICE float rng_uniform(RngKey key, uint64_t index) {
  return static_cast<float>(rng_word(key, index) >> 8) * (1.0f / 16777216.0f);
}

// Standard normal by Box-Muller, from two words. In double, so that devices differ by the roundings of log and cos alone,
// 1e-15 of it.
static inline ENTANGLE_HOST_DEVICE double rng_normal_of(uint32_t word, uint32_t next) {
  const double unit = 1.0 / 4294967296.0;
  const double u = (word + 0.5) * unit;  // in (0, 1): its logarithm is finite
  const double angle = 6.283185307179586476925286766559 * (next * unit);
  return ENTANGLE_MATH(sqrt)(-2.0 * ENTANGLE_MATH(log)(u)) * ENTANGLE_MATH(cos)(angle);
}

// From words `index` and `index` + 1 of a sequence.
static inline ENTANGLE_HOST_DEVICE double rng_normal(RngKey key, uint64_t index) {
  return rng_normal_of(rng_word(key, index), rng_word(key, index + 1));
}

#if !defined(ENTANGLE_ISA)

// A cursor over one sequence, for host code that draws one number after another.
struct Rng {
  RngKey key;
  uint64_t next = 0;

  explicit Rng(RngKey k) : key(k) {}
  Rng(uint64_t seed, Stream stream, uint64_t step = 0) : key(rng_key(seed, stream, step)) {}

  uint32_t word() { return rng_word(key, next++); }
  // [0, 1), 32 bits.
  double uniform() { return word() * (1.0 / 4294967296.0); }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  // 0 .. n-1, by multiplication: the bias is below n / 2^32.
  int64_t below(int64_t n) {
    return static_cast<int64_t>((static_cast<uint64_t>(word()) * static_cast<uint64_t>(n)) >> 32);
  }
  bool chance(double probability) { return uniform() < probability; }
};

// Standard normal, two words a number.
double normal(Rng& rng);
// Beta(a, a) for mixup's lambda, from two Gamma(a, 1) draws (Marsaglia and Tsang, 2000).
double symmetric_beta(Rng& rng, double a);
// Fisher-Yates: items[0..count) in a random order.
void shuffle(Rng& rng, int64_t* items, int64_t count);

#endif  // ENTANGLE_ISA

}  // namespace entangle
