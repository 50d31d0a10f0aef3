// What matrix products need before they begin, in one kernel: operands rounded to bf16, groups of rows joined to one matrix,
// and, since they are read anyway, the sums of a gradient's columns, which are the gradient of a bias.
//
// Math. to[r, c] = from[r, c], rounded to bf16 (nearest, ties to even) or as it is;  sums[c] += sum_r from[r, c].
// Shapes. A matrix [rows, columns] that consists of `matrices` equal ones below one another, `matrix` elements apart, rows
// `row` apart. Rounded rows are padded to 16 bytes: the tensor cores' fast kernels want that alignment, and a slice 756
// columns wide does not have it.
// Launch. All matrices of a call in one grid, the blocks of one behind those of another; each as in row_sums.cuh.
#pragma once

#include "cuda/bf16.cuh"
#include "cuda/product.h"
#include "cuda/row_sums.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

struct Matrix {
  const float* data;
  int64_t matrices, rows, columns, row, matrix;
};
inline Matrix contiguous(const float* data, int64_t rows, int64_t columns) {
  return {data, 1, rows, columns, columns, 0};
}
// The row stride of a single row is never used, and cuBLAS wants it to hold a row.
inline Matrix weight_matrix(const LinearShape& s, const float* w) {
  return {w, s.groups, s.out, s.in, s.out == 1 ? at_least(s.in, s.w_row) : s.w_row, s.w_group};
}

// The bias gradient that the sums of columns are added to: column c at db[c / width * group + c % width].
struct BiasGradient {
  float* db;  // null: none
  int64_t width, group;
};

// One matrix of a launch.
struct Sweep {
  RowTiles tiles;
  Matrix from;
  bf16* rounded;  // one of these, or neither
  float* copied;
  int64_t to_row;
  ColumnSums sums;
  BiasGradient bias;
};

struct Sweeps {
  static constexpr int kMost = 4;
  Sweep sweep[kMost];
  int count = 0;

  int64_t blocks() const {
    int64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += sweep[i].tiles.blocks();
    return sum;
  }
};

__device__ inline void run_sweep(const Sweep& s, int64_t block) {
  // Where a row begins: what one matrix needs no division for.
  const auto row = [&](int64_t r) {
    const unsigned in_all = static_cast<unsigned>(r), rows = static_cast<unsigned>(s.from.rows);
    return s.from.matrices == 1 ? r * s.from.row : in_all / rows * s.from.matrix + in_all % rows * s.from.row;
  };
  for_columns<8>(
      s.tiles, block, s.sums, [&](int64_t r, int64_t c) { return s.from.data[row(r) + c]; },
      [&](int64_t r, int64_t c, float value) {
        if (s.rounded != nullptr) s.rounded[r * s.to_row + c] = to_bf16(value);
        if (s.copied != nullptr) s.copied[r * s.to_row + c] = value;
        return value;
      },
      [&](int64_t c, float sum) { s.bias.db[c / s.bias.width * s.bias.group + c % s.bias.width] += sum; });
}

// Of a grid of blocks for all sweeps.
__device__ inline void run_sweeps(const Sweeps& sweeps, int64_t block) {
  for (int i = 0; i < sweeps.count; ++i) {
    if (block < sweeps.sweep[i].tiles.blocks()) return run_sweep(sweeps.sweep[i], block);
    block -= sweeps.sweep[i].tiles.blocks();
  }
}

// The operands of some products, and their memory.
class Operands {
 public:
  explicit Operands(Precision precision) : precision_(precision) {}
  ~Operands();
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  // A matrix as products read it once prepare() has run: in place where that is possible. `joined`: as one matrix.
  Operand read(const Matrix& matrix, const BiasGradient& bias = {nullptr, 0, 0}) { return add(matrix, bias, false); }
  Operand read_joined(const Matrix& matrix) { return add(matrix, {nullptr, 0, 0}, true); }
  // Room for a matrix in bf16 that a kernel writes, rows padded_row() apart; and for sums of columns.
  bf16* room(int64_t rows, int64_t columns);
  ColumnSums sums(const RowTiles& tiles);
  static int64_t padded_row(int64_t columns) { return (columns + 7) / 8 * 8; }

  void prepare();
  // What prepare() would do, for a kernel that does it as well.
  Sweeps take_sweeps();

 private:
  Operand add(const Matrix& matrix, const BiasGradient& bias, bool joined);
  void* allocate_bytes(int64_t bytes);

  Precision precision_;
  Sweeps sweeps_;
  int64_t counts_ = 0;  // of the next launch that are in use
  void* memory_[2 * Sweeps::kMost + 2] = {};
  int pieces_ = 0;
};

}  // namespace entangle::gpu
