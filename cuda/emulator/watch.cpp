#include "cuda/emulator/watch.h"

#if !defined(__SANITIZE_ADDRESS__)

#include <algorithm>
#include <map>
#include <vector>

#include "cuda/emulator/memory.h"
#include "cuda/emulator/place.h"
#include "cuda/emulator/shared_memory.h"
#include "engine/check.h"

extern "C" char __executable_start, _end;  // of the program in memory, by the linker

namespace entangle::emulator {

namespace {

constexpr int kMostThreads = 1024;
constexpr Stamp kTick = Stamp{1} << (kThreadBits + kPlaceBits);

enum class Area { unwatched, shared, device };

// An instruction that touches memory, and the memory where it was last: nearly always the same.
struct Place {
  uintptr_t pc = 0;
  uint64_t serial = 0;  // of the kernel or block that `low` and what follows belong to
  const char* low = nullptr;
  size_t bytes = 0;
  Shadow* shadow = nullptr;  // null: nothing to watch there
  size_t base = 0;           // of `low` in the shadow
  Area area = Area::unwatched;
};

enum class Finding { none, race, unwritten, stray };

struct Report {
  Finding finding = Finding::none;
  uint3 block = {}, other_block = {};
  Stamp own = 0, other = 0;
  bool writes = false, other_writes = false;
  const char* address = nullptr;
  size_t bytes = 0;
};

// What the block that began at `start` wrote before `end`, which another block may know of.
struct Known {
  Stamp start, end;
};

struct Watch {
  const KernelCall* call = nullptr;
  SharedMemory* shared = nullptr;
  uint3 block = {};
  // Stamps of now, and of the starts of the kernel, its block, and what the last barrier began.
  Stamp now = kTick, kernel = 0, block_start = 0, barrier = 0;
  uint64_t serial = 0;
  int thread = 0;
  const char* stack = nullptr;
  size_t stack_bytes = 0;
  std::vector<std::pair<Stamp, uint3>> blocks;        // when each began
  Stamp warps[kMostThreads / kWarp] = {};             // when all lanes of a warp last met
  Stamp lanes[kMostThreads][kWarp] = {};              // when a thread last met each lane, in some of the warp
  Stamp fences[kMostThreads] = {};                    // when a thread last had a fence
  std::vector<Known> known;                           // to this block, of others, in the order of their starts
  std::map<int, std::vector<Known>> added;            // what threads will know behind their next fence
  std::map<const void*, std::vector<Known>> atomics;  // what those who added to a number knew before
  Place places[1 << kPlaceBits];                      // by a hash of the address in the code
  Report fault, unwritten;                            // the first of each
  std::string unwritten_where;                        // while the memory is known
};

// Never destroyed, as the kernels' own state is not.
Watch& watch = *new Watch;
thread_local bool watching = false;

int warp_of(int thread) { return thread / kWarp; }

// Whether fences and an atomic addition order an access of another block before this block.
bool is_known(Stamp other) {
  const auto later = std::upper_bound(watch.known.begin(), watch.known.end(), other,
                                      [](Stamp time, const Known& known) { return time < known.start; });
  return later != watch.known.begin() && other < std::prev(later)->end;
}

// `known` and `more`, in the order of starts, as one.
void learn(std::vector<Known>& known, const std::vector<Known>& more) {
  std::map<Stamp, Stamp> ends;
  const auto note = [&](const std::vector<Known>& all) {
    for (const Known& one : all) ends[one.start] = std::max(ends[one.start], one.end);
  };
  note(known);
  note(more);
  known.clear();
  for (const auto& [start, end] : ends) known.push_back({start, end});
}

// Whether two accesses by different threads can meet: `other` is not of the past, nor ordered by a barrier.
bool unordered(Stamp other, Area area) {
  if (other >= watch.barrier) {
    const int thread = thread_of(other);
    if (thread == watch.thread) return false;
    if (warp_of(thread) != warp_of(watch.thread)) return true;
    return other >= std::max(watch.warps[warp_of(thread)], watch.lanes[watch.thread][thread % kWarp]);
  }
  if (area == Area::shared || other >= watch.block_start) return false;
  return other >= watch.kernel && !is_known(other);
}

const uint3& block_at(Stamp time) {
  const auto later = std::upper_bound(watch.blocks.begin(), watch.blocks.end(), time,
                                      [](Stamp t, const auto& block) { return t < block.first; });
  return std::prev(later)->second;
}

Report report_of(Finding finding, const Place& place, const char* address, size_t bytes, bool writes) {
  Report report;
  report.finding = finding;
  report.block = watch.block;
  report.own = watch.now + stamp(0, watch.thread, static_cast<int>(&place - watch.places));
  report.writes = writes;
  report.address = address;
  report.bytes = bytes;
  return report;
}

// "byte 16 of piece 1 of 256 bytes of shared memory".
std::string text_of_address(const char* address, size_t bytes) {
  const auto part = [&](const char* low, size_t size) -> std::string {
    if (address < low) return concat(bytes, " bytes ", low - address, " before the start of ");
    if (address + bytes > low + size) return concat(bytes, " bytes at byte ", address - low, ", behind the end of ");
    return concat("byte ", address - low, " of ");
  };
  const Piece* piece = watch.shared->find(address);
  if (piece != nullptr) {
    return concat(part(piece->data, piece->bytes), "piece ", watch.shared->index_of(piece), " of ", piece->bytes,
                  " bytes of shared memory");
  }
  const Allocation* allocation = nearest_allocation(address);
  if (allocation != nullptr) return part(allocation->data, allocation->bytes) + allocation->str();
  return "memory that is not the device's (the host's, or freed)";
}

std::string text_of_thread(Stamp s) {
  const unsigned i = static_cast<unsigned>(thread_of(s));
  const dim3& block = watch.call->block;
  return concat("thread (", i % block.x, ", ", i / block.x % block.y, ", ", i / block.x / block.y, ")");
}

std::string text_of_block(const uint3& b) { return concat("block (", b.x, ", ", b.y, ", ", b.z, ")"); }

// What a thread did, and where in the source.
std::string text_of_access(Stamp s, bool writes) {
  return concat(writes ? " writes at " : " reads at ", text_of_place(watch.places[place_of(s)].pc));
}

std::string describe(const Report& report) {
  std::string text =
      concat("kernel '", watch.call->name, "', ", text_of_block(report.block), ", ", text_of_thread(report.own), ": ");
  const std::string access = text_of_access(report.own, report.writes);
  if (report.finding == Finding::unwritten) {
    return concat(text, "reads what nobody has written: ", watch.unwritten_where, ",", access);
  }
  const std::string where = text_of_address(report.address, report.bytes);
  if (report.finding == Finding::stray) {
    const bool inside =
        where.find("behind the end") == std::string::npos && where.find("before the start") == std::string::npos;
    const char* area =
        watch.shared->find(report.address) != nullptr ? "overrun of shared memory" : "overrun of device memory";
    return concat(text, inside ? "stray access" : area, ": ", where, ",", access);
  }
  const bool one_block = std::memcmp(&report.block, &report.other_block, sizeof report.block) == 0;
  return concat(text, "race on ", where, ":", access, "; ", one_block ? "" : text_of_block(report.other_block) + ", ",
                text_of_thread(report.other), text_of_access(report.other, report.other_writes),
                one_block ? "; no barrier orders them" : "; no fences and atomic addition order the blocks");
}

// The thread does not go on; what it was about to do is not done.
void stop(const Report& report) {
  watch.fault = report;
  stop_thread();
}

void check_race(Stamp other, bool other_writes, const Place& place, const char* address, size_t bytes, bool writes) {
  if (!unordered(other, place.area)) return;
  Report report = report_of(Finding::race, place, address, bytes, writes);
  report.other = other;
  report.other_block = other < watch.block_start ? block_at(other) : watch.block;
  report.other_writes = other_writes;
  stop(report);
}

void note_unwritten(const Place& place, const char* address, size_t bytes) {
  if (watch.unwritten.finding != Finding::none) return;
  watch.unwritten = report_of(Finding::unwritten, place, address, bytes, false);
  watch.unwritten_where = text_of_address(address, bytes);
}

// Finds out what memory `place` is at now; stops the thread when there is none.
void find_memory(Place& place, const char* address, size_t bytes, bool writes) {
  place.serial = watch.serial;
  place.shadow = nullptr;
  place.area = Area::unwatched;
  const auto is = [&](const void* low, size_t size) {
    place.low = static_cast<const char*>(low);
    place.bytes = size;
    return address >= place.low && address + bytes <= place.low + place.bytes;
  };
  const Piece* piece = watch.shared->find(address);
  if (piece != nullptr && is(piece->data, piece->bytes)) {
    place.area = Area::shared;
    place.shadow = watch.shared->shadow();
    place.base = watch.shared->offset_of(piece->data);
    return;
  }
  const Allocation* allocation = nearest_allocation(address);
  if (allocation != nullptr && is(allocation->data, allocation->bytes)) {
    place.area = Area::device;
    place.shadow = allocation->shadow.get();
    place.base = 0;
    return;
  }
  if (is(watch.call->arguments.get(), watch.call->argument_bytes)) return;
  // Constants of the program, and the indices of block.h.
  if (!writes && is(&__executable_start, static_cast<size_t>(&_end - &__executable_start))) return;
  place.serial = 0;
  stop(report_of(Finding::stray, place, address, bytes, writes));
}

// Keeps the last reader, and one before it.
void note_read(Cell& cell, Stamp own, Area area) {
  const Stamp last = cell.reads[0];
  if (thread_of(last) != thread_of(own) || last < watch.block_start) {
    const bool far = warp_of(thread_of(last)) != warp_of(thread_of(own)) || last < watch.block_start;
    if (far || !unordered(cell.reads[1], area)) cell.reads[1] = last;
  }
  cell.reads[0] = own;
}

}  // namespace

void touch(const void* memory, size_t bytes, Touch kind, void* from) {
  if (!watching) return;
  const bool writes = kind != Touch::read;
  const char* address = static_cast<const char*>(memory);
  if (static_cast<size_t>(address - watch.stack) < watch.stack_bytes) return;
  const uintptr_t pc = reinterpret_cast<uintptr_t>(from);
  size_t index = pc * 0x9e3779b97f4a7c15u >> (64 - kPlaceBits);
  while (watch.places[index].pc != pc && watch.places[index].pc != 0) index = (index + 1) % (1 << kPlaceBits);
  Place& place = watch.places[index];
  place.pc = pc;
  const size_t offset = static_cast<size_t>(address - place.low);
  if (place.serial != watch.serial || offset >= place.bytes || place.bytes - offset < bytes) {
    find_memory(place, address, bytes, writes);
  }
  if (place.shadow == nullptr) return;
  const Stamp own = watch.now + stamp(0, watch.thread, static_cast<int>(index));
  const Shadow::Cells cells = place.shadow->cells(place.base + static_cast<size_t>(address - place.low), bytes);
  const Stamp written = place.area == Area::shared ? watch.block_start : kHostStamp;
  for (Cell* cell = cells.first; cell != cells.last; ++cell) {
    if (unordered(cell->write, place.area)) check_race(cell->write, true, place, address, bytes, writes);
    if (kind != Touch::write && cell->write < written) note_unwritten(place, address, bytes);
    if (!writes) {
      note_read(*cell, own, place.area);
      continue;
    }
    for (const Stamp read : cell->reads) {
      if (unordered(read, place.area)) check_race(read, false, place, address, bytes, writes);
    }
    if (kind == Touch::write) *cell = {own, {0, 0}};
  }
}

void watch_kernel(const KernelCall& call) {
  watch.call = &call;
  watch.kernel = watch.now;
  watch.blocks.clear();
  watch.atomics.clear();
  watch.fault = watch.unwritten = {};
}

void watch_block(const uint3& index, SharedMemory& shared) {
  watch.now += kTick;
  watch.block_start = watch.barrier = watch.now;
  if (watch.blocks.empty()) watch.kernel = watch.now;
  watch.blocks.emplace_back(watch.now, index);
  watch.block = index;
  watch.shared = &shared;
  watch.known.clear();
  watch.added.clear();
  ++watch.serial;
}

void watch_thread(int thread, const char* stack, size_t stack_bytes) {
  watch.thread = thread;
  watch.stack = stack;
  watch.stack_bytes = stack_bytes;
  watching = true;
}
void unwatch_thread() { watching = false; }

void watch_barrier() {
  watch.now += kTick;
  watch.barrier = watch.now;
}

void watch_warp(int first, unsigned mask) {
  watch.now += kTick;
  if (mask == 0xffffffffu) {
    watch.warps[warp_of(first)] = watch.now;
    return;
  }
  // What any of them knew of the other lanes, all of them know now.
  Stamp known[kWarp] = {};
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(mask >> lane & 1)) continue;
    for (int of = 0; of < kWarp; ++of) known[of] = std::max(known[of], watch.lanes[first + lane][of]);
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    if (mask >> lane & 1) known[lane] = watch.now;
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    if (mask >> lane & 1) std::copy(known, known + kWarp, watch.lanes[first + lane]);
  }
}

void watch_fence() {
  watch.now += kTick;
  watch.fences[watch.thread] = watch.now;
  const auto added = watch.added.find(watch.thread);
  if (added == watch.added.end()) return;
  learn(watch.known, added->second);
  watch.added.erase(added);
}

void watch_atomic(const unsigned* address, void* from) {
  touch(address, sizeof *address, Touch::atomic, from);
  std::vector<Known>& atomic = watch.atomics[address];
  learn(watch.added[watch.thread], atomic);
  if (watch.fences[watch.thread] < watch.block_start) return;
  learn(atomic, watch.known);
  learn(atomic, {{watch.block_start, watch.fences[watch.thread]}});
}

bool found_fault() { return watch.fault.finding != Finding::none; }

std::string describe_fault() {
  const bool race = watch.fault.finding == Finding::race;
  std::string text = race || watch.unwritten.finding == Finding::none ? "" : describe(watch.unwritten);
  if (!found_fault()) return text;
  return concat(text, text.empty() ? "" : "; then ", describe(watch.fault));
}

}  // namespace entangle::emulator

#else

namespace entangle::emulator {
void watch_kernel(const KernelCall&) {}
void watch_block(const uint3&, SharedMemory&) {}
void watch_thread(int, const char*, size_t) {}
void unwatch_thread() {}
void watch_barrier() {}
void watch_warp(int, unsigned) {}
void watch_fence() {}
void watch_atomic(const unsigned*, void*) {}
bool found_fault() { return false; }
std::string describe_fault() { return ""; }
}  // namespace entangle::emulator

#endif
