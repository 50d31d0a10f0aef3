// With VBMI a register of 64 bytes is an index into two registers: four hold a table of bytes, of which a value's upper
// bit takes one half. A float is four such bytes.
#include "data/lookup.h"

#include <algorithm>
#include <cstring>

#include "data/vectors.h"

namespace entangle {

namespace {

#if defined(ENTANGLE_VBMI)
constexpr int64_t kBytes = 64;

// The first `count` bytes of a register, all when it has as many.
ENTANGLE_VBMI inline __mmask64 first_bytes(int64_t count) {
  return count >= kBytes ? ~__mmask64{0} : count <= 0 ? 0 : (__mmask64{1} << count) - 1;
}

struct TableRegisters {
  __m512i part[4];
};

ENTANGLE_VBMI inline TableRegisters registers_of(const uint8_t* table) {
  TableRegisters t;
  for (int i = 0; i < 4; ++i) t.part[i] = _mm512_loadu_si512(table + i * kBytes);
  return t;
}

ENTANGLE_VBMI inline __m512i taken(const TableRegisters& t, __m512i values) {
  const __m512i lower = _mm512_permutex2var_epi8(t.part[0], values, t.part[1]);
  const __m512i upper = _mm512_permutex2var_epi8(t.part[2], values, t.part[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(values), lower, upper);
}

ENTANGLE_VBMI void look_up_vbmi(const Lookup& table, int64_t count, uint8_t* values) {
  const TableRegisters registers = registers_of(table.data());
  for (int64_t i = 0; i < count; i += kBytes) {
    const __mmask64 there = first_bytes(count - i);
    const __m512i from = _mm512_maskz_loadu_epi8(there, values + i);
    _mm512_mask_storeu_epi8(values + i, there, taken(registers, from));
  }
}

// Byte i of 64 is of channel (i + shift) mod 3, and 64 = 1 mod 3.
ENTANGLE_VBMI void look_up_channels_vbmi(const std::array<Lookup, kChannels>& tables, int64_t pixels, uint8_t* values) {
  const __mmask64 every_third = 0x9249249249249249u;
  const TableRegisters of[] = {registers_of(tables[0].data()), registers_of(tables[1].data()),
                               registers_of(tables[2].data())};
  for (int64_t i = 0, count = pixels * kChannels; i < count; i += kBytes) {
    const __mmask64 there = first_bytes(count - i);
    const __m512i from = _mm512_maskz_loadu_epi8(there, values + i);
    const int64_t shift = i % kChannels;
    const __mmask64 second = every_third << ((4 - shift) % 3), third = every_third << ((5 - shift) % 3);
    __m512i to = taken(of[0], from);
    to = _mm512_mask_mov_epi8(to, second, taken(of[1], from));
    to = _mm512_mask_mov_epi8(to, third, taken(of[2], from));
    _mm512_mask_storeu_epi8(values + i, there, to);
  }
}

// The four bytes of each float are woven together within lanes of 16 bytes; the values are put in the order beforehand
// that comes out ascending.
ENTANGLE_VBMI void look_up_floats_vbmi(const std::array<Lookup, 4>& bytes, int64_t count, const uint8_t* values,
                                       float* out) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const TableRegisters table[] = {registers_of(bytes[0].data()), registers_of(bytes[1].data()),
                                  registers_of(bytes[2].data()), registers_of(bytes[3].data())};
  for (int64_t i = 0; i < count; i += kBytes) {
    const int64_t rest = count - i;
    const __m512i from =
        _mm512_maskz_permutexvar_epi32(0xFFFF, order, _mm512_maskz_loadu_epi8(first_bytes(rest), values + i));
    const __m512i b0 = taken(table[0], from), b1 = taken(table[1], from);
    const __m512i b2 = taken(table[2], from), b3 = taken(table[3], from);
    const __m512i low_first = _mm512_unpacklo_epi8(b0, b1), low_last = _mm512_unpackhi_epi8(b0, b1);
    const __m512i high_first = _mm512_unpacklo_epi8(b2, b3), high_last = _mm512_unpackhi_epi8(b2, b3);
    const __m512i floats[] = {_mm512_unpacklo_epi16(low_first, high_first),
                              _mm512_unpackhi_epi16(low_first, high_first), _mm512_unpacklo_epi16(low_last, high_last),
                              _mm512_unpackhi_epi16(low_last, high_last)};
    for (int64_t k = 0; k < 4; ++k) {
      const __mmask16 there = static_cast<__mmask16>(first_bytes(rest - 16 * k) & 0xFFFF);
      _mm512_mask_storeu_epi32(out + i + 16 * k, there, floats[k]);
    }
  }
}

// Where the bytes of a channel of 64 pixels lie among 192: below 128 in two registers, above in the third.
struct ChannelPlaces {
  alignas(64) uint8_t place[2][kChannels][kBytes];
  ChannelPlaces() {
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t x = 0; x < kBytes; ++x) {
        place[0][c][x] = static_cast<uint8_t>(kChannels * x + c);
        place[1][c][x] = static_cast<uint8_t>(kChannels * (kBytes - 1 - x) + c);
      }
    }
  }
};

ENTANGLE_VBMI void split_channels_vbmi(const uint8_t* row, int64_t pixels, bool mirrored, uint8_t* planes) {
  static const ChannelPlaces places;
  for (int64_t x = 0; x < pixels; x += kBytes) {
    const int64_t count = pixels - x < kBytes ? pixels - x : kBytes, bytes = count * kChannels;
    const uint8_t* from = row + (mirrored ? pixels - x - count : x) * kChannels;
    const __m512i first = _mm512_maskz_loadu_epi8(first_bytes(bytes), from);
    const __m512i second = _mm512_maskz_loadu_epi8(first_bytes(bytes - kBytes), from + kBytes);
    const __m512i third = _mm512_maskz_loadu_epi8(first_bytes(bytes - 2 * kBytes), from + 2 * kBytes);
    // Of fewer pixels the last one comes first.
    const __m512i earlier = _mm512_set1_epi8(static_cast<char>(mirrored ? kChannels * (kBytes - count) : 0));
    for (int64_t c = 0; c < kChannels; ++c) {
      const __m512i place = _mm512_sub_epi8(_mm512_load_si512(places.place[mirrored][c]), earlier);
      const __m512i below = _mm512_permutex2var_epi8(first, place, second);
      const __m512i all = _mm512_mask_permutexvar_epi8(below, _mm512_movepi8_mask(place), place, third);
      _mm512_mask_storeu_epi8(planes + c * pixels + x, first_bytes(count), all);
    }
  }
}
#endif

}  // namespace

void look_up(const Lookup& table, int64_t count, uint8_t* values) {
#if defined(ENTANGLE_VBMI)
  if (has_vbmi()) return look_up_vbmi(table, count, values);
#endif
  for (int64_t i = 0; i < count; ++i) values[i] = table[values[i]];
}

void look_up_channels(const std::array<Lookup, kChannels>& tables, int64_t pixels, uint8_t* values) {
#if defined(ENTANGLE_VBMI)
  if (has_vbmi()) return look_up_channels_vbmi(tables, pixels, values);
#endif
  for (int64_t i = 0; i < pixels; ++i, values += kChannels) {
    for (size_t c = 0; c < kChannels; ++c) values[c] = tables[c][values[c]];
  }
}

bool has_wide_lookups() {
#if defined(ENTANGLE_VBMI)
  return has_vbmi();
#else
  return false;
#endif
}

FloatLookup::FloatLookup(const float* table) {
  std::copy_n(table, table_.size(), table_.begin());
  for (size_t v = 0; v < table_.size(); ++v) {
    uint8_t bytes[4];
    std::memcpy(bytes, &table_[v], sizeof bytes);
    for (size_t b = 0; b < 4; ++b) bytes_[b][v] = bytes[b];
  }
}

void FloatLookup::apply(int64_t count, const uint8_t* values, float* out) const {
#if defined(ENTANGLE_VBMI)
  if (has_vbmi()) return look_up_floats_vbmi(bytes_, count, values, out);
#endif
  for (int64_t i = 0; i < count; ++i) out[i] = table_[values[i]];
}

void split_channels(const uint8_t* row, int64_t pixels, bool mirrored, uint8_t* planes) {
#if defined(ENTANGLE_VBMI)
  if (has_vbmi()) return split_channels_vbmi(row, pixels, mirrored, planes);
#endif
  for (int64_t x = 0; x < pixels; ++x) {
    const uint8_t* pixel = row + (mirrored ? pixels - 1 - x : x) * kChannels;
    for (int64_t c = 0; c < kChannels; ++c) planes[c * pixels + x] = pixel[c];
  }
}

}  // namespace entangle
