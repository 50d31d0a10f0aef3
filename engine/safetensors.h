// The safetensors file format: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
// Reading is checked against hostile files: sizes, offsets, overlaps, types and counts, before anything is allocated.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/atomic_file.h"

namespace entangle {

// One tensor of a file. dtype as in the format: F32 F16 BF16 F64 I64 I32 I16 I8 U8 BOOL ...
struct TensorEntry {
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // byte range within the data section
  int64_t count() const;
};

class SafetensorsFile {
 public:
  // Opens and checks the header. Throws Error naming the file and what is wrong with it.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // the strings of __metadata__
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  // The tensor's values, converted from F32, F16, BF16 or F64. Throws Error when there is no such tensor, or of another
  // type, or when the file became shorter.
  std::vector<float> read_f32(const std::string& name) const;
  std::vector<uint8_t> read_u8(const std::string& name) const;
  std::vector<uint8_t> read_bytes(const std::string& name) const;

 private:
  class Handle;  // keeps the file open: reads go to the file that was checked, whatever is renamed over it

  const TensorEntry& entry(const std::string& name) const;

  std::string path_;
  std::shared_ptr<const Handle> file_;
  uint64_t data_start_ = 0;
  std::map<std::string, TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written: bytes are little-endian, not copied, and must live until write_safetensors returns.
struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* bytes;
};

// Writes through AtomicFile (engine/atomic_file.h), with its guarantee and its errors; also throws Error on a repeated
// name, an unknown dtype, an impossible shape, or text that is not UTF-8, before anything is written.
void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace entangle
