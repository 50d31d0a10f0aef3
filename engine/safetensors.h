// The safetensors file format: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
// Reading is checked against hostile files: sizes, offsets, overlaps, types and counts, before anything is allocated.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

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
  std::string path_;
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

// Writes to a temporary name in the same directory, fsyncs, renames over `path`, fsyncs the directory: the final name
// holds the old file or the whole new one, whatever happens. Throws Error (full disk, no permission) and leaves no
// temporary file behind.
void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata);

// The same guarantee for a small file of text.
void write_file_atomically(const std::string& path, const std::string& content);

}  // namespace entangle
