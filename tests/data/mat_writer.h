// Writes MATLAB files of level 5, element by element, so that tests can write broken ones too.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "tests/deflate.h"

namespace entangle::mat {

enum : uint32_t { kInt8 = 1, kUint8 = 2, kUint16 = 4, kInt32 = 5, kUint32 = 6, kDouble = 9, kMatrix = 14, kZlib = 15 };
enum : uint8_t { kCell = 1, kStruct = 2, kChar = 4, kSparse = 5, kDoubleArray = 6, kUint8Array = 9 };

// `small`: in the form for up to four bytes where it fits.
inline Bytes element(uint32_t type, const Bytes& data, bool small = true) {
  Bytes out;
  if (small && !data.empty() && data.size() <= 4) {
    out = little_endian(type | static_cast<uint32_t>(data.size()) << 16, 4);
    append(out, data);
    out.resize(8);
    return out;
  }
  out = little_endian(type, 4);
  append(out, little_endian(static_cast<uint32_t>(data.size()), 4));
  append(out, data);
  if (type != kZlib) out.resize((out.size() + 7) / 8 * 8);
  return out;
}

inline Bytes bytes_of(const std::string& text) { return Bytes(text.begin(), text.end()); }

inline Bytes words(const std::vector<uint32_t>& values) {
  Bytes out;
  for (const uint32_t value : values) append(out, little_endian(value, 4));
  return out;
}

inline Bytes doubles(const std::vector<double>& values) {
  Bytes out;
  for (const double value : values) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    append(out, little_endian(bits, 8));
  }
  return out;
}

// Flags, dimensions and name of an array; what follows them is appended by the caller.
inline Bytes array_header(uint32_t flags, const std::vector<uint32_t>& dimensions, const std::string& name) {
  Bytes out = element(kUint32, words({flags, 0}));
  append(out, element(kInt32, words(dimensions), false));
  append(out, element(kInt8, bytes_of(name)));
  return out;
}

inline Bytes array(uint32_t flags, const std::vector<uint32_t>& dimensions, const std::string& name,
                   const Bytes& rest) {
  Bytes content = array_header(flags, dimensions, name);
  append(content, rest);
  return element(kMatrix, content, false);
}

// As MATLAB saves whole numbers of a double array: in bytes.
inline Bytes byte_row(const Bytes& values, const std::string& name = "") {
  return array(kDoubleArray, {1, static_cast<uint32_t>(values.size())}, name, element(kUint8, values));
}

inline Bytes double_row(const std::vector<double>& values, const std::string& name = "") {
  return array(kDoubleArray, {1, static_cast<uint32_t>(values.size())}, name, element(kDouble, doubles(values)));
}

inline Bytes text(const std::string& characters, const std::string& name = "") {
  Bytes units;
  for (const char c : characters) append(units, {static_cast<uint8_t>(c), 0});
  return array(kChar, {1, static_cast<uint32_t>(characters.size())}, name, element(kUint16, units));
}

// `members` are whole matrices: the fields of the first entry, then of the second.
inline Bytes structure(const std::vector<std::string>& fields, const std::vector<Bytes>& members,
                       const std::string& name, uint32_t each = 32) {
  Bytes names;
  for (const std::string& field : fields) {
    Bytes filled = bytes_of(field);
    filled.resize(each);
    append(names, filled);
  }
  Bytes rest = element(kInt32, words({each}));
  append(rest, element(kInt8, names));
  for (const Bytes& member : members) append(rest, member);
  const size_t entries = fields.empty() ? 1 : members.size() / fields.size();
  return array(kStruct, {1, static_cast<uint32_t>(entries)}, name, rest);
}

inline Bytes compressed(const Bytes& matrix) { return element(kZlib, zlib_stored(matrix), false); }

inline Bytes file(const std::vector<Bytes>& variables) {
  Bytes out = bytes_of("MATLAB 5.0 MAT-file, Platform: test");
  out.resize(124, ' ');
  append(out, {0x00, 0x01, 'I', 'M'});
  for (const Bytes& variable : variables) append(out, variable);
  return out;
}

}  // namespace entangle::mat
