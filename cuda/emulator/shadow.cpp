#include "cuda/emulator/shadow.h"

#include <cstdlib>
#include <utility>

#include "engine/check.h"

namespace entangle::emulator {

namespace {

// Zero pages that cost nothing until they are touched.
Cell* make_cells(size_t bytes, int grain) {
  void* cells = std::calloc((bytes >> grain) + 1, sizeof(Cell));
  CHECK(cells != nullptr, "no memory to watch ", bytes, " bytes of the emulated device");
  return static_cast<Cell*>(cells);
}

}  // namespace

Shadow::Shadow(size_t bytes) : bytes_(bytes), cells_(make_cells(bytes, grain_)) {}
Shadow::~Shadow() { std::free(cells_); }

// Each cell becomes several that say the same.
void Shadow::refine(size_t sizes) {
  int grain = grain_;
  while ((sizes & ((size_t{1} << grain) - 1)) != 0) --grain;
  Cell* cells = make_cells(bytes_, grain);
  for (size_t i = 0; i < (bytes_ >> grain) + 1; ++i) cells[i] = cells_[i >> (grain_ - grain)];
  std::free(std::exchange(cells_, cells));
  grain_ = grain;
}

void Shadow::written_by_host(size_t offset, size_t bytes) {
  const Cells range = cells(offset, bytes);
  for (Cell* cell = range.first; cell != range.last; ++cell) cell->write = kHostStamp;
}

void Shadow::copied(size_t offset, Shadow& from, size_t from_offset, size_t bytes) {
  const size_t sizes = offset | from_offset | bytes;
  size_t step = 4;
  while (sizes % step != 0) step /= 2;
  for (size_t i = 0; i < bytes; i += step) {
    const Stamp write = from.written(from_offset + i, step) ? kHostStamp : 0;
    const Cells range = cells(offset + i, step);
    for (Cell* cell = range.first; cell != range.last; ++cell) cell->write = write;
  }
}

bool Shadow::written(size_t offset, size_t bytes) {
  const Cells range = cells(offset, bytes);
  for (const Cell* cell = range.first; cell != range.last; ++cell) {
    if (cell->write == 0) return false;
  }
  return true;
}

}  // namespace entangle::emulator
