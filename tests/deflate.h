// Bytes, and deflate without compression, for tests that write files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace entangle {

using Bytes = std::vector<uint8_t>;

inline void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

inline Bytes little_endian(uint64_t value, int bytes) {
  Bytes out;
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
  return out;
}

// Deflate without compression: blocks of a final flag, the length, its complement and the bytes.
inline Bytes stored_blocks(const Bytes& content) {
  Bytes out;
  size_t at = 0;
  do {
    const size_t length = std::min<size_t>(65535, content.size() - at);
    out.push_back(at + length == content.size());
    append(out, little_endian(static_cast<uint32_t>(length), 2));
    append(out, little_endian(~static_cast<uint32_t>(length), 2));
    out.insert(out.end(), content.begin() + at, content.begin() + at + length);
    at += length;
  } while (at < content.size());
  return out;
}

// A zlib stream (RFC 1950) of stored blocks.
inline Bytes zlib_stored(const Bytes& content) {
  uint32_t a = 1, b = 0;
  for (const uint8_t byte : content) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  Bytes stream = {0x78, 0x01};
  append(stream, stored_blocks(content));
  for (const uint32_t half : {b, a}) append(stream, {static_cast<uint8_t>(half >> 8), static_cast<uint8_t>(half)});
  return stream;
}

}  // namespace entangle
