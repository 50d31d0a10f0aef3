// Ranks that are threads of this process, for what they tell one another in gather().
#pragma once

#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/check.h"
#include "engine/communicator.h"

namespace entangle {

class ThreadRanks {
 public:
  // Runs `rank` once for each of `size` ranks, side by side. Work on the engine's threads must be off: set_threads(1).
  static void run(int size, const std::function<void(Communicator&)>& rank) {
    ThreadRanks all(size);
    std::vector<std::thread> threads;
    for (int i = 0; i < size; ++i) {
      threads.emplace_back([&, i] {
        Rank one(i, all);
        rank(one);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  class Rank : public Communicator {
   public:
    Rank(int rank, ThreadRanks& all) : Communicator(rank, static_cast<int>(all.said_.size())), all_(all) {}
    using Communicator::gather;
    void gather(const void* own, size_t bytes, void* all) override {
      all_.said_[static_cast<size_t>(rank())].assign(static_cast<const char*>(own), bytes);
      all_.meet();
      char* to = static_cast<char*>(all);
      for (const std::string& message : all_.said_) {
        CHECK(message.size() == bytes, "ranks gather messages of different lengths");
        to = std::copy(message.begin(), message.end(), to);
      }
      all_.meet();  // before one says the next thing
    }
    void start_sum(float*, int64_t) override { RAISE("threads have no sums"); }
    void finish_sums() override { RAISE("threads have no sums"); }
    void swap(int, const float*, float*, int64_t) override { RAISE("threads do not swap"); }

   private:
    ThreadRanks& all_;
  };

  explicit ThreadRanks(int size) : said_(static_cast<size_t>(size)) {}

  void meet() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int64_t meeting = meetings_;
    if (++here_ == said_.size()) {
      here_ = 0;
      ++meetings_;
      all_here_.notify_all();
    } else {
      all_here_.wait(lock, [&] { return meetings_ != meeting; });
    }
  }

  std::vector<std::string> said_;  // one element each
  std::mutex mutex_;
  std::condition_variable all_here_;
  size_t here_ = 0;
  int64_t meetings_ = 0;
};

}  // namespace entangle
