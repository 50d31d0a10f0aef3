// Communicators whose other ranks are made up, to see what one rank gives and does with what it gets.
#pragma once

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "engine/communicator.h"

namespace entangle {

// The others answer what this rank says, after `change` has had its way with rank r's copy of message `index`; and their
// numbers in a sum are these ones times `factor`.
class FakeRanks : public Communicator {
 public:
  using Change = std::function<void(int64_t index, int rank, void* message, size_t bytes)>;
  FakeRanks(int rank, int size, Change change = nullptr, float factor = 1)
      : Communicator(rank, size), change_(std::move(change)), factor_(factor) {}

  using Communicator::gather;
  void gather(const void* own, size_t bytes, void* all) override {
    for (int rank = 0; rank < size(); ++rank) {
      char* message = static_cast<char*>(all) + static_cast<size_t>(rank) * bytes;
      std::memcpy(message, own, bytes);
      if (rank != this->rank() && change_) change_(messages, rank, message, bytes);
    }
    ++messages;
  }
  void start_sum(float* values, int64_t count) override {
    sums.push_back(std::vector<float>(values, values + count));
    for (int64_t i = 0; i < count; ++i) values[i] *= 1 + factor_ * static_cast<float>(size() - 1);
    ++pending;
  }
  void finish_sums() override { pending = 0; }
  void swap(int other, const float* own, float* others, int64_t count) override {
    swapped.push_back(other);
    for (int64_t i = 0; i < count; ++i) others[i] = factor_ * own[i];
  }

  int64_t messages = 0;
  std::vector<std::vector<float>> sums;  // what was given
  int pending = 0;
  std::vector<int> swapped;  // with whom

 private:
  Change change_;
  float factor_;
};

}  // namespace entangle
