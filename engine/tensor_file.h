// Files of named tensors, whatever their format: .safetensors (engine/safetensors.h), PyTorch's .pth
// (engine/torch_checkpoint.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace entangle {

// One tensor of a file. dtype as safetensors calls it: F32 F16 BF16 F64 I64 I32 I16 I8 U8 BOOL ...
struct TensorEntry {
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0,
           end = 0;  // its bytes, end - begin of them; in a .safetensors file their place in the data section
  int64_t count() const;
};

// A file of named tensors, of any format, open for reading.
class TensorFile {
 public:
  virtual ~TensorFile() = default;

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // the strings of __metadata__
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  // The tensor's values in row-major order, converted from F32, F16, BF16 or F64. Throws Error when there is no such
  // tensor, or of another type, or when the file became shorter or is damaged there.
  std::vector<float> read_f32(const std::string& name) const;
  std::vector<uint8_t> read_u8(const std::string& name) const;
  std::vector<uint8_t> read_bytes(const std::string& name) const;  // little-endian, as they are

 protected:
  explicit TensorFile(const std::string& path) : path_(path) {}
  // Writes the bytes of the tensor, in row-major order, to `to`.
  virtual void read_into(const std::string& name, const TensorEntry& entry, void* to) const = 0;

  std::map<std::string, TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;

 private:
  const TensorEntry& entry(const std::string& name) const;

  std::string path_;
};

// Opens a file in either format, told by its first bytes. Throws Error naming what is wrong with it.
std::unique_ptr<TensorFile> open_tensor_file(const std::string& path);

}  // namespace entangle
