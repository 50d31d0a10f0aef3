// A data set that counts what is read of it: shows who looks at which images.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "data/dataset.h"

namespace entangle {

class CountingDataset : public Dataset {
 public:
  explicit CountingDataset(std::shared_ptr<const Dataset> counted) : counted_(std::move(counted)) {}

  int64_t size() const override { return counted_->size(); }
  int64_t classes() const override { return counted_->classes(); }
  int64_t channels() const override { return counted_->channels(); }
  int64_t label(int64_t index) const override { return counted_->label(index); }
  void get(int64_t index, Image& image) const override {
    ++read_;
    counted_->get(index, image);
  }

  // Images read so far.
  int64_t read() const { return read_; }

 private:
  std::shared_ptr<const Dataset> counted_;
  mutable std::atomic<int64_t> read_{0};
};

}  // namespace entangle
