// Check sums of 32 bits, of reflected polynomials.
#pragma once

#include <cstddef>
#include <cstdint>

namespace entangle {

// CRC-32 as gzip, PNG and zip compute it (polynomial 0xEDB88320). Of `size` bytes; `before` is the check sum of what
// lies in front of them.
uint32_t crc32(const uint8_t* bytes, size_t size, uint32_t before = 0);

// CRC-32C (Castagnoli's polynomial 0x82F63B78), as TensorFlow's records have it. Arguments as above.
uint32_t crc32c(const uint8_t* bytes, size_t size, uint32_t before = 0);

}  // namespace entangle
