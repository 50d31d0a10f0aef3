// Sums over the rows of a matrix, one for each column, beside what else a kernel does with its elements: the gradients of
// biases, and of the weights of a norm. No atomics on sums: the same bits always.
//
// Columns are cut into tiles of a warp's width, rows into chunks. A block takes a tile of a chunk: a lane owns a column, and
// the warps take rows in turn; their sums meet in shared memory, those of the chunks as in block_sums.cuh.
#pragma once

#include "cuda/block_sums.cuh"
#include "cuda/runtime.h"

namespace entangle::gpu {

inline constexpr int64_t kMostChunks = 128, kLeastRows = 32;  // chunks at most, rows of one at least

// How a matrix is cut: by its sizes alone.
struct RowTiles {
  int64_t rows, width, per_chunk, chunks, tiles;

  RowTiles() = default;
  RowTiles(int64_t rows_of, int64_t width_of)
      : rows(rows_of),
        width(width_of),
        per_chunk(at_least(kLeastRows, (rows + kMostChunks - 1) / kMostChunks)),
        chunks((rows + per_chunk - 1) / per_chunk),
        tiles((width + kWarp - 1) / kWarp) {}

  __host__ __device__ int64_t blocks() const { return tiles * chunks; }
  // What the sums of the columns need: numbers, and counts that are zero.
  int64_t places() const { return tiles * tree_places(chunks) * kWarp; }
  int64_t counts() const { return tiles * tree_counts(chunks); }
};

// The lane's column in the block's tile, which may lie behind the last one.
__device__ inline int64_t column_of(const RowTiles& t, int64_t block) { return block % t.tiles * kWarp + lane_index(); }

// Where the sums of the columns are formed. partial null: they are not wanted.
struct ColumnSums {
  float* partial;  // RowTiles::places()
  unsigned* counts;
  int64_t places_of_tile, counts_of_tile;

  __host__ __device__ ColumnSums() : partial(nullptr), counts(nullptr), places_of_tile(0), counts_of_tile(0) {}
  ColumnSums(const RowTiles& t, float* partial_of, unsigned* counts_of)
      : partial(partial_of),
        counts(counts_of),
        places_of_tile(tree_places(t.chunks) * kWarp),
        counts_of_tile(tree_counts(t.chunks)) {}
};

// For the elements that block `block` of a matrix's has, sums use(r, c, load(r, c)) by columns; then calls write(c, sum) for
// every column of the tile, by the last of its chunks' blocks. A warp has the loads of kBatch rows in flight.
template <int kBatch, class Load, class Use, class Write>
__device__ void for_columns(const RowTiles& t, int64_t block, const ColumnSums& sums, const Load& load, const Use& use,
                            const Write& write) {
  Shared shared;
  float* of_warps = shared.take<float>(kThreads);
  int* flag = shared.take<int>(1);
  const int64_t tile = block % t.tiles, chunk = block / t.tiles, c = column_of(t, block);
  const int64_t first = chunk * t.per_chunk, end = first + t.per_chunk < t.rows ? first + t.per_chunk : t.rows;
  float sum = 0;
  walk<kBatch>(
      first + warp_index(), c < t.width ? end : first, static_cast<int64_t>(warps_in_block()),
      [&](int64_t r) { return load(r, c); }, [&](int64_t r, const auto& value) { sum += use(r, c, value); });
  if (sums.partial == nullptr) return;
  of_warps[threadIdx.x] = sum;
  __syncthreads();
  float* partial = sums.partial + tile * sums.places_of_tile;
  if (warp_index() == 0) {
    for (int warp = 1; warp < warps_in_block(); ++warp) sum += of_warps[warp * kWarp + lane_index()];
    partial[chunk * kWarp + lane_index()] = sum;
  }
  sum_over_blocks(chunk, t.chunks, kWarp, partial, sums.counts + tile * sums.counts_of_tile, flag,
                  [&](int64_t lane, float total) {
                    if (tile * kWarp + lane < t.width) write(tile * kWarp + lane, total);
                  });
}
inline size_t for_columns_bytes() { return shared_bytes<float>(kThreads) + shared_bytes<int>(1); }

}  // namespace entangle::gpu
