// Whole files in memory, and gzip (RFC 1952) over them. A hostile or broken file costs at most the limit in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace entangle {

// The bytes of a regular file. Throws Error when it cannot be read or is longer than `limit` bytes.
std::vector<uint8_t> read_file(const std::string& path, uint64_t limit);

// The content of `file`, a gzip file of one member. `name` stands in messages. Throws Error when it is no gzip file, is
// cut short or corrupt (CRC-32 and length are checked), or announces more than `limit` bytes of content, which is found
// before anything is allocated. limit <= 2^31 - 1.
std::vector<uint8_t> gunzip(const std::vector<uint8_t>& file, const std::string& name, uint64_t limit);

}  // namespace entangle
