// Matrix products for kernels: C (+)= A B, and nothing else.
//
// A is read where it lies, element (i, k) at a[i*a_row + k*a_col]; B is packed into panels of kPanel columns,
// element (k, j) of a panel at packed[k*kPanel + j], zeros beyond the last column. One tile of C stays in registers:
//
//                  kPanel = kVectors * kLanes columns
//                 +--------+--------+        for each k:  load the panel's row (kVectors loads),
//   kRows rows    |  acc   |  acc   |                     broadcast kRows elements of A,
//                 +--------+--------+                     kRows * kVectors fused multiply-adds
//
// A needs no packing because only broadcasts read it: a broadcast costs the same at any stride.
//
// An element is a number or a pair of them (engine/cpu/precision.h): the tile is the same.
#pragma once

#include "engine/cpu/precision.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

#if defined(ENTANGLE_ISA_avx512) || defined(ENTANGLE_ISA_avx512_bf16)
enum { kRows = 8, kVectors = 3 };  // 24 accumulators of 32 registers
#elif defined(ENTANGLE_ISA_avx2)
enum { kRows = 6, kVectors = 2 };  // 12 of 16
#else
enum { kRows = 4, kVectors = 2 };  // 8 of 16 (or of NEON's 32)
#endif
enum { kPanel = kVectors * kLanes, kDepth = 256 };  // kDepth: a panel of that many rows stays in the L1 cache

static inline int64_t packed_floats(int64_t depth, int64_t columns) {
  return chunks_of(columns, kPanel) * kPanel * depth;
}

// rows x kPanel tile of C, `depth` elements deep. The sums begin at start[column] (kPanel values; null: at zero). The
// last panel's tile has fewer than kPanel columns.
template <int rows, class Element>
static inline void tile(const View<Element>& a, const Element* panel, int64_t depth, float* c, int64_t c_row,
                        int64_t columns, const float* start, bool add) {
  vec acc[rows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[i][v] = start != nullptr ? load(start + v * kLanes) : vec{};
  }
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        multiply_add(acc[i][v], a.data + i * a.row + k * a.col, panel + k * kPanel + v * kLanes);
      }
    }
  }
  if (columns == kPanel) {
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        float* p = c + i * c_row + v * kLanes;
        store(p, add ? acc[i][v] + load(p) : acc[i][v]);
      }
    }
    return;
  }
  float square[rows][kPanel];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(square[i] + v * kLanes, acc[i][v]);
  }
  for (int i = 0; i < rows; ++i) {
    float* p = c + i * c_row;
    for (int64_t j = 0; j < columns; ++j) p[j] = add ? p[j] + square[i][j] : square[i][j];
  }
}

// The same for the last rows of a matrix, fewer than kRows.
template <int rows, class Element>
static inline void last_tile(int64_t count, const View<Element>& a, const Element* panel, int64_t depth, float* c,
                             int64_t c_row, int64_t columns, const float* start, bool add) {
  if constexpr (rows > 0) {
    if (count == rows) return tile<rows>(a, panel, depth, c, c_row, columns, start, add);
    last_tile<rows - 1>(count, a, panel, depth, c, c_row, columns, start, add);
  }
}

// C[rows, columns] (+)= A B with one panel of B.
template <class Element>
static inline void multiply_panel(int64_t rows, const View<Element>& a, const Element* panel, int64_t depth, float* c,
                                  int64_t c_row, int64_t columns, const float* start, bool add) {
  View<Element> rest = a;
  for (; rows >= kRows; rows -= kRows) {
    tile<kRows>(rest, panel, depth, c, c_row, columns, start, add);
    rest.data += kRows * a.row;
    c += kRows * c_row;
  }
  last_tile<kRows - 1>(rows, rest, panel, depth, c, c_row, columns, start, add);
}

// All panels of a packed B; start has a value for every column, padded to whole panels, or is null. Deep products are
// cut so that the part of a panel in use stays in the L1 cache.
template <class Element>
static inline void multiply_packed(int64_t rows, int64_t columns, int64_t depth, const View<Element>& a,
                                   const Element* packed, float* c, int64_t c_row, const float* start, bool add) {
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t deep = min_of(kDepth, depth - k);
    const View<Element> part = {a.data + k * a.col, a.row, a.col};
    for (int64_t j = 0; j < columns; j += kPanel) {
      multiply_panel(rows, part, packed + j * depth + k * kPanel, deep, c + j, c_row, min_of(kPanel, columns - j),
                     start != nullptr && k == 0 ? start + j : nullptr, add || k > 0);
    }
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
