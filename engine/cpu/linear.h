// The three products of a linear layer, for the kernels that contain one. Each packs the operand that every row block
// reads again and reads the other one where it lies:
//   y  = x W^T + b  and  dx = dy W    W is packed once; rows of the result, kRowBlock at a time, are the work
//   dW = dy^T x,  db                  x is packed, a sweep of rows and a group of columns at a time that stay in the
//                                     L2 cache; rectangles of dW are the work
// Every element is summed by one thread in one order, whatever the number of threads.
//
// The precision (engine/cpu/precision.h) is a template parameter.
#pragma once

#include "engine/cpu/gemm.h"
#include "engine/ops.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum {
  kRowBlock = 48,                        // with its slice of x it fits the L2 cache
  kWeightRows = kLanes == 16 ? 48 : 24,  // rows of dW whose columns of dy are gathered at a time
  kTaskRows = 512,                       // rows of dW of one task, at most: each task packs x again
  kTaskColumns = 256,                    // its columns: kDepth packed rows of x take a quarter of a megabyte
  kAhead = 8,                            // rows that are prefetched: the next one begins too far off for the hardware
};

// A weight, packed for products with rows of `depth` values.
template <class P>
struct PackedWeight {
  typename P::Element* panels;
  int64_t depth, columns;
  float* start;  // the bias, padded to whole vectors, or null

  int64_t steps() const { return chunks_of(depth, P::kStep); }

  // How many bytes: four for an element or a value of the bias.
  static size_t bytes(int64_t depth, int64_t columns) {
    return static_cast<size_t>(packed_floats(chunks_of(depth, P::kStep) + 1, columns)) * sizeof(float);
  }
  PackedWeight(int64_t depth_of, int64_t columns_of, void* memory)
      : panels(static_cast<typename P::Element*>(memory)), depth(depth_of), columns(columns_of), start(nullptr) {}
};

// The row of w that column `column` of y comes from: the rows of all groups, one group after another.
static inline const float* weight_row(const LinearShape& s, const float* w, int64_t column) {
  return w + (column / s.out) * s.w_group + (column % s.out) * s.w_row;
}

// Packs `count` <= kLanes rows of a weight, `depth` values each, as columns of a panel `width` columns wide; zeros in
// the other lanes.
template <class P>
static inline void pack_columns(int64_t depth, const float* const* rows, int64_t count, typename P::Element* to,
                                int64_t width) {
  const int64_t steps = chunks_of(depth, P::kStep);
  for (int64_t k = 0; k < steps; k += kLanes) {
    const int64_t deep = min_of(depth - k * P::kStep, kLanes * P::kStep);
    vec x[kLanes];
#pragma GCC unroll 16
    for (int l = 0; l < kLanes; ++l) x[l] = l < count ? P::elements(rows[l] + k * P::kStep, deep) : vec{};
    transpose(x);
    for (int64_t l = 0; l < min_of(steps - k, kLanes); ++l) {
      store(reinterpret_cast<float*>(to + (k + l) * width), x[l]);
    }
  }
}

// For y = x W^T + b.
template <class P>
static PackedWeight<P> pack_forward(const LinearShape& s, const float* w, const float* b, void* memory) {
  PackedWeight<P> packed(s.in, s.groups * s.out, memory);
  const int64_t steps = packed.steps();
  packed.start = reinterpret_cast<float*>(packed.panels + packed_floats(steps, packed.columns));
  parallel_for(chunks_of(packed.columns, kLanes), [&](int64_t vector) {
    const int64_t column = vector * kLanes, count = min_of(kLanes, packed.columns - column);
    const int64_t first = column / kPanel * kPanel, width = panel_width(packed.columns, first);
    const float* rows[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) {
      const int64_t j = column + min_of(l, count - 1);
      rows[l] = weight_row(s, w, j);
      packed.start[column + l] = b == nullptr ? 0.0f : b[(j / s.out) * s.b_group + j % s.out];
    }
    pack_columns<P>(s.in, rows, count, packed.panels + first * steps + (column - first), width);
  });
  return packed;
}

// Packs step k of all panels of a matrix with `steps` of them: `row`, and `next` where a step has two.
template <class P>
static inline void pack_row(int64_t columns, const float* row, const float* next, typename P::Element* panels,
                            int64_t steps, int64_t k) {
  const auto from = [&](int64_t j) { return P::kStep == 1 || next == nullptr ? nullptr : next + j; };
  int64_t j = 0;
  for (; j + kPanel <= columns; j += kPanel) {
    interleave<P>(row + j, from(j), kPanel, panels + j * steps + k * kPanel);
  }
  if (j == columns) return;
  const int64_t width = panel_width(columns, j);
  typename P::Element* to = panels + j * steps + k * width;
  interleave<P>(row + j, from(j), columns - j, to);
  for (int64_t i = columns - j; i < width; ++i) to[i] = typename P::Element{};
}

// For dx = dy W.
template <class P>
static PackedWeight<P> pack_backward(const LinearShape& s, const float* w, void* memory) {
  PackedWeight<P> packed(s.groups * s.out, s.in, memory);
  const int64_t steps = packed.steps();
  parallel_for(chunks_of(steps, kLanes), [&](int64_t chunk) {
    for (int64_t k = chunk * kLanes; k < min_of(steps, (chunk + 1) * kLanes); ++k) {
      const int64_t row = k * P::kStep;
      const float *from = weight_row(s, w, row), *next = row + 1 < packed.depth ? weight_row(s, w, row + 1) : nullptr;
      pack_row<P>(s.in, from, next, packed.panels, steps, k);
    }
  });
  return packed;
}

// y[rows, columns] (+)= x[rows, depth] W (+ bias), serial; x and y contiguous.
template <class P>
static void multiply_block(int64_t rows, const float* x, const PackedWeight<P>& w, float* y, bool add) {
  const int64_t steps = w.steps();
  void* memory = P::kInPlace ? nullptr : scratch(Scratch::tile, static_cast<size_t>(rows * steps) * sizeof(float));
  const auto a = left_operand<P>(rows, w.depth, x, w.depth, static_cast<typename P::Element*>(memory));
  multiply_packed(rows, w.columns, steps, a, w.panels, y, w.columns, w.start, add);
}

// A rectangle of dW: rows [row, row + rows) of all groups one after another, columns [column, column + columns).
struct WeightTask {
  int64_t row, rows, column, columns;
};

// Packs rows [0, rows) of x for a task's columns.
template <class P>
static inline void pack_activations(const WeightTask& task, int64_t rows, const float* x, int64_t x_row,
                                    typename P::Element* packed) {
  const int64_t steps = chunks_of(rows, P::kStep);
  for (int64_t k = 0; k < steps; ++k) {
    const float* row = x + k * P::kStep * x_row + task.column;
    const float* next = k * P::kStep + 1 < rows ? row + x_row : nullptr;
    for (int step = 0; step < P::kStep; ++step) prefetch(task.columns, row + (kAhead + step) * x_row);
    pack_row<P>(task.columns, row, next, packed, steps, k);
  }
}

// Copies `columns` <= kWeightRows columns of dy next to each other: a stride of many columns would put all of a column
// into a few sets of the cache. Adds the columns' sums to db unless that is null. `whole`: there are kWeightRows of
// them, and their sums stay in registers.
template <class P, bool whole>
static inline void gather_columns(int64_t rows, int64_t some, const float* dy, int64_t dy_row, typename P::Element* to,
                                  float* db) {
  const int64_t columns = whole ? int64_t{kWeightRows} : some;
  vec sums[kWeightRows / kLanes] = {};
  const auto add = [&](const float* row) {
    for_vectors(columns, [&](int64_t j, int64_t count) { sums[j / kLanes] += load_some(row + j, count); });
  };
  for (int64_t r = 0; r < rows; r += P::kStep, to += kWeightRows) {
    const float *row = dy + r * dy_row, *next = r + 1 < rows ? row + dy_row : nullptr;
    for (int step = 0; step < P::kStep; ++step) prefetch(kWeightRows, row + (2 * kAhead + step) * dy_row);
    interleave<P>(row, next, columns, to);
    if (db == nullptr) continue;
    add(row);
    if (P::kStep == 2 && next != nullptr) add(next);
  }
  if (db == nullptr) return;
  for_vectors(columns, [&](int64_t j, int64_t count) { put(db + j, sums[j / kLanes], count, true); });
}

// dW += dy^T x for a task's rectangle, and db for its rows unless null.
template <class P>
static void accumulate_weight_task(const LinearShape& s, const WeightTask& task, const float* x, const float* dy,
                                   float* dw, float* db) {
  typedef typename P::Element Element;
  enum { kSweep = kDepth * P::kStep };
  Element* packed = static_cast<Element*>(
      scratch(Scratch::packed, static_cast<size_t>(packed_floats(kDepth, task.columns)) * sizeof(Element)));
  Element* gathered = static_cast<Element*>(scratch(Scratch::tile, kDepth * kWeightRows * sizeof(Element)));
  const int64_t outputs = s.groups * s.out, end = task.row + task.rows;
  for (int64_t first = 0; first < s.rows; first += kSweep) {
    const int64_t rows = min_of(kSweep, s.rows - first), steps = chunks_of(rows, P::kStep);
    pack_activations<P>(task, rows, x + first * s.in, s.in, packed);
    for (int64_t row = task.row, count; row < end; row += count) {
      const int64_t group = row / s.out, in_group = row % s.out;
      count = min_of(kWeightRows, min_of(end - row, s.out - in_group));
      const auto gather = count == kWeightRows ? gather_columns<P, true> : gather_columns<P, false>;
      gather(rows, count, dy + first * outputs + row, outputs, gathered,
             db == nullptr ? nullptr : db + group * s.b_group + in_group);
      float* c = dw + group * s.w_group + in_group * s.w_row + task.column;
      // What is gathered or packed next comes from memory.
      const Upcoming columns = {dy + first * outputs + row + count, rows, outputs, chunks_of(kWeightRows, 16)};
      const Upcoming sweep = {x + (first + rows) * s.in + task.column, min_of(kSweep, s.rows - first - rows), s.in,
                              chunks_of(task.columns, 16)};
      const Upcoming& next = row + count < end ? columns : sweep;
      for (int64_t at = 0; at < task.columns; at += kPanel) {
        const int64_t tiles_before = at / kPanel * (count / kRows);
        multiply_panel(count, View<Element>{gathered, 1, kWeightRows}, packed + at * steps, steps, c + at, s.w_row,
                       min_of(kPanel, task.columns - at), nullptr, true,
                       [&](int64_t t) { return next.share(tiles_before + t, steps); });
      }
    }
  }
}

// n cut into `parts` equal parts, whole multiples of `unit` but for the last.
struct Split {
  int64_t n, length;

  Split(int64_t n_of, int64_t parts, int64_t unit)
      : n(n_of), length(max_of(1, chunks_of(chunks_of(n_of, parts), unit)) * unit) {}
  int64_t parts() const { return chunks_of(n, length); }
  int64_t begin(int64_t i) const { return i * length; }
  int64_t size(int64_t i) const { return min_of(length, n - i * length); }
};

// The rectangles of dW that are tasks: few, so that packing x pays, but as many for each thread as for any other.
// How dW is cut does not change the order in which an element is summed.
template <class P>
static void accumulate_weight_gradient(const LinearShape& s, const float* x, const float* dy, float* dw, float* db) {
  const Split columns(s.in, chunks_of(s.in, kTaskColumns), kPanel);
  const int64_t outputs = s.groups * s.out, workers = threads();
  int64_t parts = chunks_of(outputs, kTaskRows);
  while (parts * columns.parts() % workers != 0) ++parts;
  const Split rows(outputs, parts, kRows);
  parallel_for(rows.parts() * columns.parts(), [&](int64_t i) {
    const int64_t r = i / columns.parts(), c = i % columns.parts();
    const WeightTask task = {rows.begin(r), rows.size(r), columns.begin(c), columns.size(c)};
    accumulate_weight_task<P>(s, task, x, dy, dw, c == 0 ? db : nullptr);
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
