// Filters on AVX-512, to the same bits as data/resize.cpp's. The processor adds four products of a byte and a signed
// byte to 32 bits at once, so a weight is written in digits of base 256 between -128 and 127:
//   sum of value weight = 2^16 sum of value digit[0] + 2^8 sum of value digit[1] + sum of value digit[2],
// each of which is exact, and what they make together fits into 32 bits.
#include <algorithm>

#include "data/resize_rows.h"
#include "data/rgb.h"

#if defined(ENTANGLE_VBMI)

namespace entangle {

namespace {

constexpr int64_t kFive = 5;    // pixels, of 15 values in 16 lanes
constexpr int64_t kBytes = 64;  // of a register
constexpr int kDigits = 3;
constexpr int32_t kMostGroups = 8;  // of four taps
constexpr int32_t kMostWeight = 127 << 16;

void digits_of(int32_t weight, int8_t (&digit)[kDigits]) {
  for (int d = kDigits - 1; d >= 0; --d) {
    digit[d] = static_cast<int8_t>(weight & 255);
    weight = (weight - digit[d]) >> 8;
  }
}

ENTANGLE_VBMI inline __m512i together(__m512i upper, __m512i middle, __m512i lower) {
  const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(upper, 16), _mm512_slli_epi32(middle, 8));
  return _mm512_srai_epi32(_mm512_add_epi32(_mm512_add_epi32(sum, lower), _mm512_set1_epi32(kHalf)), kFractionBits);
}

bool fit(const std::vector<int32_t>& weights) {
  return std::all_of(weights.begin(), weights.end(), [](int32_t w) { return w > -kMostWeight && w < kMostWeight; });
}

}  // namespace

bool WideRow::serves(const Weights& w) {
  for (size_t i = 0; i < w.first.size(); i += kFive) {
    const size_t last = std::min(i + static_cast<size_t>(kFive), w.first.size()) - 1;
    if ((w.first[last] - w.first[i] + 4) * kChannels > kBytes) return false;
  }
  return w.most <= 20 && fit(w.weight);  // and so within kBeyond
}

WideRow::WideRow(const Weights& w) : groups_((w.most + 3) / 4) {
  const int64_t width = static_cast<int64_t>(w.first.size()), fives = (width + kFive - 1) / kFive;
  order_.resize(static_cast<size_t>(fives * kBytes));
  digits_.resize(static_cast<size_t>(fives * groups_ * kDigits * kBytes));
  for (int64_t x = 0; x < width; ++x) {
    const int64_t five = x / kFive;
    const size_t at = static_cast<size_t>(x);
    if (x % kFive == 0) first_.push_back(w.first[at] * kChannels);
    const int64_t lane = x % kFive * kChannels * 4, from = w.first[at] * kChannels - first_.back();
    uint8_t* order = order_.data() + five * kBytes + lane;
    int8_t* digits = digits_.data() + five * groups_ * kDigits * kBytes + lane;
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t t = 0; t < 4; ++t) order[c * 4 + t] = static_cast<uint8_t>(from + t * kChannels + c);
    }
    for (int64_t t = 0; t < w.count[at]; ++t) {
      int8_t digit[kDigits];
      digits_of(w.weight[static_cast<size_t>(x * w.taps + t)], digit);
      int8_t* to = digits + t / 4 * kDigits * kBytes + t % 4;
      for (int64_t d = 0; d < kDigits; ++d) {
        for (int64_t c = 0; c < kChannels; ++c) to[d * kBytes + c * 4] = digit[d];
      }
    }
  }
}

ENTANGLE_VBMI void WideRow::run(const uint8_t* row, uint8_t* out) const {
  const uint8_t* order = order_.data();
  const int8_t* digits = digits_.data();
  for (const int32_t first : first_) {
    const uint8_t* from = row + first;
    const __m512i places = _mm512_loadu_si512(order);
    __m512i upper = _mm512_setzero_si512(), middle = upper, lower = upper;
    for (int64_t g = 0; g < groups_; ++g, from += 4 * kChannels, digits += kDigits * kBytes) {
      const __m512i values = _mm512_permutexvar_epi8(places, _mm512_loadu_si512(from));
      upper = _mm512_dpbusd_epi32(upper, values, _mm512_loadu_si512(digits));
      middle = _mm512_dpbusd_epi32(middle, values, _mm512_loadu_si512(digits + kBytes));
      lower = _mm512_dpbusd_epi32(lower, values, _mm512_loadu_si512(digits + 2 * kBytes));
    }
    const __m512i level = _mm512_max_epi32(together(upper, middle, lower), _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(level));
    order += kBytes;
    out += kFive * kChannels;
  }
}

namespace {

// 64 values of four rows as the four bytes of 16 values each; in lanes of 16 bytes, as packing puts them together.
struct Woven {
  __m512i part[4];
};
ENTANGLE_VBMI inline Woven weave(const __m512i (&row)[4]) {
  const __m512i first = _mm512_unpacklo_epi8(row[0], row[1]), last = _mm512_unpackhi_epi8(row[0], row[1]);
  const __m512i third = _mm512_unpacklo_epi8(row[2], row[3]), fourth = _mm512_unpackhi_epi8(row[2], row[3]);
  return {{_mm512_unpacklo_epi16(first, third), _mm512_unpackhi_epi16(first, third),
           _mm512_unpacklo_epi16(last, fourth), _mm512_unpackhi_epi16(last, fourth)}};
}

}  // namespace

bool serves_wide_columns(const Weights& w) { return w.most <= 4 * kMostGroups && fit(w.weight); }

ENTANGLE_VBMI void resize_columns_wide(const uint8_t* rows, int64_t stride, const int32_t* weight, int32_t count,
                                       int64_t length, uint8_t* out) {
  int32_t digits[kMostGroups][kDigits] = {};
  const int32_t groups = (count + 3) / 4;
  for (int32_t t = 0; t < count; ++t) {
    int8_t digit[kDigits];
    digits_of(weight[t], digit);
    for (int d = 0; d < kDigits; ++d) {
      digits[t / 4][d] |= static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint8_t>(digit[d])) << (t % 4 * 8));
    }
  }
  for (int64_t i = 0; i + kBytes <= length; i += kBytes) {
    __m512i sum[kDigits][4];
    for (auto& of_digit : sum) {
      for (__m512i& part : of_digit) part = _mm512_setzero_si512();
    }
    for (int32_t g = 0; g < groups; ++g) {
      __m512i row[4];
      for (int32_t t = 0; t < 4; ++t) {  // those beyond have no weight
        row[t] = _mm512_loadu_si512(rows + std::min(4 * g + t, count - 1) * stride + i);
      }
      const Woven woven = weave(row);
      for (int d = 0; d < kDigits; ++d) {
        const __m512i factor = _mm512_set1_epi32(digits[g][d]);
        for (int k = 0; k < 4; ++k) sum[d][k] = _mm512_dpbusd_epi32(sum[d][k], woven.part[k], factor);
      }
    }
    __m512i level[4];
    for (int k = 0; k < 4; ++k) level[k] = together(sum[0][k], sum[1][k], sum[2][k]);
    const __m512i low = _mm512_packs_epi32(level[0], level[1]), high = _mm512_packs_epi32(level[2], level[3]);
    _mm512_storeu_si512(out + i, _mm512_packus_epi16(low, high));
  }
}

}  // namespace entangle
#endif
