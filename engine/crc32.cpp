#include "engine/crc32.h"

#include <array>

namespace entangle {
namespace {

using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

// table[0] advances the remainder by one byte; table[k] is the effect of a byte that k zero bytes follow, so eight
// bytes are taken in at once ("slicing by eight", Kounavis and Berry, 2005).
CrcTables make_crc_tables(uint32_t polynomial) {
  CrcTables table;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ (polynomial & (0u - (remainder & 1)));
    table[0][byte] = remainder;
  }
  for (size_t k = 1; k < table.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 255];
    }
  }
  return table;
}

uint32_t little_endian(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
         static_cast<uint32_t>(p[3]) << 24;
}

uint32_t check_sum(const CrcTables& table, const uint8_t* bytes, size_t size, uint32_t before) {
  uint32_t crc = ~before;
  for (; size >= 8; bytes += 8, size -= 8) {
    const uint32_t low = crc ^ little_endian(bytes), high = little_endian(bytes + 4);
    crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
          table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
  }
  for (; size > 0; ++bytes, --size) crc = (crc >> 8) ^ table[0][(crc ^ *bytes) & 255];
  return ~crc;
}

}  // namespace

uint32_t crc32(const uint8_t* bytes, size_t size, uint32_t before) {
  static const CrcTables table = make_crc_tables(0xEDB88320u);
  return check_sum(table, bytes, size, before);
}

uint32_t crc32c(const uint8_t* bytes, size_t size, uint32_t before) {
  static const CrcTables table = make_crc_tables(0x82F63B78u);
  return check_sum(table, bytes, size, before);
}

}  // namespace entangle
