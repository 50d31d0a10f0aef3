// Makes operands ready for products; what and how is said in operands.cuh.
//
// Math, Shapes, Launch. operands.cuh.
// Preconditions. A bias gradient holds a gradient.
// Numerics. fp32 sums in an order that depends on the shapes only: the same bits always.
#include "cuda/operands.cuh"

namespace entangle::gpu {

namespace {

__global__ void sweep_kernel(const __grid_constant__ Sweeps sweeps) { run_sweeps(sweeps, blockIdx.x); }

}  // namespace

Operands::~Operands() {
  for (int i = 0; i < pieces_; ++i) deallocate(memory_[i], DeviceKind::cuda);
}

void* Operands::allocate_bytes(int64_t bytes) {
  CHECK(pieces_ < static_cast<int>(sizeof memory_ / sizeof *memory_),
        "products of more operands than there is room for");
  return memory_[pieces_++] = allocate(static_cast<size_t>(bytes), DeviceKind::cuda);
}

bf16* Operands::room(int64_t rows, int64_t columns) {
  return static_cast<bf16*>(allocate_bytes(rows * padded_row(columns) * static_cast<int64_t>(sizeof(bf16))));
}

ColumnSums Operands::sums(const RowTiles& tiles) {
  void* partial = allocate_bytes(tiles.places() * static_cast<int64_t>(sizeof(float)));
  unsigned* counts = arrivals(counts_ + tiles.counts()) + counts_;
  counts_ += tiles.counts();
  return {tiles, static_cast<float*>(partial), counts};
}

Operand Operands::add(const Matrix& m, const BiasGradient& bias, bool joined) {
  const int64_t rows = m.matrices * m.rows;
  const bool bf16_wanted = precision_ == Precision::bf16;
  const bool copy_wanted = !bf16_wanted && joined && m.matrices > 1 && m.matrix != m.rows * m.row;
  Sweep sweep = {RowTiles(rows, m.columns), m, nullptr, nullptr, padded_row(m.columns), ColumnSums(), bias};
  const int64_t batch = m.matrices == 1 || joined ? 0 : m.rows * sweep.to_row;
  Operand operand = {m.data, CUDA_R_32F, m.row, joined ? 0 : m.matrix, false};
  if (bf16_wanted) {
    sweep.rounded = room(rows, m.columns);
    operand = {sweep.rounded, CUDA_R_16BF, sweep.to_row, batch, false};
  } else if (copy_wanted) {
    sweep.copied = static_cast<float*>(allocate_bytes(rows * sweep.to_row * static_cast<int64_t>(sizeof(float))));
    operand = {sweep.copied, CUDA_R_32F, sweep.to_row, batch, false};
  }
  if (bias.db != nullptr) sweep.sums = sums(sweep.tiles);
  if (bf16_wanted || copy_wanted || bias.db != nullptr) {
    CHECK(sweeps_.count < Sweeps::kMost, "products of more operands than a launch prepares");
    sweeps_.sweep[sweeps_.count++] = sweep;
  }
  return operand;
}

void Operands::prepare() {
  const Sweeps sweeps = take_sweeps();
  LAUNCH(sweep_kernel, blocks_for(sweeps.blocks(), 1), kThreads, for_columns_bytes(), stream(), sweeps);
}

Sweeps Operands::take_sweeps() {
  const Sweeps sweeps = sweeps_;
  sweeps_.count = 0;
  counts_ = 0;
  return sweeps;
}

}  // namespace entangle::gpu
