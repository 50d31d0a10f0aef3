// Small vectors for pixels, and functions compiled for AVX2 and AVX-512 as well, chosen when the program starts.
#pragma once

#include <cstdint>
#include <cstring>

#include "engine/kernel.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the header's undefined registers for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace entangle {

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define ENTANGLE_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), optimize("O3")))
#else
#define ENTANGLE_CLONES
#endif
// Functions of a processor's own instructions, for what the compiler does not find by itself, beside a portable one of
// the same results. Whether they are taken follows the path of the kernels, so that tests can have each.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ENTANGLE_AVX2 __attribute__((target("avx2"), optimize("O3")))
#define ENTANGLE_VBMI \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni"), optimize("O3")))
#endif
#define ENTANGLE_INLINE inline __attribute__((always_inline))

#if defined(ENTANGLE_AVX2)
inline bool has_avx2() { return cpu_path() >= CpuPath::avx2; }
inline bool has_vbmi() {  // what its functions take is in all processors since the first that have VBMI
  return cpu_path() >= CpuPath::avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

// Four channels of a pixel; an RGB pixel leaves the last one to chance.
typedef uint8_t Bytes4 __attribute__((vector_size(4)));
typedef int32_t Ints4 __attribute__((vector_size(16)));
typedef float Floats4 __attribute__((vector_size(16)));
typedef double Doubles4 __attribute__((vector_size(32)));

ENTANGLE_INLINE void load_pixel(const uint8_t* four_bytes, Ints4& to) {
  Bytes4 bytes;
  std::memcpy(&bytes, four_bytes, sizeof bytes);
  to = __builtin_convertvector(bytes, Ints4);
}

// Cut off to 0 .. 255 as int and written; a byte more than the pixel.
ENTANGLE_INLINE void store_pixel(const Ints4& value, uint8_t* four_bytes) {
  const Ints4 zero = {0, 0, 0, 0}, most = {255, 255, 255, 255};
  Ints4 clipped = value > zero ? value : zero;
  clipped = clipped < most ? clipped : most;
  const Bytes4 bytes = __builtin_convertvector(clipped, Bytes4);
  std::memcpy(four_bytes, &bytes, sizeof bytes);
}

}  // namespace entangle
