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
// A needs no packing because only broadcasts read it: a broadcast costs the same at any stride. The last panel has as
// many vectors as its columns need.
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

// How many columns the panel that begins at column j has in memory.
static inline int64_t panel_width(int64_t columns, int64_t j) {
  return min_of(kPanel, chunks_of(columns - j, kLanes) * kLanes);
}

static inline int64_t packed_floats(int64_t depth, int64_t columns) {
  return chunks_of(columns, kLanes) * kLanes * depth;
}

// What the tile behind this one touches first: where its rows of A and its rows of C begin. A tile asks for them while
// it multiplies, a line at a time: asked for all at once, or not at all, they would be waited for.
template <class Element>
struct Ahead {
  const Element* a;
  int64_t a_row;
  const float* c;
};

// acc += step k of A times step k of the panel.
template <int rows, int vectors, class Element>
static inline void multiply_step(vec (&acc)[rows][vectors], const View<Element>& a, const Element* panel, int64_t k) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      multiply_add(acc[i][v], a.data + i * a.row + k * a.col, panel + (k * vectors + v) * kLanes);
    }
  }
}

// A tile of C, `depth` elements deep. The sums begin at start[column] (whole vectors; null: at zero). The last panel's
// tile may end within a vector.
template <int rows, int vectors, class Element>
static inline void tile(const View<Element>& a, const Element* panel, int64_t depth, float* c, int64_t c_row,
                        int64_t columns, const float* start, bool add, const Ahead<Element>& ahead) {
  enum { width = vectors * kLanes, kSteps = 16 / rows };  // a line has 16 elements; every row's is asked for by turns
  vec acc[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) acc[i][v] = start != nullptr ? load(start + v * kLanes) : vec{};
  }
  int64_t k = 0;
  const float* next_c = ahead.c;
  for (int64_t line = 0; k + rows * kSteps <= depth; ++line) {
    if (line < rows) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) __builtin_prefetch(next_c + v * kLanes, 1);
      next_c += c_row;
    }
    const Element* next_a = ahead.a + k;
    for (int i = 0; i < rows; ++i, next_a += ahead.a_row) {
      __builtin_prefetch(next_a, 0, 2);
      for (int step = 0; step < kSteps; ++step, ++k) multiply_step<rows, vectors>(acc, a, panel, k);
    }
  }
  for (; k < depth; ++k) multiply_step<rows, vectors>(acc, a, panel, k);
  if (columns == width) {
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        float* p = c + i * c_row + v * kLanes;
        store(p, add ? acc[i][v] + load(p) : acc[i][v]);
      }
    }
    return;
  }
  float square[rows][width];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store(square[i] + v * kLanes, acc[i][v]);
  }
  for (int i = 0; i < rows; ++i) {
    float* p = c + i * c_row;
    for (int64_t j = 0; j < columns; ++j) p[j] = add ? p[j] + square[i][j] : square[i][j];
  }
}

// The same for the last rows of a matrix, fewer than kRows.
template <int rows, int vectors, class Element>
static inline void last_tile(int64_t count, const View<Element>& a, const Element* panel, int64_t depth, float* c,
                             int64_t c_row, int64_t columns, const float* start, bool add) {
  if constexpr (rows > 0) {
    if (count == rows) return tile<rows, vectors>(a, panel, depth, c, c_row, columns, start, add, {a.data, 0, c});
    last_tile<rows - 1, vectors>(count, a, panel, depth, c, c_row, columns, start, add);
  }
}

// C[rows, columns] (+)= A B with one panel of B, which has the fewest vectors that hold the columns. `first`: no panel
// before this one has brought the rows of A into the cache.
template <int vectors = kVectors, class Element>
static inline void multiply_panel(int64_t rows, const View<Element>& a, const Element* panel, int64_t depth, float* c,
                                  int64_t c_row, int64_t columns, const float* start, bool add, bool first) {
  if constexpr (vectors > 1) {
    if (columns <= (vectors - 1) * kLanes) {
      return multiply_panel<vectors - 1>(rows, a, panel, depth, c, c_row, columns, start, add, first);
    }
  }
  View<Element> rest = a;
  const float* next_panel = c + kPanel;
  for (; rows >= kRows; rows -= kRows) {
    const bool last = rows < 2 * kRows;
    const Ahead<Element> ahead = {first && !last ? rest.data + kRows * a.row : rest.data, a.row,
                                  last ? next_panel : c + kRows * c_row};
    tile<kRows, vectors>(rest, panel, depth, c, c_row, columns, start, add, ahead);
    rest.data += kRows * a.row;
    c += kRows * c_row;
  }
  last_tile<kRows - 1, vectors>(rows, rest, panel, depth, c, c_row, columns, start, add);
}

// All panels of a packed B; start has a value for every column, padded to whole vectors, or is null. Deep products are
// cut so that the part of a panel in use stays in the L1 cache.
template <class Element>
static inline void multiply_packed(int64_t rows, int64_t columns, int64_t depth, const View<Element>& a,
                                   const Element* packed, float* c, int64_t c_row, const float* start, bool add) {
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t deep = min_of(kDepth, depth - k);
    const View<Element> part = {a.data + k * a.col, a.row, a.col};
    for (int64_t j = 0; j < columns; j += kPanel) {
      multiply_panel(rows, part, packed + j * depth + k * panel_width(columns, j), deep, c + j, c_row,
                     min_of(kPanel, columns - j), start != nullptr && k == 0 ? start + j : nullptr, add || k > 0,
                     j == 0);
    }
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
