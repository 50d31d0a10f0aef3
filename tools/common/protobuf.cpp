#include "tools/common/protobuf.h"

#include "engine/check.h"

namespace entangle {

void ProtobufMessage::integer(int field, int64_t value) {
  tag(field, ProtobufKind::varint);
  put_varint(static_cast<uint64_t>(value));
}

void ProtobufMessage::real(int field, float value) {
  tag(field, ProtobufKind::four_bytes);
  raw(&value, sizeof value);
}

void ProtobufMessage::real64(int field, double value) {
  tag(field, ProtobufKind::eight_bytes);
  raw(&value, sizeof value);
}

void ProtobufMessage::data(int field, const void* from, size_t size) {
  tag(field, ProtobufKind::bytes);
  put_varint(size);
  raw(from, size);
}

void ProtobufMessage::tag(int field, ProtobufKind kind) {
  put_varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(kind));
}

void ProtobufMessage::put_varint(uint64_t value) {
  for (; value > 0x7f; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
  bytes_ += static_cast<char>(value);
}

bool ProtobufFields::next() {
  if (at_ == end_) return false;
  start_ = at_;
  const uint64_t tag = take_varint();
  field_ = tag >> 3;
  kind_ = static_cast<ProtobufKind>(tag & 7);
  switch (kind_) {
    case ProtobufKind::varint:
      number_ = static_cast<int64_t>(take_varint());
      break;
    case ProtobufKind::eight_bytes:
      skip(sizeof(double));
      break;
    case ProtobufKind::bytes:
      skip(take_varint());
      break;
    case ProtobufKind::four_bytes:
      skip(sizeof(float));
      break;
    default:
      require(false, "a field of another kind");
  }
  return true;
}

float ProtobufFields::real() const {
  expect(ProtobufKind::four_bytes);
  float value = 0;
  std::memcpy(&value, file_.data() + content_, sizeof value);
  return value;
}

void ProtobufFields::require(bool condition, const char* otherwise) const {
  CHECK(condition, name_, ": at byte ", start_, " there is ", otherwise);
}

void ProtobufFields::expect(ProtobufKind kind) const {
  require(kind_ == kind, "a field of another type than its number has");
}

uint64_t ProtobufFields::take_varint() {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    require(at_ < end_ && shift < 64, "a number that does not end");
    const uint8_t byte = static_cast<uint8_t>(file_[at_++]);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

void ProtobufFields::skip(uint64_t size) {
  require(size <= end_ - at_, "a field that goes beyond its message");
  content_ = at_;
  at_ += static_cast<size_t>(size);
}

}  // namespace entangle
