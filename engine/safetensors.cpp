#include "engine/safetensors.h"

#include <utility>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/safetensors_header.h"

namespace entangle {

namespace {

constexpr uint64_t kLengthBytes = 8;

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path)
    : TensorFile(path), file_(std::make_shared<const InputFile>(path, "a .safetensors file")) {
  const uint64_t file_bytes = file_->size();
  if (file_bytes < kLengthBytes) fail_unsound(path, concat("it has only ", file_bytes, " bytes"));
  uint64_t length = 0;
  file_->read(0, &length, kLengthBytes);
  if (length > kMaxSafetensorsHeader)
    fail_unsound(path, concat("its header would have ", length, " bytes, more than ", kMaxSafetensorsHeader));
  if (length > file_bytes - kLengthBytes) {
    fail_unsound(path, concat("it is cut short: a header of ", length, " bytes does not fit a file of ", file_bytes));
  }
  data_start_ = kLengthBytes + length;
  SafetensorsHeader header =
      parse_safetensors_header(path, file_->text(kLengthBytes, length), file_bytes - data_start_);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

void SafetensorsFile::read_into(const std::string& name, const TensorEntry& entry, void* to) const {
  const uint64_t file_bytes = file_->size();
  CHECK(data_start_ + entry.end <= file_bytes, path(), ": became shorter after it was opened: tensor ", in_quotes(name),
        " ends beyond its ", file_bytes, " bytes; write it again");
  file_->read(data_start_ + entry.begin, to, entry.end - entry.begin);
}

void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string header = make_safetensors_header(path, tensors, metadata);
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, kLengthBytes);
  file.write(header.data(), length);
  for (const TensorToWrite& tensor : tensors) {
    uint64_t bytes = 0;
    safetensors_bytes(tensor.dtype, tensor.shape, &bytes);
    file.write(tensor.bytes, bytes);
  }
  file.commit();
}

}  // namespace entangle
