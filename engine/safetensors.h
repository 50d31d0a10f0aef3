// The safetensors file format: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
// Reading is checked against hostile files: sizes, offsets, overlaps, types and counts, before anything is allocated.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/atomic_file.h"
#include "engine/input_file.h"
#include "engine/tensor_file.h"

namespace entangle {

// A .safetensors file that is open for reading.
class SafetensorsFile : public TensorFile {
 public:
  // Opens and checks the header. Throws Error naming the file and what is wrong with it.
  explicit SafetensorsFile(const std::string& path);

 private:
  void read_into(const std::string& name, const TensorEntry& entry, void* to) const override;

  std::shared_ptr<const InputFile> file_;
  uint64_t data_start_ = 0;
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
