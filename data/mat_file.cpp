#include "data/mat_file.h"

#include <stb/stb_image.h>

#include <algorithm>
#include <cstring>

#include "data/gzip.h"
#include "engine/check.h"
#include "engine/safetensors_header.h"

namespace entangle {

namespace {

constexpr size_t kHeader = 128, kVersionAt = 124, kEndianAt = 126, kTag = 8;
constexpr unsigned kVersion5 = 0x0100, kVersion73 = 0x0200;
enum ElementType : uint32_t { kInt8 = 1, kUint8 = 2, kInt16 = 3, kUint16 = 4, kInt32 = 5, kUint32 = 6, kSingle = 7 };
enum MoreElementTypes : uint32_t { kDouble = 9, kInt64 = 12, kUint64 = 13, kMatrix = 14, kCompressed = 15 };
enum TextTypes : uint32_t { kUtf8 = 16, kUtf16 = 17 };
enum ArrayClass : uint32_t {
  kCellClass = 1,
  kStructClass = 2,
  kCharClass = 4,
  kDoubleClass = 6,
  kLastNumberClass = 15
};
constexpr uint32_t kComplexFlag = 0x0800;

struct Bytes {
  const uint8_t* at = nullptr;
  size_t size = 0;
};

struct Element {
  uint32_t type = 0;
  Bytes data;
};

template <class T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);  // the file and the processors this runs on are little-endian
  return value;
}

// Adler-32 (RFC 1950): sums modulo 65521, at most 5552 bytes between two reductions of 32 bits.
uint32_t adler32(const uint8_t* bytes, size_t size) {
  uint32_t a = 1, b = 0;
  while (size > 0) {
    const size_t run = std::min<size_t>(size, 5552);
    for (size_t i = 0; i < run; ++i) {
      a += bytes[i];
      b += a;
    }
    a %= 65521;
    b %= 65521;
    bytes += run;
    size -= run;
  }
  return b << 16 | a;
}

class MatParser {
 public:
  MatParser(const std::vector<uint8_t>& file, const std::string& name) : file_(file), name_(name) {}

  MatVariables parse() {
    check_header();
    MatVariables variables;
    Bytes rest = {file_.data() + kHeader, file_.size() - kHeader};
    while (rest.size > 0) {
      Element element = take(rest);
      if (element.type == kCompressed) element = inflated(element.data);
      CHECK(element.type == kMatrix, name_, ": an element of type ", element.type, " stands where a variable should be",
            kCorrupt);
      std::string variable;
      MatArray array = parse_array(element.data, 1, variable);
      const bool is_new = variables.emplace(variable, std::move(array)).second;
      CHECK(is_new, name_, ": has two variables called ", in_quotes(variable), kCorrupt);
    }
    return variables;
  }

 private:
  static constexpr const char* kCorrupt = ": the file is corrupt, fetch it again";
  static constexpr const char* kCut = "is cut short; fetch it again";

  void check_header() const {
    CHECK(file_.size() <= kLargestMatFile, name_, ": ", file_.size(), " bytes are more than the ", kLargestMatFile,
          " read");
    CHECK(file_.size() >= kHeader, name_, " is no MATLAB file of version 5 to 7: ", file_.size(),
          " bytes do not hold its header of ", kHeader, "; fetch it again");
    const uint8_t* end = file_.data() + kEndianAt;
    CHECK(!(end[0] == 'M' && end[1] == 'I'), name_, ": was written on a big-endian machine; save it again on another");
    const unsigned version = load<uint16_t>(file_.data() + kVersionAt);
    CHECK(version != kVersion73, name_, ": is of version 7.3 (HDF5); save it with -v7");
    CHECK(end[0] == 'I' && end[1] == 'M' && version == kVersion5, name_,
          " is no MATLAB file of version 5 to 7: its header does not say so; fetch it again");
  }

  // The next element of `rest`, which begins behind it afterwards.
  Element take(Bytes& rest) const {
    CHECK(rest.size >= kTag, name_, ": ", kCut);
    const uint32_t first = load<uint32_t>(rest.at);
    Element element;
    size_t whole = kTag;
    if (first >> 16 != 0) {
      element = {first & 0xFFFF, {rest.at + 4, first >> 16}};
      CHECK(element.data.size <= 4, name_, ": a small element announces ", element.data.size, " bytes", kCorrupt);
    } else {
      element = {first, {rest.at + kTag, load<uint32_t>(rest.at + 4)}};
      CHECK(element.data.size <= rest.size - kTag, name_, ": an element of ", element.data.size, " bytes ", kCut);
      whole += element.type == kCompressed ? element.data.size : (element.data.size + 7) / 8 * 8;
    }
    // The padding of the last element may be left away.
    whole = std::min(whole, rest.size);
    rest.at += whole;
    rest.size -= whole;
    return element;
  }

  // The element in a zlib stream. Its bytes stay in inflated_ as long as the parser lives.
  Element inflated(const Bytes& stream) {
    CHECK(stream.size >= 6, name_, ": a compressed element of ", stream.size, " bytes ", kCut);
    // Deflate makes at most 1032 bytes of one.
    const size_t most = std::min(left_, 1032 * stream.size);
    if (scratch_.size() < most) scratch_.resize(most);
    const int got = stbi_zlib_decode_buffer(reinterpret_cast<char*>(scratch_.data()), static_cast<int>(most),
                                            reinterpret_cast<const char*>(stream.at), static_cast<int>(stream.size));
    CHECK(got >= 0, name_, ": a compressed element is corrupt or holds more than the ", left_,
          " bytes left of the limit; fetch it again");
    const uint8_t* sum = stream.at + stream.size - 4;
    const uint32_t want = uint32_t{sum[0]} << 24 | uint32_t{sum[1]} << 16 | uint32_t{sum[2]} << 8 | sum[3];
    CHECK(adler32(scratch_.data(), static_cast<size_t>(got)) == want, name_,
          ": the check sum of a compressed element is wrong", kCorrupt);
    left_ -= static_cast<size_t>(got);
    current_.assign(scratch_.begin(), scratch_.begin() + got);
    Bytes rest = {current_.data(), current_.size()};
    const Element element = take(rest);
    CHECK(rest.size == 0, name_, ": ", rest.size, " bytes follow a compressed variable", kCorrupt);
    return element;
  }

  Element take_of_type(Bytes& rest, uint32_t type, const char* what) const {
    const Element element = take(rest);
    CHECK(element.type == type, name_, ": ", what, " have the type ", element.type, ", not ", type, kCorrupt);
    return element;
  }

  MatArray parse_array(Bytes rest, int depth, std::string& name) const {
    CHECK(depth <= kDeepestMatNesting, name_, ": is nested more than ", kDeepestMatNesting, " deep", kCorrupt);
    MatArray array;
    name.clear();
    if (rest.size == 0) {  // an empty cell or field may be no more than its tag
      array.kind = MatArray::Kind::numbers;
      array.dimensions = {0, 0};
      return array;
    }
    const Bytes flags = take_of_type(rest, kUint32, "array flags").data;
    CHECK(flags.size == 8, name_, ": array flags of ", flags.size, " bytes", kCorrupt);
    const uint32_t word = load<uint32_t>(flags.at), array_class = word & 0xFF;
    array.dimensions = parse_dimensions(take_of_type(rest, kInt32, "dimensions").data);
    const Bytes called = take_of_type(rest, kInt8, "characters of a name").data;
    name.assign(reinterpret_cast<const char*>(called.at), called.size);
    if ((word & kComplexFlag) != 0) return array;
    if (array_class == kCellClass) {
      array.kind = MatArray::Kind::cells;
      parse_members(rest, array.count(), depth, array);
    } else if (array_class == kStructClass) {
      array.kind = MatArray::Kind::structure;
      array.fields = parse_fields(rest);
      CHECK(array.fields.empty() || array.count() <= static_cast<int64_t>(kLargestMatFile / array.fields.size()), name_,
            ": a structure of ", array.count(), " entries ", kCut);
      parse_members(rest, array.count() * static_cast<int64_t>(array.fields.size()), depth, array);
    } else if (array_class == kCharClass) {
      array.kind = MatArray::Kind::text;
      parse_text(take(rest), array);
    } else if (array_class >= kDoubleClass && array_class <= kLastNumberClass) {
      array.kind = MatArray::Kind::numbers;
      parse_numbers(take(rest), array);
    }
    return array;
  }

  // No array can have more entries than kLargestMatFile: an entry takes a byte at least.
  std::vector<int64_t> parse_dimensions(const Bytes& data) const {
    CHECK(data.size >= 8 && data.size % 4 == 0 && data.size <= 4 * 32, name_, ": dimensions of ", data.size, " bytes",
          kCorrupt);
    std::vector<int64_t> dimensions;
    int64_t count = 1;
    for (size_t at = 0; at < data.size; at += 4) {
      const int64_t dimension = load<int32_t>(data.at + at);
      CHECK(dimension >= 0, name_, ": a dimension is ", dimension, kCorrupt);
      dimensions.push_back(dimension);
      count *= dimension;
      CHECK(count <= static_cast<int64_t>(kLargestMatFile), name_, ": an array of ", count, " entries or more ", kCut);
    }
    return dimensions;
  }

  // Names of one length each, filled up with zeros.
  std::vector<std::string> parse_fields(Bytes& rest) const {
    const Bytes length = take_of_type(rest, kInt32, "lengths of field names").data;
    CHECK(length.size == 4, name_, ": a field name's length of ", length.size, " bytes", kCorrupt);
    const int64_t each = load<int32_t>(length.at);
    const Bytes names = take_of_type(rest, kInt8, "field names").data;
    CHECK(each >= 1 && static_cast<int64_t>(names.size) % each == 0, name_, ": ", names.size,
          " bytes of field names of ", each, " each", kCorrupt);
    std::vector<std::string> fields;
    for (size_t at = 0; at < names.size; at += static_cast<size_t>(each)) {
      const char* first = reinterpret_cast<const char*>(names.at + at);
      fields.emplace_back(first, std::find(first, first + each, '\0'));
    }
    return fields;
  }

  void parse_members(Bytes rest, int64_t count, int depth, MatArray& array) const {
    CHECK(count <= static_cast<int64_t>(rest.size / kTag), name_, ": an array of ", count, " members ", kCut);
    array.members.reserve(static_cast<size_t>(count));
    std::string unused;
    for (int64_t i = 0; i < count; ++i) {
      const Element element = take_of_type(rest, kMatrix, "members of a cell or structure");
      array.members.push_back(parse_array(element.data, depth + 1, unused));
    }
  }

  template <class T>
  void convert(const Bytes& data, MatArray& array) const {
    const int64_t count = array.count();
    CHECK(static_cast<int64_t>(data.size) == count * static_cast<int64_t>(sizeof(T)), name_, ": an array of ", count,
          " entries has ", data.size, " bytes of numbers", kCorrupt);
    array.numbers.reserve(static_cast<size_t>(count));
    for (size_t at = 0; at < data.size; at += sizeof(T)) {
      array.numbers.push_back(static_cast<double>(load<T>(data.at + at)));
    }
  }

  // Numbers are stored in the smallest type that holds them, whatever the array's class.
  void parse_numbers(const Element& element, MatArray& array) const {
    switch (element.type) {
      case kInt8:
        return convert<int8_t>(element.data, array);
      case kUint8:
      case kUtf8:
        return convert<uint8_t>(element.data, array);
      case kInt16:
        return convert<int16_t>(element.data, array);
      case kUint16:
      case kUtf16:
        return convert<uint16_t>(element.data, array);
      case kInt32:
        return convert<int32_t>(element.data, array);
      case kUint32:
        return convert<uint32_t>(element.data, array);
      case kSingle:
        return convert<float>(element.data, array);
      case kDouble:
        return convert<double>(element.data, array);
      case kInt64:
        return convert<int64_t>(element.data, array);
      case kUint64:
        return convert<uint64_t>(element.data, array);
      default:
        RAISE(name_, ": numbers have the type ", element.type, kCorrupt);
    }
  }

  void parse_text(const Element& element, MatArray& array) const {
    parse_numbers(element, array);
    for (const double unit : array.numbers) {
      CHECK(unit >= 0 && unit < 128, name_, ": a text has the character ", unit, ", but only ASCII is read");
      array.text += static_cast<char>(unit);
    }
    array.numbers.clear();
    array.numbers.shrink_to_fit();
  }

  const std::vector<uint8_t>& file_;
  const std::string& name_;
  std::vector<uint8_t> scratch_, current_;
  size_t left_ = kLargestMatFile;  // that compressed elements may still hold
};

}  // namespace

int64_t MatArray::count() const {
  int64_t count = 1;
  for (const int64_t dimension : dimensions) count *= dimension;
  return count;
}

const MatArray* MatArray::field(int64_t entry, const std::string& name) const {
  const auto found = std::find(fields.begin(), fields.end(), name);
  const int64_t at = entry * static_cast<int64_t>(fields.size()) + (found - fields.begin());
  const bool exists = found != fields.end() && entry >= 0 && at < static_cast<int64_t>(members.size());
  return exists ? &members[static_cast<size_t>(at)] : nullptr;
}

MatVariables parse_mat(const std::vector<uint8_t>& file, const std::string& name) {
  return MatParser(file, name).parse();
}

MatVariables read_mat_file(const std::string& path) { return parse_mat(read_file(path, kLargestMatFile), path); }

}  // namespace entangle
