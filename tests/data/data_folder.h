// What tests of data sets in folders share.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "tests/deflate.h"
#include "tests/expect_error.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tools/common/png.h"

namespace entangle {

inline void write(const std::string& path, const Bytes& bytes) {
  write_raw(path, std::string(bytes.begin(), bytes.end()));
}

// A PNG of 4x3 pixels of one grey level, whatever its name says.
inline void write_image(const std::string& path, int level) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  write_png(path, {3, 4, 3, Bytes(36, static_cast<uint8_t>(level))});
}

class DataFolder : public testing::Test {
 protected:
  void expect_broken(const std::string& name, const std::vector<std::string>& parts) const {
    entangle::expect_error([&] { open_data(name + ":" + dir.root()); }, parts);
  }
  static int level(const Dataset& dataset, int64_t index) {
    Image image;
    dataset.get(index, image);
    return image.pixels[0];
  }
  static std::vector<int64_t> labels(const Dataset& dataset) {
    std::vector<int64_t> all;
    for (int64_t i = 0; i < dataset.size(); ++i) all.push_back(dataset.label(i));
    return all;
  }

  TemporaryDirectory dir;
};

}  // namespace entangle
