// The reference of the kernel augment_images.
#pragma once

#include <vector>

#include "engine/ops.h"
#include "tests/ops/reference_numbers.h"

namespace entangle::reference {

// From the source: each of its values goes to where it lands in the output, if it lands there. Exact but for the noise,
// which is rounded to fp32 once.
inline Array<Bounded> augment_one(const AugmentShape& s, const ImagePlan& plan, const std::vector<float>& table,
                                  const uint8_t* pixels) {
  Array<Bounded> out;
  for (int64_t c = 0; c < s.channels; ++c) out.insert(out.end(), at(s.size * s.size), Bounded(table[at(c * 256)]));
  const auto value = [&](int64_t c, int64_t y, int64_t x) -> Bounded& {
    return out[at((c * s.size + y) * s.size + x)];
  };
  for (int64_t row = 0; row < s.size; ++row) {
    for (int64_t column = 0; column < s.size; ++column) {
      for (int64_t c = 0; c < s.channels; ++c) {
        const float landing = table[at(c * 256 + *pixels++)];
        const int64_t y = row - plan.placement.top, x = column - plan.placement.left;
        if (y < 0 || y >= s.size || x < 0 || x >= s.size) continue;
        value(c, y, plan.placement.flip ? s.size - 1 - x : x) = Bounded(landing);
      }
    }
  }
  uint64_t next = plan.first_noise;
  for (int64_t c = 0; c < s.channels; ++c) {
    for (int64_t y = 0; y < plan.erased.height; ++y) {
      for (int64_t x = 0; x < plan.erased.width; ++x) {
        const double u = (rng_word(s.noise, next) + 0.5) * 0x1p-32, v = rng_word(s.noise, next + 1) * 0x1p-32;
        const double number = std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v);
        value(c, plan.erased.top + y, plan.erased.left + x) = Bounded(number, std::fabs(number));
        next += 2;
      }
    }
  }
  return out;
}

inline Array<Bounded> augment_images(const AugmentShape& s, const std::vector<ImagePlan>& plans,
                                     const std::vector<float>& table, const std::vector<uint8_t>& pixels) {
  const int64_t plane = s.size * s.size, values = s.channels * plane;
  Arrays<Bounded> images;
  for (int64_t i = 0; i < s.batch; ++i) {
    images.push_back(augment_one(s, plans[at(i)], table, pixels.data() + i * values));
  }
  // Groups of eight, each reversed.
  std::vector<int64_t> partners;
  for (int64_t begin = 0; begin < s.batch; begin += 8) {
    for (int64_t i = std::min(begin + 8, s.batch); i-- > begin;) partners.push_back(i);
  }
  Array<Bounded> out;
  for (int64_t i = 0; i < s.batch; ++i) {
    const Array<Bounded>&own = images[at(i)], &partner = images[at(partners[at(i)])];
    for (int64_t k = 0; k < values; ++k) {
      const int64_t y = k % plane / s.size - s.mix.box.top, x = k % s.size - s.mix.box.left;
      const bool cut = y >= 0 && y < s.mix.box.height && x >= 0 && x < s.mix.box.width;
      const Bounded share = Bounded(s.mix.lambda, s.mix.lambda), rest = Bounded(1 - s.mix.lambda, 1 - s.mix.lambda);
      const bool alone = s.mix.lambda == 1 || partners[at(i)] == i || (s.mix.box.height > 0 && !cut);
      out.push_back(alone ? own[at(k)] : cut ? partner[at(k)] : share * own[at(k)] + rest * partner[at(k)]);
    }
  }
  return out;
}

}  // namespace entangle::reference
