// The JSON header of a safetensors file as text: reading it with every check that needs no data, and making it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/safetensors.h"

namespace entangle {

// Longest header that is read or written, as in the format's reference implementation.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// What the header of a file says: its tensors by name, and its metadata.
struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Throws Error naming `path` and the tensor when the text is no sound header for a data section of `data_bytes`: not
// JSON, of another structure, repeated names, impossible types, shapes or offsets, overlaps, holes, bytes missing or
// left over.
SafetensorsHeader parse_safetensors_header(const std::string& path, const std::string& text, uint64_t data_bytes);

// The header for tensors stored one after another, padded with spaces to a multiple of eight bytes.
std::string make_safetensors_header(const std::string& path, const std::vector<TensorToWrite>& tensors,
                                    const std::map<std::string, std::string>& metadata);

// Bytes of a tensor; false when the type is unknown, a size negative, or the product beyond 63 bits.
bool safetensors_bytes(const std::string& dtype, const std::vector<int64_t>& shape, uint64_t* bytes);

// Throws Error: the file is damaged or no safetensors file.
[[noreturn]] void fail_unsound(const std::string& path, const std::string& what);

// A name from a file, fit for one line on a terminal: quoted, bounded, without control characters.
std::string in_quotes(const std::string& name);

}  // namespace entangle
