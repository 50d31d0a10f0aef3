// IDX files, the format of MNIST's images and labels.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace entangle {

// The bytes of an IDX file, unpacked where they were gzipped, with checked reads.
struct IdxFile {
  std::string path;  // for messages
  std::vector<uint8_t> bytes;

  int64_t size() const { return static_cast<int64_t>(bytes.size()); }
  uint32_t header(size_t word) const {  // big-endian
    const uint8_t* p = &bytes[4 * word];
    return static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 | static_cast<uint32_t>(p[2]) << 8 |
           p[3];
  }
};

// 28x28 grey images of ten classes. Throws Error naming the file for a wrong magic number, size, label, for a file that is
// cut short or too long, and when the two do not belong together.
std::shared_ptr<const Dataset> open_idx(IdxFile images, IdxFile labels);

}  // namespace entangle
