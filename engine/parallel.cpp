#include "engine/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "engine/check.h"

namespace entangle {
namespace {

thread_local bool inside_parallel_work = false;

// How long a thread looks for work before it sleeps: longer than the gap between two kernels of a step, far shorter
// than anything a user would notice.
constexpr int kSpins = 4000;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class ThreadPool {
 public:
  explicit ThreadPool(int n) : total_(n) {
    try {
      for (int i = 1; i < n; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      const size_t started = workers_.size() + 1;
      stop();
      RAISE("of ", n, " threads the system allows only ", started, "; use fewer (--threads)");
    }
  }

  ~ThreadPool() { stop(); }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

 private:
  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

 public:
  int total() const { return total_; }

  void run(int64_t chunks, void (*body)(const void*, int64_t), const void* context) {
    const std::lock_guard<std::mutex> one_at_a_time(run_mutex_);
    body_ = body;
    context_ = context;
    chunks_ = chunks;
    error_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(total_ - 1, std::memory_order_relaxed);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load() > 0) wake_.notify_all();
    take_chunks();
    // The workers are about to finish their last chunk. When there are fewer cores than threads, let them have this
    // one.
    for (int spin = 0; busy_.load(std::memory_order_acquire) > 0; ++spin) {
      spin < kSpins ? pause_briefly() : std::this_thread::yield();
    }
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 private:
  void take_chunks() {
    inside_parallel_work = true;
    for (;;) {
      const int64_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks_) break;
      try {
        body_(context_, chunk);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (error_ == nullptr) error_ = std::current_exception();
      }
    }
    inside_parallel_work = false;
  }

  // Spins for new work, then sleeps. Returns the new generation.
  uint64_t wait_for_work(uint64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      const uint64_t now = generation_.load(std::memory_order_acquire);
      if (now != seen) return now;
      pause_briefly();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    sleeping_.fetch_sub(1);
    return generation_.load(std::memory_order_acquire);
  }

  void work() {
    uint64_t seen = 0;
    for (;;) {
      seen = wait_for_work(seen);
      if (stop_) return;
      take_chunks();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const int total_;
  std::vector<std::thread> workers_;
  std::mutex run_mutex_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> sleeping_{0}, busy_{0};
  std::atomic<int64_t> next_{0};
  bool stop_ = false;
  int64_t chunks_ = 0;
  void (*body_)(const void*, int64_t) = nullptr;
  const void* context_ = nullptr;
  std::exception_ptr error_;
};

int every_core() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

std::unique_ptr<ThreadPool>& pool() {
  static std::unique_ptr<ThreadPool> instance = std::make_unique<ThreadPool>(every_core());
  return instance;
}

struct ScratchBuffer {
  void* data = nullptr;
  size_t bytes = 0;
  ~ScratchBuffer() { std::free(data); }
};

}  // namespace

void set_threads(int n) {
  // Far more threads than cores only wait for each other.
  const int most = std::max(16, 4 * every_core());
  CHECK(n >= 0 && n <= most, "the number of threads must be 0 (every core) to ", most, ", not ", n);
  CHECK(!inside_parallel_work, "set_threads: not inside parallel work");
  const int wanted = n == 0 ? every_core() : n;
  if (wanted != pool()->total()) {
    pool() = std::make_unique<ThreadPool>(wanted);  // the old one stays when this throws
  }
}

int threads() { return pool()->total(); }

void run_chunks(int64_t chunks, void (*body)(const void* context, int64_t chunk), const void* context) {
  if (inside_parallel_work || chunks <= 1 || pool()->total() == 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    return;
  }
  pool()->run(chunks, body, context);
}

void* scratch(Scratch slot, size_t bytes) {
  thread_local ScratchBuffer buffers[static_cast<size_t>(Scratch::attention) + 1];
  ScratchBuffer& buffer = buffers[static_cast<size_t>(slot)];
  if (buffer.bytes < bytes) {
    std::free(buffer.data);
    buffer.bytes = 0;
    buffer.data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK(buffer.data != nullptr, "out of memory: ", bytes,
          " bytes wanted for a kernel's scratch; use a smaller batch");
    buffer.bytes = (bytes + 63) / 64 * 64;
  }
  return buffer.data;
}

}  // namespace entangle
