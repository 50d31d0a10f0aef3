#include "cuda/emulator/block.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/fiber.h"
#include "cuda/emulator/memory.h"
#include "cuda/emulator/shared_memory.h"
#include "cuda/emulator/watch.h"
#include "engine/check.h"
#include "engine/rng.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace entangle::emulator {

namespace {

enum class State { ready, at_barrier, in_collective, finished };

struct Thread {
  Fiber fiber;
  int64_t number = 0;  // in the block
  uint3 index = {};
  State state = State::ready;
  Site site = {};  // where it waits
  unsigned mask = 0;
  void* frame = nullptr;
  Complete complete = nullptr;
};

// Ends a thread at a fault, so that what its frames own is freed.
struct Abandoned {};

std::string text_of(const uint3& i) { return concat("(", i.x, ", ", i.y, ", ", i.z, ")"); }
std::string text_of(const Site& site) { return concat(site.what, " at ", site.file, ":", site.line); }

// 0 .. count-1 in the current order; `salt` tells the places apart where it is drawn.
std::vector<int64_t> sequence(int64_t count, uint64_t seed, uint64_t salt) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  if (order() == Order::descending) std::reverse(indices.begin(), indices.end());
  if (order() == Order::shuffled) {
    Rng rng(seed, Stream::synthetic, salt);
    shuffle(rng, indices.data(), count);
  }
  return indices;
}

// The block that is running. Threads and the arena are kept from block to block.
class Block {
 public:
  // Runs one block to its end, or to its first fault.
  void run(const KernelCall& call, const uint3& index, uint64_t seed);
  const std::string& fault() const { return fault_; }
  // Before the first block of a kernel.
  void begin(const KernelCall& call);

  void barrier(const Site& site);
  void collective(unsigned mask, void* frame, Complete complete, const Site& site);
  void* take(int index, size_t bytes);
  [[noreturn]] void fail(const std::string& text);
  void stop();
  std::string position() const;
  std::string kernel_and_block() const;
  void run_body();

 private:
  void start(const KernelCall& call, const uint3& index);
  bool run_warp(int64_t warp, const std::vector<int64_t>& lanes);
  void enter(Thread& thread);
  void release_barrier();
  void report_stuck();
  std::string waiting(const Thread& thread) const;

  const KernelCall* call_ = nullptr;
  uint3 index_ = {};
  int64_t count_ = 0, arrived_ = 0, finished_ = 0;
  std::vector<std::unique_ptr<Thread>> threads_;
  Thread* running_ = nullptr;
  SharedMemory shared_;
  std::string fault_;
};

// Never destroyed: a fault may have left fibres in the middle of a kernel.
Block& block() {
  static Block* const instance = new Block;
  return *instance;
}

void Block::begin(const KernelCall& call) {
  fault_.clear();
  shared_.begin_kernel(call.shared_bytes);
  watch_kernel(call);
}

void Block::start(const KernelCall& call, const uint3& index) {
  call_ = &call;
  index_ = index;
  count_ = static_cast<int64_t>(call.block.x) * call.block.y * call.block.z;
  arrived_ = finished_ = 0;
  shared_.begin_block();
  watch_block(index, shared_);
  while (static_cast<int64_t>(threads_.size()) < count_) threads_.push_back(std::make_unique<Thread>());
  for (int64_t i = 0; i < count_; ++i) {
    Thread& thread = *threads_[static_cast<size_t>(i)];
    const unsigned at = static_cast<unsigned>(i);
    thread.index = {at % call.block.x, at / call.block.x % call.block.y, at / call.block.x / call.block.y};
    thread.number = i;
    thread.state = State::ready;
    thread.fiber.restart([] { block().run_body(); });
  }
  blockIdx = index;
  blockDim = call.block;
  gridDim = call.grid;
}

void Block::run(const KernelCall& call, const uint3& index, uint64_t seed) {
  start(call, index);
  const std::vector<int64_t> warps = sequence((count_ + kWarp - 1) / kWarp, seed, 1);
  const std::vector<int64_t> lanes = sequence(kWarp, seed, 2);
  while (finished_ < count_) {
    bool progress = false;
    for (const int64_t warp : warps) {
      progress |= run_warp(warp, lanes);
      if (!fault_.empty()) return;
    }
    if (!progress) return report_stuck();
  }
  const std::string overrun = shared_.overrun();
  if (!overrun.empty()) fault_ = concat(kernel_and_block(), ": ", overrun);
}

// Lets a warp run until all of its threads wait for the block or have finished. Returns whether any could run.
bool Block::run_warp(int64_t warp, const std::vector<int64_t>& lanes) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (const int64_t lane : lanes) {
      const int64_t i = warp * kWarp + lane;
      if (i >= count_ || threads_[static_cast<size_t>(i)]->state != State::ready) continue;
      enter(*threads_[static_cast<size_t>(i)]);
      any = again = true;
      if (!fault_.empty()) return any;
    }
  }
  return any;
}

void Block::enter(Thread& thread) {
  running_ = &thread;
  threadIdx = thread.index;
  thread.state = State::finished;  // unless it comes back to wait
  watch_thread(static_cast<int>(thread.number), thread.fiber.stack(), Fiber::stack_bytes());
  thread.fiber.enter();
  unwatch_thread();
  if (thread.state == State::finished) ++finished_;
  if (fault_.empty() && found_fault()) fault_ = describe_fault();
}

void Block::barrier(const Site& site) {
  running_->state = State::at_barrier;
  running_->site = site;
  if (++arrived_ == count_) release_barrier();
  running_->fiber.leave();
}

void Block::release_barrier() {
  const Site& site = running_->site;
  for (int64_t i = 0; i < count_; ++i) {
    const Site& other = threads_[static_cast<size_t>(i)]->site;
    if (other.line != site.line || std::strcmp(other.file, site.file) != 0) return report_stuck();
  }
  arrived_ = 0;
  watch_barrier();
  for (int64_t i = 0; i < count_; ++i) threads_[static_cast<size_t>(i)]->state = State::ready;
}

void Block::collective(unsigned mask, void* frame, Complete complete, const Site& site) {
  Thread& own = *running_;
  const int64_t first = own.number / kWarp * kWarp;
  if (!(mask >> (own.number - first) & 1)) fail(concat(text_of(site), ": calls with a mask that leaves itself out"));
  own.mask = mask;
  own.frame = frame;
  own.complete = complete;
  own.state = State::in_collective;
  own.site = site;
  void* frames[kWarp] = {};
  bool complete_now = true;
  for (int lane = 0; lane < kWarp && complete_now; ++lane) {
    if (!(mask >> lane & 1)) continue;
    if (first + lane >= count_) fail(concat(text_of(site), ": the mask names lane ", lane, ", which the block lacks"));
    const Thread& other = *threads_[static_cast<size_t>(first + lane)];
    complete_now = other.state == State::in_collective && other.mask == mask && other.site.line == site.line &&
                   std::strcmp(other.site.file, site.file) == 0;
    frames[lane] = other.frame;
  }
  if (complete_now) {
    unwatch_thread();  // frames lie on the stacks of all of them
    if (complete != nullptr) {
      complete(mask, frames);
    } else {
      watch_warp(static_cast<int>(first), mask);
    }
    for (int lane = 0; lane < kWarp; ++lane) {
      if (mask >> lane & 1) threads_[static_cast<size_t>(first + lane)]->state = State::ready;
    }
  }
  own.fiber.leave();
}

void Block::stop() { running_->fiber.leave(true); }

std::string Block::waiting(const Thread& thread) const {
  if (thread.state == State::finished) return "have finished";
  if (thread.state == State::ready) return "can run";
  std::string text = "wait at " + text_of(thread.site);
  if (thread.state == State::in_collective && thread.mask != 0xffffffffu) {
    char mask[16];
    std::snprintf(mask, sizeof mask, "%#x", thread.mask);
    text += concat(" with mask ", mask);
  }
  return text;
}

// Nobody can go on: says for each run of threads what it waits for.
void Block::report_stuck() {
  fault_ = kernel_and_block() + ": barrier divergence: ";
  for (int64_t first = 0; first < count_;) {
    const std::string what = waiting(*threads_[static_cast<size_t>(first)]);
    int64_t last = first;
    while (last + 1 < count_ && waiting(*threads_[static_cast<size_t>(last + 1)]) == what) ++last;
    fault_ += concat(first > 0 ? "; " : "", first == last ? "thread " : "threads ", first);
    if (last > first) fault_ += concat(" to ", last);
    fault_ += " " + what;
    first = last + 1;
  }
}

std::string Block::kernel_and_block() const { return concat("kernel '", call_->name, "', block ", text_of(index_)); }

std::string Block::position() const { return concat(kernel_and_block(), ", thread ", text_of(running_->index)); }

void Block::fail(const std::string& text) {
  fault_ = position() + ": " + text;
  throw Abandoned();
}

void Block::run_body() {
  try {
    call_->invoke(call_->arguments.get());
  } catch (const Abandoned&) {
  }
}

void* Block::take(int index, size_t bytes) {
  std::string fault;
  void* piece = shared_.take(index, bytes, fault);
  if (piece == nullptr) fail(fault);
  return piece;
}

// What is wrong with the arguments or the sizes of a launch, before any of it runs.
std::string check_call(const KernelCall& call) {
  const std::string kernel = "kernel '" + call.name + "'";
  const int64_t threads = static_cast<int64_t>(call.block.x) * call.block.y * call.block.z;
  if (threads < 1 || threads > 1024) return concat(kernel, ": blocks of ", threads, " threads; 1 to 1024 are possible");
  if (call.grid.y > 65535 || call.grid.z > 65535) return kernel + ": a grid has at most 65535 blocks in y and z";
  if (call.shared_bytes > device_model().shared_memory) {
    return concat(kernel, ": wants ", call.shared_bytes, " bytes of shared memory, the device has ",
                  device_model().shared_memory);
  }
  for (size_t i = 0; i < call.pointers.size(); ++i) {
    const void* pointer = call.pointers[i].pointer;
    if (pointer == nullptr || find_allocation(pointer) != nullptr) continue;
    return concat(kernel, ": its pointer argument ", i, " is no device memory (host memory, or freed)");
  }
  return "";
}

#if defined(__SANITIZE_ADDRESS__)
bool running_a_kernel = false;

// Adds to the sanitizer's report which thread of which block it was.
void tell_position() {
  if (running_a_kernel) std::fprintf(stderr, "emulated device: %s\n", block().position().c_str());
}
#endif

}  // namespace

void block_barrier(const Site& site) { block().barrier(site); }

void warp_collective(unsigned mask, void* frame, Complete complete, const Site& site) {
  block().collective(mask, frame, complete, site);
}

void warp_barrier(unsigned mask, const Site& site) { block().collective(mask, nullptr, nullptr, site); }

void memory_fence() { watch_fence(); }

unsigned atomic_add(unsigned* address, unsigned value) {
  watch_atomic(address, __builtin_return_address(0));
  const unsigned before = *address;
  *address = before + value;
  return before;
}

void fail(const std::string& text) { block().fail(text); }

void stop_thread() { block().stop(); }

void* take_shared(int index, size_t bytes) { return block().take(index, bytes); }

std::string run_kernel(const KernelCall& call) {
  std::string fault = check_call(call);
  if (!fault.empty()) return fault;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(tell_position);
  running_a_kernel = true;
#endif
  block().begin(call);
  const int64_t blocks = static_cast<int64_t>(call.grid.x) * call.grid.y * call.grid.z;
  for (const int64_t i : sequence(blocks, order_seed(), 3)) {
    const unsigned at = static_cast<unsigned>(i);
    block().run(call, {at % call.grid.x, at / call.grid.x % call.grid.y, at / call.grid.x / call.grid.y},
                order_seed() + static_cast<uint64_t>(i));
    if (!block().fault().empty()) break;
  }
#if defined(__SANITIZE_ADDRESS__)
  running_a_kernel = false;
#endif
  if (!block().fault().empty()) return block().fault();
  fault = describe_fault();
  if (!fault.empty()) return fault;
  for (const PointerArgument& argument : call.pointers) {
    const Allocation* allocation = find_allocation(argument.pointer);
    const std::string overrun = allocation == nullptr ? "" : allocation->overrun();
    if (!overrun.empty()) return concat("kernel '", call.name, "': overrun of device memory, ", overrun);
  }
  return "";
}

}  // namespace entangle::emulator
