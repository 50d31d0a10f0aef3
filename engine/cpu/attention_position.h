// Relative position of the patches of a grid, for one query at a time: looking up its terms, summing by bucket.
//
// Both tables of a kind are written into one of `places` rows with a row for every distance that occurs, so that a
// clamped distance is a repeated row and the two rows of the class token's bucket are one:
//
//   0                     2 side - 1        2 side                      4 side - 1
//   | vertical, -(side-1) .. side-1 | class | horizontal, -(side-1) .. side-1 |        row d of the table: [D]
//
// q_i . table is a row of `places` terms. For query i at (row r, column c) the terms that its keys need are contiguous:
// those of the key rows begin at vertical distance -r, those of the key columns at horizontal distance -c.
//
//   keys:   | class | grid row 0: side keys | grid row 1 | ...
//                   [ vector ][ vector ]    [ vector ][ vector ]        term of key (k, l):
//                                                                       vertical[k - r] + horizontal[l - c]
//
// The keys stay dense, whatever the side: the vectors of a grid row begin at its first key and the last one reaches
// into the next grid row. Its foreign lanes are overwritten (lookups: columns in descending, grid rows in ascending
// order) or ignored (sums). Lines of keys and of terms therefore have room for a further vector behind them.
#pragma once

#include "engine/cpu/simd.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

struct Grid {
  int64_t side, most;  // most: max_relative_position, 0 for none

  int64_t tokens() const { return 1 + side * side; }
  int64_t places() const { return most > 0 ? 4 * side - 1 : 0; }
  int64_t class_place() const { return 2 * side - 1; }
  // Where the terms of the first key row and of the first key column begin for query i > 0.
  int64_t vertical(int64_t i) const { return side - 1 - (i - 1) / side; }
  int64_t horizontal(int64_t i) const { return 3 * side - 1 - (i - 1) % side; }
  // The bucket of vertical place v, and of horizontal place 2 side + v.
  int64_t bucket(int64_t v) const { return max_of(-most, min_of(most, v - (side - 1))) + most + 1; }
};

// The table of all places from a vertical and a horizontal one, rows of d.
static inline void join_tables(const Grid& grid, int64_t d, const float* vertical, const float* horizontal,
                               float* table) {
  const size_t bytes = static_cast<size_t>(d) * sizeof(float);
  for (int64_t v = 0; v < 2 * grid.side - 1; ++v) {
    memcpy(table + v * d, vertical + grid.bucket(v) * d, bytes);
    memcpy(table + (2 * grid.side + v) * d, horizontal + grid.bucket(v) * d, bytes);
  }
  for (int64_t k = 0; k < d; ++k) table[grid.class_place() * d + k] = vertical[k] + horizontal[k];
}

static inline void add_row(int64_t d, const float* from, float* to) {
  for (int64_t k = 0; k < d; ++k) to[k] += from[k];
}

// Adds the gradient of the joined table to those of its two parts.
static inline void add_joined(const Grid& grid, int64_t d, const float* table, float* vertical, float* horizontal) {
  for (int64_t v = 0; v < 2 * grid.side - 1; ++v) {
    add_row(d, table + v * d, vertical + grid.bucket(v) * d);
    add_row(d, table + (2 * grid.side + v) * d, horizontal + grid.bucket(v) * d);
  }
  add_row(d, table + grid.class_place() * d, vertical);
  add_row(d, table + grid.class_place() * d, horizontal);
}

// line[j] = the term of key j for query i, whose terms these are.
static inline void look_up(const Grid& grid, int64_t i, const float* terms, float* line) {
  const int64_t side = grid.side;
  const float with_class = terms[grid.class_place()];
  if (i == 0) {
    for (int64_t j = 0; j < grid.tokens(); j += kLanes) store(line + j, splat(with_class));
    return;
  }
  const float *vertical = terms + grid.vertical(i), *horizontal = terms + grid.horizontal(i);
  for (int64_t l = (side - 1) / kLanes * kLanes; l >= 0; l -= kLanes) {
    const vec columns = load(horizontal + l);
    for (int64_t k = 0; k < side; ++k) store(line + 1 + k * side + l, columns + vertical[k]);
  }
  line[0] = with_class;
}

// sums[place] = sum of the values of the keys at that place from query i.
static inline void sum_places(const Grid& grid, int64_t i, const float* values, float* sums) {
  const int64_t side = grid.side;
  for (int64_t place = 0; place < grid.places(); place += kLanes) store(sums + place, vec{});
  if (i == 0) {
    vec all = {};
    for_vectors(grid.tokens(), [&](int64_t j, int64_t count) { all += keep_first(load(values + j), count); });
    sums[grid.class_place()] = sum_of(all);
    return;
  }
  float *vertical = sums + grid.vertical(i), *horizontal = sums + grid.horizontal(i);
  const int64_t last = (side - 1) / kLanes * kLanes;  // where the last vector of a grid row begins
  const float* keys = values + 1;
  for (int64_t k = 0; k < side; k += kLanes) {
    vec rows[kLanes];
#pragma GCC unroll 16
    for (int row = 0; row < kLanes; ++row) {
      rows[row] = vec{};
      if (k + row < side) {
        rows[row] = keep_first(load(keys + last), side - last);
        for (int64_t l = 0; l < last; l += kLanes) rows[row] += load(keys + l);
        keys += side;
      }
    }
    store(vertical + k, over_lanes(rows, plus));  // zeros beyond the last grid row
  }
  for (int64_t l = 0; l <= last; l += kLanes) {
    vec sum = {};
    for (int64_t k = 0; k < side; ++k) sum += load(values + 1 + k * side + l);
    store(horizontal + l, l == last ? keep_first(sum, side - last) : sum);
  }
  sums[grid.class_place()] = values[0];
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
