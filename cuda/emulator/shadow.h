// What is known about the words of shared and device memory: who wrote and who read them last.
#pragma once

#include <cstddef>
#include <cstdint>

namespace entangle::emulator {

// An access, in 64 bits: when, by which thread of the block, from which place in the code. Stamps grow with time. 0: no
// access; kHostStamp: one of a copy or a library, older than any kernel's.
using Stamp = uint64_t;
inline constexpr int kPlaceBits = 16, kThreadBits = 10;
inline constexpr Stamp kHostStamp = 1;

inline Stamp stamp(uint64_t when, int thread, int place) {
  return when << (kThreadBits + kPlaceBits) | static_cast<Stamp>(thread) << kPlaceBits | static_cast<Stamp>(place);
}
inline int thread_of(Stamp s) { return static_cast<int>(s >> kPlaceBits & ((1u << kThreadBits) - 1)); }
inline int place_of(Stamp s) { return static_cast<int>(s & ((1u << kPlaceBits) - 1)); }

// Two readers: the last one, and one before it, of another warp if there was one. Whoever writes is not both.
struct Cell {
  Stamp write, reads[2];
};

// The cells of one piece of memory: one for four bytes, or for fewer once narrower accesses are seen.
class Shadow {
 public:
  explicit Shadow(size_t bytes);
  ~Shadow();
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  struct Cells {
    Cell *first, *last;  // last excluded
  };
  Cells cells(size_t offset, size_t bytes) {
    if (((offset | bytes) & ((size_t{1} << grain_) - 1)) != 0) refine(offset | bytes);
    Cell* first = cells_ + (offset >> grain_);
    return {first, first + (bytes >> grain_)};
  }

  void written_by_host(size_t offset, size_t bytes);
  // Words become written, or not, like those they are copied from.
  void copied(size_t offset, Shadow& from, size_t from_offset, size_t bytes);
  bool written(size_t offset, size_t bytes);
  // Cells of four bytes again; what they say is void.
  void coarsen() { grain_ = 2; }

 private:
  void refine(size_t sizes);

  size_t bytes_;
  int grain_ = 2;  // bytes of a cell, log2
  Cell* cells_;
};

}  // namespace entangle::emulator
