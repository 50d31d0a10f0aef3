// A block's shared memory: pieces of one arena, full of NaN, between guard words.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/emulator/shadow.h"

namespace entangle::emulator {

struct Piece {
  char* data;
  size_t bytes;
};

class SharedMemory {
 public:
  // Before a kernel, and before each of its blocks: no piece is taken.
  void begin_kernel(size_t launched_with);
  void begin_block();
  // Piece number `index`, the same for every thread. When that cannot be, null and why not.
  void* take(int index, size_t bytes, std::string& fault);
  // Beside which piece something was written, or an empty string.
  std::string overrun() const;

  // The piece that an address lies in, or is nearest to; null when it is not in the arena, or no piece is taken.
  const Piece* find(const char* address) const;
  size_t index_of(const Piece* piece) const { return static_cast<size_t>(piece - pieces_.data()); }
  Shadow* shadow() const { return shadow_.get(); }
  size_t offset_of(const char* address) const { return static_cast<size_t>(address - arena_.get()); }

 private:
  std::vector<Piece> pieces_;
  std::unique_ptr<char[]> arena_;
  std::unique_ptr<Shadow> shadow_;
  size_t arena_bytes_ = 0, arena_used_ = 0, launched_with_ = 0, used_ = 0;
};

}  // namespace entangle::emulator
