// MATLAB's files of level 5 (versions 5 to 7, "MAT-File Format", The MathWorks): numbers, texts, cells and structures.
//
// Little-endian. A header of 128 bytes (text, at 124 the version 0x0100, at 126 "IM") and one element a variable:
//   element   u32 type, u32 bytes, the data, zeros up to a multiple of 8; or, for up to 4 bytes, u16 type, u16 bytes, data
//   matrix    (type 14) elements: flags and class, dimensions, name, then by class the numbers; or a matrix for every
//             cell; or for a structure the length and list of the field names and a matrix for every field of every entry
//   compressed (type 15, not padded) a zlib stream (RFC 1950) of one matrix
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace entangle {

// A value of a MATLAB file: numbers, a text, or a cell array or structure of further ones.
struct MatArray {
  // `other`: of a class that is not read (sparse, complex, objects, functions); it has dimensions only.
  enum class Kind { numbers, text, cells, structure, other };

  Kind kind = Kind::other;
  std::vector<int64_t> dimensions;
  std::vector<double> numbers;      // column after column, of any numeric type; exact up to 2^53
  std::string text;                 // ASCII, column after column
  std::vector<std::string> fields;  // names of a structure
  std::vector<MatArray> members;    // cells; of a structure the fields of its first entry, then of its second, ...

  int64_t count() const;                                                // of entries: the product of the dimensions
  const MatArray* field(int64_t entry, const std::string& name) const;  // null when there is none
};

using MatVariables = std::map<std::string, MatArray>;

// `file` is the content, `name` stands in messages. Memory is bounded by about 64 times kLargestMatFile whatever the file
// says. Throws Error that begins with `name` when it is no such file (HDF5 of version 7.3 and big-endian files are told
// apart), cut short, corrupt (Adler-32 is checked), too large or nested too deeply.
MatVariables parse_mat(const std::vector<uint8_t>& file, const std::string& name);
MatVariables read_mat_file(const std::string& path);

// Of the file and, in all, of what its compressed elements hold.
inline constexpr uint64_t kLargestMatFile = uint64_t{8} << 20;
inline constexpr int kDeepestMatNesting = 16;

}  // namespace entangle
