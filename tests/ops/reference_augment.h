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
  for (int64_t b = 0; b < plan.boxes; ++b) {
    const Box& box = plan.erased[b].box;
    uint64_t next = plan.erased[b].first_noise;
    const auto draw = [&] {
      const double u = (rng_word(s.noise, next) + 0.5) * 0x1p-32, v = rng_word(s.noise, next + 1) * 0x1p-32;
      const double number = std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v);
      next += 2;
      return Bounded(number, std::fabs(number));
    };
    for (int64_t c = 0; c < s.channels; ++c) {
      const Bounded of_channel = s.erase == EraseMode::random ? draw() : Bounded(0.0f);
      for (int64_t y = 0; y < box.height; ++y) {
        for (int64_t x = 0; x < box.width; ++x) {
          value(c, box.top + y, box.left + x) = s.erase == EraseMode::pixel ? draw() : of_channel;
        }
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
    const Mix& mix = plans[at(i)].mix;
    const Bounded share = Bounded(mix.lambda, mix.lambda), rest = Bounded(1 - mix.lambda, 1 - mix.lambda);
    for (int64_t k = 0; k < values; ++k) {
      const int64_t y = k % plane / s.size - mix.box.top, x = k % s.size - mix.box.left;
      const bool cut = y >= 0 && y < mix.box.height && x >= 0 && x < mix.box.width;
      const bool alone = mix.lambda == 1 || partners[at(i)] == i || (mix.box.height > 0 && !cut);
      out.push_back(alone ? own[at(k)] : cut ? partner[at(k)] : share * own[at(k)] + rest * partner[at(k)]);
    }
  }
  return out;
}

}  // namespace entangle::reference
