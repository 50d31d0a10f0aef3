// Compiled with -fno-math-errno, without which no square root becomes a vector's.
#include "data/noise.h"

#include <algorithm>
#include <cstring>

#include "data/vectors.h"

namespace entangle {

namespace {

// log(u) of u in [2^-34, 1): u = 2^e z with z in [sqrt(1/2), sqrt(2)), and with s = (z - 1) / (z + 1), |s| < 0.172,
//   log(z) = 2 (s + s^3 / 3 + s^5 / 5 + ...)
ENTANGLE_INLINE double log_below_one(double u) {
  const uint64_t sqrt_half = 0x3FE6A09E667F3BCDull, bias = 1024;
  uint64_t bits;
  std::memcpy(&bits, &u, sizeof bits);
  const uint64_t shifted = (bits - sqrt_half + (bias << 52)) >> 52;
  bits -= (shifted << 52) - (bias << 52);
  double z;
  std::memcpy(&z, &bits, sizeof z);
  const double e = static_cast<double>(static_cast<int32_t>(shifted) - static_cast<int32_t>(bias));
  const double s = (z - 1) / (z + 1), q = s * s;
  double series = 1.0 / 21;
  series = series * q + 1.0 / 19;
  series = series * q + 1.0 / 17;
  series = series * q + 1.0 / 15;
  series = series * q + 1.0 / 13;
  series = series * q + 1.0 / 11;
  series = series * q + 1.0 / 9;
  series = series * q + 1.0 / 7;
  series = series * q + 1.0 / 5;
  series = series * q + 1.0 / 3;
  return e * 0.69314718055994530942 + 2 * (s + s * (q * series));
}

// cos(2 pi t / 2^32): t = k 2^30 + r with |r| <= 2^29, and the angle of r is at most pi / 4. A quarter turn on, a
// cosine is minus the sine.
ENTANGLE_INLINE double cosine_of_turn(uint32_t t) {
  const uint32_t quarter = (t + (1u << 29)) >> 30;
  const int32_t rest = static_cast<int32_t>(t - (quarter << 30));
  const double x = static_cast<double>(rest) * 1.46291807926715968105e-9, q = x * x;  // 2 pi / 2^32
  double sine = -1.0 / 1307674368000;
  sine = sine * q + 1.0 / 6227020800;
  sine = sine * q - 1.0 / 39916800;
  sine = sine * q + 1.0 / 362880;
  sine = sine * q - 1.0 / 5040;
  sine = sine * q + 1.0 / 120;
  sine = sine * q - 1.0 / 6;
  sine = x + x * (q * sine);
  double cosine = 1.0 / 20922789888000;
  cosine = cosine * q - 1.0 / 87178291200;
  cosine = cosine * q + 1.0 / 479001600;
  cosine = cosine * q - 1.0 / 3628800;
  cosine = cosine * q + 1.0 / 40320;
  cosine = cosine * q - 1.0 / 720;
  cosine = cosine * q + 1.0 / 24;
  cosine = (1 - 0.5 * q) + q * (q * cosine);
  const double value = (quarter & 1) != 0 ? sine : cosine;
  return ((quarter + 1) & 2) != 0 ? -value : value;
}

constexpr int64_t kPiece = 64;                   // numbers
constexpr int64_t kBlocks = 2 * kPiece / 4 + 1;  // of four words, wherever the first word lies

// Words 2 i and 2 i + 1 give number i, in loops without branches and calls. As signed numbers, which processors
// convert.
ENTANGLE_CLONES void numbers_of(const uint32_t* word, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const double shifted = static_cast<double>(static_cast<int32_t>(word[2 * i] ^ 0x80000000u)) + 2147483648.5;
    const double log = log_below_one(shifted * (1.0 / 4294967296.0));
    out[i] = static_cast<float>(__builtin_sqrt(-2.0 * log) * cosine_of_turn(word[2 * i + 1]));
  }
}

ENTANGLE_CLONES void words_of(RngKey key, uint64_t first_block, int64_t blocks, uint32_t* word) {
  for (int64_t b = 0; b < blocks; ++b) {
    const RngBlock block = rng_block(key, first_block + static_cast<uint64_t>(b));
    for (int64_t i = 0; i < 4; ++i) word[4 * b + i] = block.word[i];
  }
}

}  // namespace

void normal_numbers(RngKey key, uint64_t first, int64_t count, float* out) {
  uint32_t word[4 * kBlocks];
  for (int64_t done = 0; done < count; done += kPiece) {
    const uint64_t at = first + static_cast<uint64_t>(2 * done);
    const int64_t n = std::min(count - done, kPiece), beside = static_cast<int64_t>(at & 3);
    words_of(key, at >> 2, (beside + 2 * n + 3) / 4, word);
    numbers_of(word + beside, n, out + done);
  }
}

}  // namespace entangle
