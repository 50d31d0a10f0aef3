// Bicubic values of a turned image on AVX-512: the same arithmetic as data/transform.cpp's, so the same bits. A
// permutation of bytes puts the four that a value lies between side by side; the terms of the cubic are sums of their
// products with small numbers.
//
//   p00 p01 p02 p03   p10 p11 ...   ->   r00 r01 r02 r03   g00 g01 g02 g03   ...   r10 r11 r12 r13   ...
#include "data/rgb.h"
#include "data/transform_rows.h"

#if defined(ENTANGLE_VBMI)

namespace entangle {

namespace {

struct Wide {
  __m512i order[2];  // where the four lie in one row, or one below the other
  __m512i take, p2, p3, p4;
};

ENTANGLE_VBMI inline void prepare(Wide& w) {
  uint8_t in_row[64], in_column[64];
  for (int i = 0; i < 64; ++i) {
    const int unit = i / 16, channel = i / 4 % 4, tap = i % 4;
    in_row[i] = static_cast<uint8_t>(unit * 16 + tap * 4 + channel);
    in_column[i] = static_cast<uint8_t>(tap * 16 + unit * 4 + channel);
  }
  w.order[0] = _mm512_loadu_si512(in_row);
  w.order[1] = _mm512_loadu_si512(in_column);
  const auto factors = [](int a, int b, int c, int d) {
    return static_cast<int>((a & 255u) | (b & 255u) << 8 | (c & 255u) << 16 | (d & 255u) << 24);
  };
  w.take = _mm512_set1_epi32(factors(0, 1, 0, 0));
  w.p2 = _mm512_set1_epi32(factors(-1, 0, 1, 0));
  w.p3 = _mm512_set1_epi32(factors(2, -2, 1, -1));
  w.p4 = _mm512_set1_epi32(factors(-1, 1, -1, 1));
}

ENTANGLE_VBMI inline __m512d cubic_of(__m512d p1, __m512d p2, __m512d p3, __m512d p4, __m512d d) {
  const __m512d inner = _mm512_add_pd(p3, _mm512_mul_pd(d, p4));
  return _mm512_add_pd(p1, _mm512_mul_pd(d, _mm512_add_pd(p2, _mm512_mul_pd(d, inner))));
}

ENTANGLE_VBMI inline __m512d lower(__m512i v) { return _mm512_cvtepi32_pd(_mm512_castsi512_si256(v)); }
ENTANGLE_VBMI inline __m512d upper(__m512i v) { return _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(v, 1)); }

ENTANGLE_VBMI inline void between_bytes(const Wide& w, __m512i bytes, __m512d d_low, __m512d d_high, __m512d& low,
                                        __m512d& high) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i p1 = _mm512_dpbusd_epi32(zero, bytes, w.take), p2 = _mm512_dpbusd_epi32(zero, bytes, w.p2);
  const __m512i p3 = _mm512_dpbusd_epi32(zero, bytes, w.p3), p4 = _mm512_dpbusd_epi32(zero, bytes, w.p4);
  low = cubic_of(lower(p1), lower(p2), lower(p3), lower(p4), d_low);
  high = cubic_of(upper(p1), upper(p2), upper(p3), upper(p4), d_high);
}

ENTANGLE_VBMI inline __m128i at(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

// Four pieces of 16 bytes.
ENTANGLE_VBMI inline __m512i pieces(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(at(a)), at(b), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(at(c)), at(d), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// d[0] four times and d[1] four times.
ENTANGLE_VBMI inline __m512d of_two(const double* d) {
  const __m512i order = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
  return _mm512_permutexvar_pd(order, _mm512_castpd128_pd512(_mm_loadu_pd(d)));
}

// Four pixels as store_pixels writes them.
ENTANGLE_VBMI inline void store_four(__m512d low, __m512d high, uint8_t* out) {
  const __m512i all =
      _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvttpd_epi32(low)), _mm512_cvttpd_epi32(high), 1);
  const __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(all, _mm512_setzero_si512()));
  const __m128i order = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(bytes, order));
}

ENTANGLE_VBMI inline __m512d two_wide(const Wide& w, const uint8_t* in, int64_t stride, const Places& places,
                                      size_t i) {
  __m512d low[2], high[2];
  for (size_t k = 0; k < 2; ++k) {
    const uint8_t* first = in + places.first[i + k];
    const __m512i rows = pieces(first, first + stride, first + 2 * stride, first + 3 * stride);
    const __m512d d = _mm512_set1_pd(places.right[i + k]);
    between_bytes(w, _mm512_permutexvar_epi8(w.order[0], rows), d, d, low[k], high[k]);
  }
  const __m512d v0 = _mm512_shuffle_f64x2(low[0], low[1], 0x44), v1 = _mm512_shuffle_f64x2(low[0], low[1], 0xEE);
  const __m512d v2 = _mm512_shuffle_f64x2(high[0], high[1], 0x44), v3 = _mm512_shuffle_f64x2(high[0], high[1], 0xEE);
  const __m512d p2 = _mm512_sub_pd(v2, v0), first = _mm512_sub_pd(v0, v1);
  const __m512d p3 = _mm512_sub_pd(_mm512_add_pd(_mm512_add_pd(first, first), v2), v3);
  const __m512d p4 = _mm512_add_pd(_mm512_sub_pd(_mm512_sub_pd(v1, v0), v2), v3);
  return cubic_of(v1, p2, p3, p4, of_two(places.down.data() + i));
}

// The taps of four pixels by one step, in the order of their values.
ENTANGLE_VBMI inline __m512i taps_of(const Wide& w, Steps steps, const uint8_t* in, int64_t stride,
                                     const int32_t* first) {
  if (steps == Steps::across) {
    const uint8_t* row = in + stride;
    const __m512i taps = pieces(row + first[0], row + first[1], row + first[2], row + first[3]);
    return _mm512_permutexvar_epi8(w.order[0], taps);
  }
  const uint8_t* top = in + kFour;
  __m512i taps;
  if (first[3] - first[0] == 3 * kFour) {  // on one row
    const uint8_t* row = top + first[0];
    taps = pieces(row, row + stride, row + 2 * stride, row + 3 * stride);
  } else {
    const __m512i rows = _mm512_mullo_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                                            _mm512_set1_epi32(static_cast<int32_t>(stride)));
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
    taps = _mm512_i32gather_epi32(_mm512_add_epi32(rows, _mm512_broadcast_i32x4(four)), top, 1);
  }
  return _mm512_permutexvar_epi8(w.order[1], taps);
}

}  // namespace

ENTANGLE_VBMI void bicubic_pixels(Steps steps, const uint8_t* in, int64_t stride, const Places& places, int64_t count,
                                  uint8_t* out) {
  Wide w;
  prepare(w);
  const double* one_step = (steps == Steps::across ? places.right : places.down).data();
  for (int64_t i = 0; i < count; i += kFour, out += kFour * kChannels) {
    const size_t at = static_cast<size_t>(i);
    __m512d low, high;
    if (steps == Steps::both) {
      low = two_wide(w, in, stride, places, at);
      high = two_wide(w, in, stride, places, at + 2);
    } else {
      const __m512i taps = taps_of(w, steps, in, stride, places.first.data() + i);
      between_bytes(w, taps, of_two(one_step + i), of_two(one_step + i + 2), low, high);
    }
    store_four(low, high, out);
  }
}

}  // namespace entangle
#endif
