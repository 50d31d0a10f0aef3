#include "data/broken_images.h"

#include <cstdio>

#include "engine/check.h"

namespace entangle {

BrokenImages::BrokenImages(int64_t images, double allowed) : images_(images), allowed_(allowed) {
  CHECK(allowed >= 0 && allowed <= 1, "max_broken is a share of the images: ", allowed, " is not in [0, 1]");
}

bool BrokenImages::contains(int64_t index) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (broken_.count(index) == 0) return false;
  CHECK(too_many_.empty(), too_many_);
  return true;
}

int64_t BrokenImages::count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(broken_.size());
}

void BrokenImages::add(int64_t index, const std::string& reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!broken_.insert(index).second) return;
  std::fprintf(stderr, "skipped an image: %s\n", reason.c_str());
  const int64_t count = static_cast<int64_t>(broken_.size());
  if (static_cast<double>(count) <= allowed_ * static_cast<double>(images_) && count < images_) return;
  too_many_ = concat(count, " of ", images_, " images are broken, more than the share ", allowed_,
                     " allowed by DATA.max_broken; the last one: ", reason);
  RAISE(too_many_);
}

}  // namespace entangle
