#include "engine/memory.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "engine/check.h"

namespace entangle {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kRegionAlignment = size_t{2} << 20;  // a huge page
constexpr size_t kSmallestRegion = size_t{8} << 20;
constexpr uint32_t kPoison = 0x7fa00000u;  // a signalling NaN

// Under AddressSanitizer every block is its own allocation, so that an overrun meets a red zone, not a neighbour.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

class Pool {
 public:
  void* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = round_up(std::max<size_t>(bytes, 1), kAlignment);
    char* block = kPooled ? first_fit(size) : nullptr;
    if (block == nullptr) {
      grow(size);
      block = kPooled ? first_fit(size) : last_region_;
    }
    used_[block] = size;
    counters_.in_use += static_cast<int64_t>(size);
    counters_.peak = std::max(counters_.peak, counters_.in_use);
    if (poison_) std::fill_n(reinterpret_cast<uint32_t*>(block), size / sizeof(uint32_t), kPoison);
    return block;
  }

  void give(void* pointer) {
    if (pointer == nullptr) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = used_.find(static_cast<char*>(pointer));
    CHECK(found != used_.end(), "deallocate: this block was not handed out, or was returned before");
    const auto [block, size] = *found;
    used_.erase(found);
    counters_.in_use -= static_cast<int64_t>(size);
    if (kPooled) {
      join(block, size);
    } else {
      counters_.reserved -= static_cast<int64_t>(size);
      std::free(block);
    }
  }

  void reserve(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (kPooled) grow(bytes);
  }

  MemoryCounters counters() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return counters_;
  }
  void reset_peak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    counters_.peak = counters_.in_use;
  }
  void poison(bool on) {
    const std::lock_guard<std::mutex> lock(mutex_);
    poison_ = on;
  }

 private:
  char* first_fit(size_t size) {
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < size) continue;
      const auto [block, available] = *it;
      free_.erase(it);
      if (available > size) free_[block + size] = available - size;
      return block;
    }
    return nullptr;
  }

  // Regions grow with what is reserved already, so that their number stays small.
  void grow(size_t size) {
    const size_t wanted =
        kPooled
            ? round_up(std::max({size, kSmallestRegion, static_cast<size_t>(counters_.reserved) / 4}), kRegionAlignment)
            : size;
    void* region = std::aligned_alloc(kPooled ? kRegionAlignment : kAlignment, wanted);
    CHECK(region != nullptr, "out of memory: ", wanted, " bytes wanted, ", counters_.in_use, " in use, ",
          counters_.reserved, " reserved; use a smaller batch");
#if defined(__linux__)
    if (kPooled) madvise(region, wanted, MADV_HUGEPAGE);
#endif
    counters_.reserved += static_cast<int64_t>(wanted);
    ++counters_.system_allocations;
    last_region_ = static_cast<char*>(region);
    if (kPooled) join(last_region_, wanted);
  }

  // Returns a block to the free list and merges it with free neighbours. Neighbouring regions may merge too: nothing
  // is ever returned to the system, so that is harmless.
  void join(char* block, size_t size) {
    auto next = free_.lower_bound(block);
    if (next != free_.end() && block + size == next->first) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto previous = std::prev(next);
      if (previous->first + previous->second == block) {
        previous->second += size;
        return;
      }
    }
    free_[block] = size;
  }

  std::mutex mutex_;
  std::map<char*, size_t> free_;
  std::unordered_map<char*, size_t> used_;
  char* last_region_ = nullptr;
  MemoryCounters counters_ = {};
  bool poison_ = false;
};

// Never destroyed: tensors in static storage may outlive any order of destruction.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

}  // namespace

void* allocate(size_t bytes) { return pool().take(bytes); }
void deallocate(void* block) { pool().give(block); }
MemoryCounters memory_counters() { return pool().counters(); }
void reset_peak_memory() { pool().reset_peak(); }
void reserve_memory(size_t bytes) { pool().reserve(bytes); }
void set_poison(bool on) { pool().poison(on); }

}  // namespace entangle
