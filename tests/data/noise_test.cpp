// Normal numbers in vectors against those of the mathematical library.
#include "data/noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace entangle {
namespace {

TEST(NormalNumbers, AreTheSequences) {
  int64_t others = 0, all = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const RngKey key = rng_key(seed, Stream::augmentation, seed % 3);
    const uint64_t first = (seed << 32) + seed % 7;
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{64}, int64_t{65}, int64_t{5000}}) {
      std::vector<float> out(static_cast<size_t>(count) + 1, 99.0f);
      normal_numbers(key, first, count, out.data());
      for (int64_t i = 0; i < count; ++i) {
        const float want = static_cast<float>(rng_normal(key, first + 2 * static_cast<uint64_t>(i)));
        const float got = out[static_cast<size_t>(i)];
        others += got != want;
        ASSERT_LE(std::fabs(got - want), 1.2e-7f * std::fabs(want)) << i << " of " << count;
      }
      ASSERT_EQ(out.back(), 99.0f) << "nothing is written behind the last";
      all += count;
    }
  }
  EXPECT_LE(others, 1) << "of " << all << " are rounded to the float beside";
}

}  // namespace
}  // namespace entangle
