#include "engine/memory.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "engine/check.h"
#include "engine/device.h"

namespace entangle {
namespace {

constexpr size_t kRegionAlignment = size_t{2} << 20;  // a huge page
constexpr uint32_t kPoison = 0x7fa00000u;             // a signalling NaN

// Where a pool's regions come from.
struct System {
  size_t alignment, smallest_region;
  bool pooled;  // else every block is an allocation of its own, so that an overrun meets a red zone, not a neighbour
  void* (*allocate)(size_t bytes);  // null when refused
  void (*free)(void* region);
  void (*poison)(void* block, size_t bytes);
  std::string (*refusal)();  // what it has to say about a refusal, with ", " in front
};

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kHostPooled = false;
#else
constexpr bool kHostPooled = true;
#endif

void* allocate_host(size_t bytes) {
  void* region = std::aligned_alloc(kHostPooled ? kRegionAlignment : 64, bytes);
#if defined(__linux__)
  if (kHostPooled && region != nullptr) madvise(region, bytes, MADV_HUGEPAGE);
#endif
  return region;
}

constexpr System kHost = {
    64,
    size_t{8} << 20,
    kHostPooled,
    allocate_host,
    [](void* region) { std::free(region); },
    [](void* block, size_t bytes) { std::fill_n(static_cast<uint32_t*>(block), bytes / sizeof(uint32_t), kPoison); },
    [] { return std::string(); }};

#if defined(ENTANGLE_CUDA)
#if defined(ENTANGLE_CUDA_EMULATED)
constexpr bool kDevicePooled = false;
#else
constexpr bool kDevicePooled = true;
#endif
constexpr System kDevice = {kDevicePooled ? 256 : sizeof(float),
                            size_t{64} << 20,
                            kDevicePooled,
                            gpu::system_allocate,
                            gpu::system_free,
                            [](void* block, size_t bytes) {
                              // What is not pooled comes poisoned, and counts as never written.
                              if (kDevicePooled)
                                gpu::fill(static_cast<int64_t>(bytes / sizeof(uint32_t)), kPoison, block);
                            },
                            [] { return concat(", ", gpu::free_memory(), " free on the GPU"); }};
#endif

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

class Pool {
 public:
  explicit Pool(const System& system) : system_(system) {}

  void* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = round_up(std::max<size_t>(bytes, 1), system_.alignment);
    char* block = system_.pooled && holding_ ? first_fit(held_, size) : nullptr;
    if (block == nullptr && system_.pooled) block = first_fit(free_, size);
    if (block == nullptr) {
      grow(size);
      block = system_.pooled ? first_fit(free_, size) : last_region_;
    }
    used_[block] = size;
    counters_.in_use += static_cast<int64_t>(size);
    counters_.peak = std::max(counters_.peak, counters_.in_use);
    if (poison_) system_.poison(block, size);
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
    if (holding_) {
      put(held_, block, size);
    } else {
      release(block, size);
    }
  }

  void hold() {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK(!holding_, "memory is being held already");
    holding_ = true;
  }
  std::map<char*, size_t> end_hold() {
    const std::lock_guard<std::mutex> lock(mutex_);
    holding_ = false;
    return std::exchange(held_, {});
  }
  void release(const std::map<char*, size_t>& blocks) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [block, size] : blocks) release(block, size);
  }

  void reserve(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (system_.pooled) grow(bytes);
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
  using Blocks = std::map<char*, size_t>;

  static char* first_fit(Blocks& blocks, size_t size) {
    for (auto it = blocks.begin(); it != blocks.end(); ++it) {
      if (it->second < size) continue;
      const auto [block, available] = *it;
      blocks.erase(it);
      if (available > size) blocks[block + size] = available - size;
      return block;
    }
    return nullptr;
  }

  void release(char* block, size_t size) {
    if (system_.pooled) return put(free_, block, size);
    counters_.reserved -= static_cast<int64_t>(size);
    system_.free(block);
  }

  // Regions grow with what is reserved already, so that their number stays small; when that is too much, just enough.
  void grow(size_t size) {
    const size_t reserved = static_cast<size_t>(counters_.reserved);
    const size_t enough = system_.pooled ? round_up(size, kRegionAlignment) : size;
    size_t wanted = enough;
    if (system_.pooled) wanted = round_up(std::max({size, system_.smallest_region, reserved / 4}), kRegionAlignment);
    void* region = system_.allocate(wanted);
    if (region == nullptr && wanted > enough) region = system_.allocate(wanted = enough);
    CHECK(region != nullptr, "out of memory: ", wanted, " bytes wanted, ", counters_.in_use, " in use, ",
          counters_.reserved, " reserved", system_.refusal(), "; use a smaller batch");
    counters_.reserved += static_cast<int64_t>(wanted);
    ++counters_.system_allocations;
    last_region_ = static_cast<char*>(region);
    if (!system_.pooled) return;
    regions_.insert(last_region_);
    put(free_, last_region_, wanted);
  }

  // Adds a block to a list, in a pool merged with its neighbours there from the same region.
  void put(Blocks& blocks, char* block, size_t size) {
    auto next = blocks.lower_bound(block);
    if (system_.pooled && next != blocks.end() && block + size == next->first && regions_.count(next->first) == 0) {
      size += next->second;
      next = blocks.erase(next);
    }
    if (system_.pooled && next != blocks.begin() && regions_.count(block) == 0) {
      const auto previous = std::prev(next);
      if (previous->first + previous->second == block) {
        previous->second += size;
        return;
      }
    }
    blocks[block] = size;
  }

  const System& system_;
  std::mutex mutex_;
  Blocks free_, held_;
  std::unordered_map<char*, size_t> used_;
  std::set<char*> regions_;
  char* last_region_ = nullptr;
  MemoryCounters counters_ = {};
  bool poison_ = false, holding_ = false;
};

// Never destroyed: tensors in static storage may outlive any order of destruction.
Pool& host_pool() {
  static Pool* const instance = new Pool(kHost);
  return *instance;
}

#if defined(ENTANGLE_CUDA)
Pool& device_pool() {
  static Pool* const instance = new Pool(kDevice);
  return *instance;
}
#endif

Pool& pool_of(DeviceKind device) {
  if (device == DeviceKind::cpu) return host_pool();
#if defined(ENTANGLE_CUDA)
  return device_pool();
#else
  RAISE(why_no_cuda());
#endif
}

}  // namespace

void* allocate(size_t bytes, DeviceKind device) { return pool_of(device).take(bytes); }
void deallocate(void* block, DeviceKind device) { pool_of(device).give(block); }
MemoryCounters memory_counters(DeviceKind device) { return pool_of(device).counters(); }
void reset_peak_memory(DeviceKind device) { pool_of(device).reset_peak(); }
void reserve_memory(size_t bytes, DeviceKind device) { pool_of(device).reserve(bytes); }

MemoryHold::MemoryHold(DeviceKind device) : device_(device) { pool_of(device).hold(); }
MemoryHold::~MemoryHold() {
  close();
  pool_of(device_).release(blocks_);
}
void MemoryHold::close() {
  if (open_) blocks_ = pool_of(device_).end_hold();
  open_ = false;
}

void set_poison(bool on) {
  host_pool().poison(on);
#if defined(ENTANGLE_CUDA)
  device_pool().poison(on);
#endif
}

}  // namespace entangle
