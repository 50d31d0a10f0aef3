#include "cuda/emulator/shared_memory.h"

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/memory.h"
#include "cuda/emulator/watch.h"
#include "engine/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace entangle::emulator {

namespace {

constexpr size_t kPieceAlignment = 16, kMostPieces = 64;

size_t rounded(size_t bytes) { return (bytes + kPieceAlignment - 1) / kPieceAlignment * kPieceAlignment; }

}  // namespace

void SharedMemory::begin_kernel(size_t launched_with) {
  launched_with_ = launched_with;
  // Each piece may be as small as one byte and has a guard on either side.
  const size_t wanted = device_model().shared_memory + kMostPieces * (kGuardBytes + kPieceAlignment);
  if (arena_bytes_ < wanted) {
    arena_.reset(new char[wanted]);
    arena_bytes_ = wanted;
    if (kWatched) shadow_ = std::make_unique<Shadow>(wanted);
  }
  if (shadow_ != nullptr) shadow_->coarsen();
}

void SharedMemory::begin_block() {
  pieces_.clear();
  arena_used_ = kGuardBytes;
  used_ = 0;
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(arena_.get(), arena_bytes_);
#endif
}

void* SharedMemory::take(int index, size_t bytes, std::string& fault) {
  const size_t at = static_cast<size_t>(index);
  if (at < pieces_.size()) {
    if (pieces_[at].bytes == bytes) return pieces_[at].data;
    fault = concat("takes ", bytes, " bytes as piece ", index, " of shared memory; another thread took ",
                   pieces_[at].bytes);
    return nullptr;
  }
  used_ += rounded(bytes);
  if (used_ > launched_with_) {
    fault = concat("takes ", used_, " bytes of shared memory, launched with ", launched_with_);
    return nullptr;
  }
  const Piece piece = {arena_.get() + arena_used_, bytes};
  arena_used_ = rounded(arena_used_ + bytes + kGuardBytes);
  if (arena_used_ > arena_bytes_) {
    fault = "takes more pieces of shared memory than the emulator has room for";
    return nullptr;
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(piece.data, bytes);
#else
  write_guard(piece.data - kNearGuard, kNearGuard);
  write_guard(piece.data + bytes, kNearGuard);
#endif
  poison(piece.data, bytes);
  pieces_.push_back(piece);
  return piece.data;
}

std::string SharedMemory::overrun() const {
#if !defined(__SANITIZE_ADDRESS__)
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (guard_intact(piece.data + piece.bytes, kNearGuard) && guard_intact(piece.data - kNearGuard, kNearGuard))
      continue;
    return concat("overrun of shared memory, beside piece ", i, " of ", piece.bytes, " bytes");
  }
#endif
  return "";
}

const Piece* SharedMemory::find(const char* address) const {
  if (address < arena_.get() || address >= arena_.get() + arena_bytes_) return nullptr;
  const Piece* nearest = nullptr;
  for (const Piece& piece : pieces_) {  // in ascending order of their addresses
    if (nearest == nullptr || address >= piece.data - kGuardBytes / 2) nearest = &piece;
  }
  return nearest;
}

}  // namespace entangle::emulator
