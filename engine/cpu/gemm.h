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

// Lines of memory that are read soon. A tile asks for them while it multiplies, one after another: asked for all at once,
// or not at all, they would be waited for. With every 16 steps of k it asks for kRows lines, `row` apart; the next ones
// begin `step` further.
struct Lines {
  const void* first;
  int64_t step, row;  // in numbers of four bytes

  const float* numbers() const { return static_cast<const float*>(first); }
};

// A matrix whose lines several tiles share out: each asks for some rows of one column of lines.
struct Upcoming {
  const float* data;
  int64_t rows, row, lines;  // rows that begin `row` apart, of `lines` lines each

  // The share of tile number t of those that are `depth` deep; what lies behind the last row is asked for in vain.
  Lines share(int64_t t, int64_t depth) const {
    const int64_t first = t / lines * (depth / 16 * kRows);
    return first < rows ? Lines{data + first * row + t % lines * 16, kRows * row, row} : Lines{data, 0, 0};
  }
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
// tile may end within a vector. next_c: the tile of C behind this one.
template <int rows, int vectors, class Element>
static inline void tile(const View<Element>& a, const Element* panel, int64_t depth, float* c, int64_t c_row,
                        int64_t columns, const float* start, bool add, const Lines& soon, const float* next_c) {
  enum { width = vectors * kLanes, kSteps = 16 / rows };  // steps of k from one line that is asked for to the next
  vec acc[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) acc[i][v] = start != nullptr ? load(start + v * kLanes) : vec{};
  }
  int64_t k = 0;
  const float* next = soon.numbers();
  for (int64_t round = 0; k + rows * kSteps <= depth; ++round, next += soon.step) {
    if (round < rows) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) __builtin_prefetch(next_c + v * kLanes, 1);
      next_c += c_row;
    }
    for (int i = 0; i < rows; ++i) {
      __builtin_prefetch(next + i * soon.row, 0, 2);
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
    if (count == rows) return tile<rows, vectors>(a, panel, depth, c, c_row, columns, start, add, {c, 0, 0}, c);
    last_tile<rows - 1, vectors>(count, a, panel, depth, c, c_row, columns, start, add);
  }
}

// C[rows, columns] (+)= A B with one panel of B, which has the fewest vectors that hold the columns. soon(t): what tile t
// of the panel asks for.
template <int vectors = kVectors, class Element, class F>
static inline void multiply_panel(int64_t rows, const View<Element>& a, const Element* panel, int64_t depth, float* c,
                                  int64_t c_row, int64_t columns, const float* start, bool add, const F& soon) {
  if constexpr (vectors > 1) {
    if (columns <= (vectors - 1) * kLanes) {
      return multiply_panel<vectors - 1>(rows, a, panel, depth, c, c_row, columns, start, add, soon);
    }
  }
  const int64_t tiles = rows / kRows;
  for (int64_t t = 0; t < tiles; ++t) {
    const View<Element> part = {a.data + t * kRows * a.row, a.row, a.col};
    float* to = c + t * kRows * c_row;
    tile<kRows, vectors>(part, panel, depth, to, c_row, columns, start, add, soon(t),
                         t + 1 < tiles ? to + kRows * c_row : c + kPanel);
  }
  const int64_t done = tiles * kRows;
  last_tile<kRows - 1, vectors>(rows - done, View<Element>{a.data + done * a.row, a.row, a.col}, panel, depth,
                                c + done * c_row, c_row, columns, start, add);
}

// All panels of a packed B; start has a value for every column, padded to whole vectors, or is null. Deep products are
// cut so that the part of a panel in use stays in the L1 cache. The tiles of the first panel ask for the rows of A that
// the ones behind them read first.
template <class Element>
static inline void multiply_packed(int64_t rows, int64_t columns, int64_t depth, const View<Element>& a,
                                   const Element* packed, float* c, int64_t c_row, const float* start, bool add) {
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t deep = min_of(kDepth, depth - k);
    const View<Element> part = {a.data + k * a.col, a.row, a.col};
    for (int64_t j = 0; j < columns; j += kPanel) {
      const int64_t unread = j == 0 ? rows / kRows - 1 : 0;
      const auto soon = [&](int64_t t) {
        return t < unread ? Lines{part.data + (t + 1) * kRows * a.row, 16, a.row} : Lines{part.data, 0, 0};
      };
      multiply_panel(rows, part, packed + j * depth + k * panel_width(columns, j), deep, c + j, c_row,
                     min_of(kPanel, columns - j), start != nullptr && k == 0 ? start + j : nullptr, add || k > 0, soon);
    }
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
