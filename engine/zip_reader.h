// Zip archives whose entries are stored, not compressed: what PyTorch's files are. Zip64 is understood.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/input_file.h"

namespace entangle {

// A file within the archive.
struct ZipEntry {
  uint64_t begin = 0, size = 0;  // the content's bytes within the file
  uint32_t crc = 0;
};

// An archive that is open for reading; its entries are stored, not compressed.
class ZipFile {
 public:
  // Reads and checks the directory. Throws Error naming the file and the entry: no directory, one that is cut short or
  // reaches beyond the file, names that occur twice, entries that are compressed, encrypted, beyond the file, over one
  // another or over the directory, or called otherwise where they lie.
  explicit ZipFile(std::shared_ptr<const InputFile> file);

  const std::map<std::string, ZipEntry>& entries() const { return entries_; }
  // The content of an entry. Throws Error when its CRC-32 is not the directory's.
  std::vector<uint8_t> read(const std::string& name) const;

 private:
  std::shared_ptr<const InputFile> file_;
  std::map<std::string, ZipEntry> entries_;
};

}  // namespace entangle
