// Protobuf messages, written and read field by field, without their schemas: who uses this knows the fields' numbers.
//
// The wire format is small enough to write here: a message is a list of fields, a field is a varint
// `number << 3 | kind` and then its content, of four kinds:
//
//   kind 0  a varint: seven bits a byte, the lowest first, the top bit set in all but the last
//   kind 1  eight bytes, little-endian: a double
//   kind 2  a varint length and so many bytes: text, packed values, or another message
//   kind 5  four bytes, little-endian: a float
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace entangle {

enum class ProtobufKind { varint = 0, eight_bytes = 1, bytes = 2, four_bytes = 5 };

class ProtobufMessage {
 public:
  void integer(int field, int64_t value);
  void real(int field, float value);
  void real64(int field, double value);
  void text(int field, const std::string& value) { data(field, value.data(), value.size()); }
  void message(int field, const ProtobufMessage& value) { text(field, value.bytes_); }
  void data(int field, const void* from, size_t size);
  const std::string& bytes() const { return bytes_; }

 private:
  void tag(int field, ProtobufKind kind);
  void put_varint(uint64_t value);
  void raw(const void* from, size_t size) { bytes_.append(static_cast<const char*>(from), size); }

  std::string bytes_;
};

// The fields of a message, one after another: next() steps to the next and tells whether there is one. The content is
// asked for by its type. Throws Error, beginning with the name of the file, that tells the byte where something else
// is.
class ProtobufFields {
 public:
  // Both must outlive the fields.
  ProtobufFields(const std::string& file, const std::string& name) : ProtobufFields(file, 0, file.size(), name) {}

  bool next();

  uint64_t field() const { return field_; }
  int64_t integer() const { return expect(ProtobufKind::varint), number_; }
  std::string text() const { return expect(ProtobufKind::bytes), file_.substr(content_, at_ - content_); }
  ProtobufFields message() const { return expect(ProtobufKind::bytes), ProtobufFields(file_, content_, at_, name_); }
  float real() const;
  template <class T>
  std::vector<T> values() const {
    expect(ProtobufKind::bytes);
    require((at_ - content_) % sizeof(T) == 0, "values that are cut short");
    std::vector<T> out((at_ - content_) / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), file_.data() + content_, at_ - content_);
    return out;
  }
  void unknown() const { require(false, "a field that is not known here"); }
  void require(bool condition, const char* otherwise) const;

 private:
  // Bytes [at, end) of the file.
  ProtobufFields(const std::string& file, size_t at, size_t end, const std::string& name)
      : file_(file), at_(at), end_(end), name_(name) {}
  void expect(ProtobufKind kind) const;
  uint64_t take_varint();
  void skip(uint64_t size);

  const std::string& file_;
  size_t at_, end_, start_ = 0, content_ = 0;
  const std::string& name_;
  uint64_t field_ = 0;
  ProtobufKind kind_ = ProtobufKind::varint;
  int64_t number_ = 0;
};

}  // namespace entangle
