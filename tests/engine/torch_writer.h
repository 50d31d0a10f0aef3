// Writes PyTorch checkpoints byte by byte, sound ones and such as nobody should write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/crc32.h"

namespace entangle {

inline std::string little(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

// A zip archive of stored entries.
struct ZipToWrite {
  struct Entry {
    std::string name, content;
    uint16_t method = 0, flags = 0;
    std::string local_name;  // empty: the same
    int64_t header = -1;     // where the directory says it lies; -1: where it does
    int64_t size = -1;       // that the directory tells; -1: its own
  };
  std::vector<Entry> entries;

  Entry& add(const std::string& name, const std::string& content) {
    Entry entry;
    entry.name = name;
    entry.content = content;
    entries.push_back(entry);
    return entries.back();
  }
  std::string bytes() const {
    std::string file, directory;
    for (const Entry& entry : entries) {
      const uint32_t crc = crc32(reinterpret_cast<const uint8_t*>(entry.content.data()), entry.content.size());
      const uint64_t size = entry.size < 0 ? entry.content.size() : static_cast<uint64_t>(entry.size);
      const uint64_t header = entry.header < 0 ? file.size() : static_cast<uint64_t>(entry.header);
      const std::string common = little(0, 2) + little(entry.flags, 2) + little(entry.method, 2) + little(0, 4) +
                                 little(crc, 4) + little(size, 4) + little(size, 4);
      const std::string& local = entry.local_name.empty() ? entry.name : entry.local_name;
      file += "PK\x03\x04" + common + little(local.size(), 2) + little(0, 2) + local + entry.content;
      directory += "PK\x01\x02" + little(0, 2) + common + little(entry.name.size(), 2) + little(0, 2) + little(0, 2) +
                   little(0, 8) + little(header, 4) + entry.name;
    }
    const std::string count = little(entries.size(), 2);
    return file + directory + "PK\x05\x06" + little(0, 4) + count + count + little(directory.size(), 4) +
           little(file.size(), 4) + little(0, 2);
  }
};

// Pieces of pickles. Each leaves one value on the stack.
namespace pickled {

inline const std::string kStart("\x80\x02", 2);
inline std::string text(const std::string& value) { return "X" + little(value.size(), 4) + value; }
inline std::string integer(int32_t value) { return "J" + little(static_cast<uint32_t>(value), 4); }
inline std::string big(int64_t value) { return "\x8a\x08" + little(static_cast<uint64_t>(value), 8); }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string joined(const std::vector<std::string>& items) {
  std::string all;
  for (const std::string& item : items) all += item;
  return all;
}
inline std::string tuple(const std::vector<std::string>& items) { return "(" + joined(items) + "t"; }
inline std::string dict(const std::vector<std::string>& items) { return "}(" + joined(items) + "u"; }
inline std::string call(const std::string& function, const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + "R";
}
inline std::string storage(const std::string& kind, const std::string& key, int64_t count) {
  return tuple({text("storage"), global("torch", kind), text(key), text("cpu"), big(count)}) + "Q";
}
inline std::string sizes(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(big(value));
  return tuple(items);
}
inline std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& stride) {
  return call(global("torch._utils", "_rebuild_tensor_v2"), {storage, big(offset), sizes(shape), sizes(stride), "\x89",
                                                             call(global("collections", "OrderedDict"), {})});
}

}  // namespace pickled
}  // namespace entangle
