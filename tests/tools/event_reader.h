// Reads event files without the code that writes them: frames and protobuf fields by hand, check sums bit by bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/check.h"
#include "tests/files.h"

namespace entangle {

// The remainder of the polynomial division, as the register of a circuit computes it: the lowest bit of a byte first.
inline uint32_t slow_crc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const uint32_t in = (static_cast<uint8_t>(c) >> bit & 1u) ^ (crc & 1u);
      crc = crc >> 1 ^ (in != 0 ? 0x82f63b78u : 0u);
    }
  }
  return ~crc;
}

// The same on paper: message and polynomial (0x1edc6f41, highest power first) as lists of bits, 32 zeros behind the
// message, the first and the last 32 bits inverted.
inline uint32_t long_division_crc32c(const std::string& bytes) {
  std::vector<int> bits;
  for (const char c : bytes) {
    for (int bit = 0; bit < 8; ++bit) bits.push_back(static_cast<uint8_t>(c) >> bit & 1);
  }
  const size_t count = bits.size();
  bits.resize(count + 32);
  for (size_t i = 0; i < 32; ++i) bits[i] ^= 1;
  for (size_t i = 0; i < count; ++i) {
    if (bits[i] == 0) continue;
    for (size_t k = 0; k < 32; ++k) bits[i + 1 + k] ^= static_cast<int>(0x1edc6f41u >> (31 - k) & 1u);
  }
  uint32_t crc = 0;
  for (size_t k = 0; k < 32; ++k) crc |= static_cast<uint32_t>(bits[count + k] ^ 1) << k;
  return crc;
}

struct WireField {
  uint64_t number, kind, value;
  std::string content;  // of kinds 1, 2 and 5
};

inline std::vector<WireField> fields_of(const std::string& message) {
  std::vector<WireField> out;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      CHECK(at < message.size() && shift < 64, "a varint that does not end");
      const uint64_t byte = static_cast<uint8_t>(message[at++]);
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t tag = varint();
    WireField field = {tag >> 3, tag & 7, 0, ""};
    if (field.kind == 0) {
      field.value = varint();
    } else {
      CHECK(field.kind == 1 || field.kind == 2 || field.kind == 5, "a field of kind ", field.kind);
      const uint64_t size = field.kind == 1 ? 8 : field.kind == 5 ? 4 : varint();
      CHECK(size <= message.size() - at, "a field beyond its message");
      field.content = message.substr(at, size);
      at += size;
    }
    out.push_back(field);
  }
  return out;
}

// The content of the only field of that number; empty when there is none.
inline std::string content_of(const std::string& message, uint64_t number) {
  std::string content;
  int found = 0;
  for (const WireField& field : fields_of(message)) {
    if (field.number == number) content = field.content, ++found;
  }
  CHECK(found <= 1, "field ", number, " stands there ", found, " times");
  return content;
}

template <class T>
T number_of(const std::string& bytes) {
  T value = 0;
  CHECK(bytes.size() == sizeof value, bytes.size(), " bytes instead of ", sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

struct ReadEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  bool starts = false;
  std::vector<std::pair<std::string, float>> scalars;
  std::vector<std::pair<std::string, std::string>> texts;
};

inline void read_value(const std::string& value, ReadEvent& out) {
  const std::string tag = content_of(value, 1), number = content_of(value, 2), tensor = content_of(value, 8);
  if (!number.empty()) {
    CHECK(tensor.empty(), tag, " is a number and a tensor");
    out.scalars.push_back({tag, number_of<float>(number)});
    return;
  }
  const std::string plugin = content_of(content_of(content_of(value, 9), 1), 1);
  CHECK(plugin == "text", tag, " is shown by '", plugin, "'");
  for (const WireField& field : fields_of(tensor)) {
    if (field.number == 1) CHECK(field.value == 7, "type ", field.value, " is not that of strings");
    if (field.number == 2) CHECK(field.content.empty(), "a tensor with dimensions");
  }
  out.texts.push_back({tag, content_of(tensor, 8)});
}

inline ReadEvent read_event(const std::string& record) {
  ReadEvent out;
  for (const WireField& field : fields_of(record)) {
    if (field.number == 1) out.wall_time = number_of<double>(field.content);
    if (field.number == 2) out.step = static_cast<int64_t>(field.value);
    if (field.number == 3) out.version = field.content;
    if (field.number == 5) {
      for (const WireField& value : fields_of(field.content)) read_value(value.content, out);
    }
    if (field.number == 7)
      out.starts = fields_of(field.content).at(0).number == 1 && fields_of(field.content)[0].value == 1;
    CHECK(field.number <= 3 || field.number == 5 || field.number == 7, "an event with field ", field.number);
  }
  return out;
}

// The events of a file up to the first frame that is not whole.
inline std::vector<ReadEvent> read_events(const std::string& bytes) {
  const auto masked = [](const std::string& of) {
    const uint64_t crc = slow_crc32c(of);
    return static_cast<uint32_t>((crc >> 15 | crc << 17) + 0xa282ead8u);
  };
  std::vector<ReadEvent> events;
  for (size_t at = 0; at + 16 <= bytes.size();) {
    const std::string head = bytes.substr(at, 8);
    const uint64_t length = number_of<uint64_t>(head);
    if (number_of<uint32_t>(bytes.substr(at + 8, 4)) != masked(head) || length > bytes.size() - at - 16) break;
    const std::string record = bytes.substr(at + 12, length);
    if (number_of<uint32_t>(bytes.substr(at + 12 + length, 4)) != masked(record)) break;
    events.push_back(read_event(record));
    at += 16 + length;
  }
  return events;
}

inline std::vector<std::string> event_files(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

template <class T>
using Series = std::map<std::string, std::vector<std::pair<int64_t, T>>>;  // by tag: (step, value) in order

// What TensorBoard shows of a directory: the start of a session at a step takes away what is there from that step on.
struct Shown {
  Series<float> scalars;
  Series<std::string> texts;
};

template <class T>
void forget_from(int64_t step, Series<T>& series) {
  for (auto& [tag, points] : series) {
    points.erase(std::remove_if(points.begin(), points.end(), [&](const auto& p) { return p.first >= step; }),
                 points.end());
  }
}

inline Shown shown(const std::string& directory) {
  Shown out;
  for (const std::string& path : event_files(directory)) {
    for (const ReadEvent& event : read_events(read_raw(path))) {
      if (event.starts) forget_from(event.step, out.scalars), forget_from(event.step, out.texts);
      for (const auto& [tag, value] : event.scalars) out.scalars[tag].push_back({event.step, value});
      for (const auto& [tag, text] : event.texts) out.texts[tag].push_back({event.step, text});
    }
  }
  return out;
}

}  // namespace entangle
