// Matrix products of one (image, head): C = start + A B, operands small enough to stay in the caches.
//
// A is read where it lies; B is packed into panels, and one tile of C stays in registers (engine/cpu/gemm.h explains
// why). Here B is narrow, D or N or 4 side - 1 columns, so panels of one width would leave a large part of the last one
// empty. The columns are cut into vectors, the vectors into the fewest panels of at most kMostVectors, and these differ
// by one vector at most; a narrower panel has a taller tile, so about as many accumulators are in use.
//
//   N = 197 with 8 lanes: 25 vectors     | 2 | 2 | 2 | ... | 2 | 1 |      12 panels with 6 x 2 tiles, one with 8 x 1
//   N = 197 with 16 lanes: 13 vectors    | 4  | 3 | 3 | 3 |               one with 6 x 4 tiles, three with 8 x 3
//
// Element (k, j) of a panel of v vectors that begins at column j0: packed[j0*steps + k*v*kLanes + j - j0], zeros beyond
// the last column; a precision has a step for kStep rows of B (engine/cpu/precision.h).
#pragma once

#include "engine/cpu/precision.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

#if defined(ENTANGLE_ISA_avx512) || defined(ENTANGLE_ISA_avx512_bf16)
enum { kMostVectors = 4, kAccumulators = 24, kMostTileRows = 12 };
#elif defined(ENTANGLE_ISA_avx2)
enum { kMostVectors = 2, kAccumulators = 12, kMostTileRows = 8 };
#else
enum { kMostVectors = 2, kAccumulators = 8, kMostTileRows = 8 };
#endif
enum { kPanelDepth = 256, kAhead = 16 };  // that many rows of a panel stay in the L1 cache

static constexpr int tile_rows(int vectors) {
  return kAccumulators / vectors < kMostTileRows ? kAccumulators / vectors : kMostTileRows;
}

// A packed B [depth, columns].
template <class P>
struct Packed {
  typename P::Element* data;
  int64_t depth, columns;

  int64_t steps() const { return chunks_of(depth, P::kStep); }
  int64_t vectors() const { return chunks_of(columns, kLanes); }
  int64_t panels() const { return chunks_of(vectors(), kMostVectors); }
  int64_t first_vector(int64_t panel) const {
    return panel * (vectors() / panels()) + min_of(panel, vectors() % panels());
  }
  int64_t elements() const { return vectors() * kLanes * steps(); }
};

// Packs rows: b(k, j) at b[k*stride + j].
template <class P>
static void pack_rows(const float* b, int64_t stride, const Packed<P>& to) {
  for (int64_t panel = 0; panel < to.panels(); ++panel) {
    const int64_t first = to.first_vector(panel) * kLanes, width = to.first_vector(panel + 1) * kLanes - first;
    const int64_t inside = min_of(width, to.columns - first);
    typename P::Element* out = to.data + first * to.steps();
    for (int64_t k = 0; k < to.depth; k += P::kStep, out += width) {
      const float* row = b + k * stride + first;
      prefetch(inside, row + kAhead * stride);
      interleave<P>(row, k + 1 < to.depth ? row + stride : nullptr, inside, out);
      for (int64_t j = inside; j < width; ++j) out[j] = typename P::Element{};
    }
  }
}

// Packs the transpose: b(k, j) at b[j*stride + k].
template <class P>
static void pack_transposed(const float* b, int64_t stride, const Packed<P>& to) {
  for (int64_t panel = 0; panel < to.panels(); ++panel) {
    const int64_t first = to.first_vector(panel) * kLanes, width = to.first_vector(panel + 1) * kLanes - first;
    typename P::Element* out = to.data + first * to.steps();
    for (int64_t j = 0; j < width; j += kLanes) {
      const int64_t count = min_of(to.columns - first - j, kLanes);
      const float* from = b + (first + j) * stride;
      for (int64_t l = 0; l < kLanes; ++l) prefetch(to.depth, from + (kLanes + l) * stride);
      for (int64_t k = 0; k < to.steps(); k += kLanes) {
        const int64_t deep = min_of(to.depth - k * P::kStep, kLanes * P::kStep);
        vec x[kLanes];
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; ++l) {
          x[l] = l < count ? P::elements(from + l * stride + k * P::kStep, deep) : vec{};
        }
        transpose(x);
        for (int64_t l = 0; l < min_of(to.steps() - k, kLanes); ++l) {
          store(reinterpret_cast<float*>(out + (k + l) * width + j), x[l]);
        }
      }
    }
  }
}

// One tile of C, `depth` steps deep, all columns of the panel. `start` (null: zeros) is added to the finished sums:
// a sum that began at a large gradient would round every product to its size.
template <int rows, int vectors, class E>
static inline void whole_tile(const View<E>& a, const E* panel, int64_t depth, const float* start, int64_t start_row,
                              float* c, int64_t c_row) {
  vec acc[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) acc[i][v] = vec{};
  }
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        multiply_add(acc[i][v], a.data + i * a.row + k * a.col, panel + (k * vectors + v) * kLanes);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int64_t j = v * kLanes;
      store(c + i * c_row + j, start != nullptr ? load(start + i * start_row + j) + acc[i][v] : acc[i][v]);
    }
  }
}

// The same for a panel of which C has only the first `columns`.
template <int rows, int vectors, class E>
static inline void product_tile(const View<E>& a, const E* panel, int64_t depth, const float* start, int64_t start_row,
                                float* c, int64_t c_row, int64_t columns) {
  enum { width = vectors * kLanes };
  if (columns >= width) return whole_tile<rows, vectors>(a, panel, depth, start, start_row, c, c_row);
  float whole[rows * width] = {};
  for (int i = 0; start != nullptr && i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) whole[i * width + j] = start[i * start_row + j];
  }
  whole_tile<rows, vectors>(a, panel, depth, whole, width, whole, width);
  for (int i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * c_row + j] = whole[i * width + j];
  }
}

// The last rows of a matrix, fewer than a tile has.
template <int rows, int vectors, class E>
static inline void last_product_tile(int64_t count, const View<E>& a, const E* panel, int64_t depth, const float* start,
                                     int64_t start_row, float* c, int64_t c_row, int64_t columns) {
  if constexpr (rows > 0) {
    if (count == rows) return product_tile<rows, vectors>(a, panel, depth, start, start_row, c, c_row, columns);
    last_product_tile<rows - 1, vectors>(count, a, panel, depth, start, start_row, c, c_row, columns);
  }
}

template <int vectors, class E>
static void multiply_one_panel(int64_t rows, const View<E>& a, const E* panel, int64_t depth, const float* start,
                               int64_t start_row, float* c, int64_t c_row, int64_t columns) {
  constexpr int step = tile_rows(vectors);
  int64_t i = 0;
  const auto from = [&] { return start == nullptr ? nullptr : start + i * start_row; };
  for (; i + step <= rows; i += step) {
    product_tile<step, vectors>(View<E>{a.data + i * a.row, a.row, a.col}, panel, depth, from(), start_row,
                                c + i * c_row, c_row, columns);
  }
  last_product_tile<step - 1, vectors>(rows - i, View<E>{a.data + i * a.row, a.row, a.col}, panel, depth, from(),
                                       start_row, c + i * c_row, c_row, columns);
}

template <int vectors, class E>
static inline void multiply_panel_of(int64_t count, int64_t rows, const View<E>& a, const E* panel, int64_t depth,
                                     const float* start, int64_t start_row, float* c, int64_t c_row, int64_t columns) {
  if constexpr (vectors > 0) {
    if (count == vectors) {
      return multiply_one_panel<vectors>(rows, a, panel, depth, start, start_row, c, c_row, columns);
    }
    multiply_panel_of<vectors - 1>(count, rows, a, panel, depth, start, start_row, c, c_row, columns);
  }
}

// C[rows, columns] = start + A B. `start` is null for zeros, C itself to add to it, or another matrix. `columns` says
// how far C may be written: b.columns, or up to whole vectors when its rows have the room.
template <class P>
static void multiply(int64_t rows, const View<typename P::Element>& a, const Packed<P>& b, const float* start,
                     int64_t start_row, float* c, int64_t c_row, int64_t columns) {
  for (int64_t k = 0; k < b.steps(); k += kPanelDepth) {
    const int64_t deep = min_of(kPanelDepth, b.steps() - k);
    const View<typename P::Element> part = {a.data + k * a.col, a.row, a.col};
    for (int64_t panel = 0; panel < b.panels(); ++panel) {
      const int64_t vectors = b.first_vector(panel + 1) - b.first_vector(panel), j = b.first_vector(panel) * kLanes;
      const typename P::Element* data = b.data + j * b.steps() + k * vectors * kLanes;
      const float* begin = k > 0 ? c + j : start != nullptr ? start + j : nullptr;
      multiply_panel_of<kMostVectors>(vectors, rows, part, data, deep, begin, k > 0 ? c_row : start_row, c + j, c_row,
                                      columns - j);
    }
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
