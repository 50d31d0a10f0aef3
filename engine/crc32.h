// CRC-32 as gzip, PNG and zip compute it (polynomial 0xEDB88320, reflected).
#pragma once

#include <cstddef>
#include <cstdint>

namespace entangle {

// Of `size` bytes; `before` is the check sum of what lies in front of them.
uint32_t crc32(const uint8_t* bytes, size_t size, uint32_t before = 0);

}  // namespace entangle
