// Sums over the blocks of a kernel, within that kernel: kFan neighbouring blocks form a group, whose last one to arrive adds
// what all of them wrote; the sums of kFan neighbouring groups are added alike, until there is one.
//
//   blocks        0 .. 15   16 .. 31   32 .. 39        each writes n numbers, fences, and counts itself as arrived
//   groups           0          1          2           the last arrival of a group adds, in the order of the blocks
//   groups           0 ............... 2               and so on: log_16(blocks) additions behind one another
//
// Which block adds depends on who was last; what it adds, and in which order, on the number of blocks alone: the same bits
// always. No number is added to atomically but the counts.
#pragma once

#include "cuda/device.cuh"

namespace entangle::gpu {

inline constexpr int kFan = 16;

// Sets of n numbers that `blocks` of them write, with the sums of all groups but the last; and the counts.
inline int64_t tree_places(int64_t blocks) {
  int64_t places = blocks;
  for (; blocks > kFan; places += blocks) blocks = (blocks + kFan - 1) / kFan;
  return places;
}
inline int64_t tree_counts(int64_t blocks) {
  int64_t counts = 1;
  for (; blocks > kFan; counts += blocks) blocks = (blocks + kFan - 1) / kFan;
  return counts;
}

// Whether this block is the last of `members` that count themselves here; it then sees what the others wrote, and the count
// is zero again. `flag`: a place in shared memory.
__device__ inline bool arrives_last(int64_t members, unsigned* count, int* flag) {
  __syncthreads();  // the block has written, and read the flag of the time before
  if (threadIdx.x == 0) {
    __threadfence();
    const bool last = atomicAdd(count, 1u) + 1 == static_cast<unsigned>(members);
    __threadfence();
    if (last) *count = 0;
    *flag = last;
  }
  __syncthreads();
  return *flag != 0;
}

// Calls write(i, sum over the blocks of partial[block][i]) for every i < n, each by one thread of the last block of all.
// The caller is block `index` of `blocks` and has written partial[index], one of tree_places(blocks). `counts` holds
// tree_counts(blocks) zeros, and does so afterwards.
template <class T, class Write>
__device__ void sum_over_blocks(int64_t index, int64_t blocks, int64_t n, T* partial, unsigned* counts, int* flag,
                                const Write& write) {
  while (true) {
    const int64_t groups = (blocks + kFan - 1) / kFan, group = index / kFan, first = group * kFan;
    const int64_t members = blocks - first < kFan ? blocks - first : kFan;
    if (!arrives_last(members, counts + group, flag)) return;
    const T* own = partial + first * n;
    T* next = partial + blocks * n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      T sum = 0;
      UNROLL_BY(16)
      for (int64_t member = 0; member < members; ++member) sum += own[member * n + i];
      if (groups == 1) {
        write(i, sum);
      } else {
        next[group * n + i] = sum;
      }
    }
    if (groups == 1) return;
    partial = next;
    counts += groups;
    index = group;
    blocks = groups;
  }
}

}  // namespace entangle::gpu
