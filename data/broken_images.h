// Images of a data set that cannot be decoded: left out, counted, named, and too many are an error.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>

namespace entangle {

// Of a list of `images` images at most the share `allowed` may be broken. May be used from several threads.
class BrokenImages {
 public:
  // Throws Error when the share is not in [0, 1].
  BrokenImages(int64_t images, double allowed);
  // Whether it was found broken. Throws again what add() threw if they are too many.
  bool contains(int64_t index) const;
  int64_t count() const;
  // Image `index` is broken, as `reason` says: told on stderr the first time. Throws Error when they are too many now.
  void add(int64_t index, const std::string& reason);

 private:
  const int64_t images_;
  const double allowed_;
  mutable std::mutex mutex_;
  std::set<int64_t> broken_;
  std::string too_many_;  // what add() threw
};

}  // namespace entangle
