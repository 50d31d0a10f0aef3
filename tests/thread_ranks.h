// Ranks that are threads of this process. One that ends, or throws, is lost to the others.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
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
        all.lose(i);
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
    void start_sum(float* values, int64_t count) override { sums_.push_back({values, count}); }
    // In the order of the ranks.
    void finish_sums() override {
      for (const auto& [values, count] : sums_) {
        std::vector<float> all(static_cast<size_t>(count * size()));
        gather(values, static_cast<size_t>(count) * sizeof(float), all.data());
        for (int64_t i = 0; i < count; ++i) {
          values[i] = 0;
          for (int rank = 0; rank < size(); ++rank) values[i] += all[static_cast<size_t>(rank * count + i)];
        }
      }
      sums_.clear();
    }
    void swap(int other, const float* own, float* others, int64_t count) override {
      std::vector<float> all(static_cast<size_t>(count * size()));
      gather(own, static_cast<size_t>(count) * sizeof(float), all.data());
      std::copy_n(all.begin() + other * count, count, others);
    }

   private:
    ThreadRanks& all_;
    std::vector<std::pair<float*, int64_t>> sums_;
  };

  explicit ThreadRanks(int size) : said_(static_cast<size_t>(size)) {}

  void meet() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int64_t meeting = meetings_;
    if (++here_ == said_.size()) {
      here_ = 0;
      ++meetings_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return meetings_ != meeting || lost_ >= 0; });
      CHECK(meetings_ != meeting, "rank ", lost_, " is lost");
    }
  }
  void lose(int rank) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lost_ = rank;
    changed_.notify_all();
  }

  std::vector<std::string> said_;  // one element each
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t here_ = 0;
  int64_t meetings_ = 0;
  int lost_ = -1;  // one that is
};

}  // namespace entangle
