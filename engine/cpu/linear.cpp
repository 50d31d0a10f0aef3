// Linear layers on strided weight slices. Each product packs the operand that every row block reads again (the weight,
// or for dw the activations) and reads the other one where it lies. Work is split by rows of the result, so every
// element is summed by one thread in one order.
#include "engine/cpu/gemm.h"
#include "engine/ops.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

enum {
  kRowBlock = 48,       // rows of y or dx per chunk of work: with its slice of x it fits the L2 cache
  kWeightRows = 24,     // rows of dw per chunk of work
  kSweep = 8 * kDepth,  // rows of x packed at a time for dw
};

// y[r, :] = start + x[r, :] B for a packed B with `columns` columns.
static void multiply_rows(int64_t rows, int64_t columns, int64_t depth, const float* x, const float* packed,
                          const float* start, float* y, bool add) {
  parallel_for(chunks_of(rows, kRowBlock), [&](int64_t chunk) {
    const int64_t first = chunk * kRowBlock;
    const View a = {x + first * depth, depth, 1};
    multiply_packed(min_of(kRowBlock, rows - first), columns, depth, a, packed, y + first * columns, columns, start,
                    add);
  });
}

// The columns of y are the rows of all groups, one after another: column j is row j % out of group j / out. Packs
// w transposed, panel by panel; a panel may span groups.
static void pack_transposed(const LinearShape& s, const float* w, float* packed) {
  const int64_t columns = s.groups * s.out;
  parallel_for(chunks_of(columns, kPanel), [&](int64_t panel) {
    float* to = packed + panel * kPanel * s.in;
    for (int64_t j = 0; j < kPanel; ++j) {
      const int64_t column = panel * kPanel + j;
      const float* from = w + (column / s.out) * s.w_group + (column % s.out) * s.w_row;
      for (int64_t k = 0; k < s.in; ++k) to[k * kPanel + j] = column < columns ? from[k] : 0.0f;
    }
  });
}

void linear_forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  const int64_t columns = s.groups * s.out, padded = chunks_of(columns, kPanel) * kPanel;
  float* packed =
      static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(padded * (s.in + 1)) * sizeof(float)));
  float* start = packed + padded * s.in;
  for (int64_t j = 0; j < padded; ++j) {
    start[j] = b != nullptr && j < columns ? b[(j / s.out) * s.b_group + j % s.out] : 0.0f;
  }
  pack_transposed(s, w, packed);
  multiply_rows(s.rows, columns, s.in, x, packed, start, y, false);
}

void linear_backward_input(const LinearShape& s, const float* dy, const float* w, float* dx, bool add) {
  const int64_t depth = s.groups * s.out;
  float* packed =
      static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(packed_floats(depth, s.in)) * sizeof(float)));
  parallel_for(chunks_of(s.in, kPanel), [&](int64_t panel) {
    const int64_t first = panel * kPanel;
    for (int64_t g = 0; g < s.groups; ++g) {
      const View rows = {w + g * s.w_group, s.w_row, 1};
      pack_panel(rows, s.out, first, min_of(kPanel, s.in - first), packed + (panel * depth + g * s.out) * kPanel);
    }
  });
  multiply_rows(s.rows, s.in, depth, dy, packed, nullptr, dx, add);
}

// Copies dy[rows, columns] (columns <= kWeightRows) next to each other, since a stride of many columns would put all of
// a column into a few sets of the cache, and adds its column sums to db.
static void gather_columns(int64_t rows, int64_t columns, const float* dy, int64_t dy_row, float* to, float* db) {
  float sum[kWeightRows] = {};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      to[r * kWeightRows + j] = dy[r * dy_row + j];
      sum[j] += dy[r * dy_row + j];
    }
  }
  for (int64_t j = 0; j < columns && db != nullptr; ++j) db[j] += sum[j];
}

// dw += dy^T x and db += column sums of dy for one block of rows of dw, over `rows` rows of x packed depth by depth.
static void accumulate_weight_rows(const LinearShape& s, int64_t rows, const float* packed, const float* dy,
                                   int64_t count, float* dw, float* db) {
  const int64_t panels = chunks_of(s.in, kPanel);
  float* columns = static_cast<float*>(scratch(Scratch::tile, kDepth * kWeightRows * sizeof(float)));
  for (int64_t r = 0; r < rows; r += kDepth) {
    const int64_t deep = min_of(kDepth, rows - r);
    gather_columns(deep, count, dy + r * s.groups * s.out, s.groups * s.out, columns, db);
    const View a = {columns, 1, kWeightRows};
    for (int64_t panel = 0; panel < panels; ++panel) {
      const float* b = packed + r * panels * kPanel + panel * deep * kPanel;
      multiply_panel(count, a, b, deep, dw + panel * kPanel, s.w_row, min_of(kPanel, s.in - panel * kPanel), nullptr,
                     true);
    }
  }
}

void linear_backward_weight(const LinearShape& s, const float* x, const float* dy, float* dw, float* db) {
  const int64_t panels = chunks_of(s.in, kPanel), blocks = chunks_of(s.out, kWeightRows);
  const int64_t sweep = min_of(kSweep, s.rows);
  float* packed =
      static_cast<float*>(scratch(Scratch::packed, static_cast<size_t>(sweep * panels * kPanel) * sizeof(float)));
  for (int64_t r = 0; r < s.rows; r += kSweep) {
    const int64_t rows = min_of(kSweep, s.rows - r);
    parallel_for(chunks_of(rows, kDepth), [&](int64_t chunk) {
      const int64_t first = chunk * kDepth;
      const View part = {x + (r + first) * s.in, s.in, 1};
      pack(part, min_of(kDepth, rows - first), s.in, packed + first * panels * kPanel);
    });
    parallel_for(s.groups * blocks, [&](int64_t chunk) {
      const int64_t g = chunk / blocks, o = chunk % blocks * kWeightRows;
      accumulate_weight_rows(s, rows, packed, dy + r * s.groups * s.out + g * s.out + o, min_of(kWeightRows, s.out - o),
                             dw + g * s.w_group + o * s.w_row, db == nullptr ? nullptr : db + g * s.b_group + o);
    });
  }
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
