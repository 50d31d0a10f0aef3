// A fresh directory that is removed with everything in it when the test ends.
#pragma once

#include <filesystem>
#include <string>

#include "engine/check.h"

#include <stdlib.h>

namespace entangle {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "entangle-test-XXXXXX").string();
    CHECK(mkdtemp(pattern.data()) != nullptr, "cannot create a temporary directory from ", pattern);
    root_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& root() const { return root_; }
  std::string path(const std::string& name) const { return root_ + "/" + name; }

 private:
  std::string root_;
};

}  // namespace entangle
