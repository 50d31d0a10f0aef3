#include "engine/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/safetensors_header.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace entangle {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the format is little-endian and values are copied as they lie");

// An open file. Reads go to the file that was checked even when another takes over its name meanwhile.
class SafetensorsFile::Handle {
 public:
  explicit Handle(const std::string& path) : path_(path) {
    // O_NONBLOCK: a named pipe is refused below instead of waiting for its writer.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    CHECK(descriptor_ >= 0, path, ": cannot be opened: ", std::strerror(errno), "; check the path and its permissions");
  }
  ~Handle() { ::close(descriptor_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  uint64_t size() const {
    struct stat status;
    CHECK(::fstat(descriptor_, &status) == 0, path_, ": cannot be examined: ", std::strerror(errno));
    CHECK(S_ISREG(status.st_mode), path_, ": is not a regular file; name a .safetensors file");
    return static_cast<uint64_t>(status.st_size);
  }

  void read(uint64_t offset, void* to, uint64_t bytes) const {
    char* place = static_cast<char*>(to);
    while (bytes > 0) {
      const size_t wanted = static_cast<size_t>(std::min<uint64_t>(bytes, uint64_t{1} << 30));
      const ssize_t got = ::pread(descriptor_, place, wanted, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      CHECK(got >= 0, path_, ": cannot be read at byte ", offset, ": ", std::strerror(errno));
      CHECK(got > 0, path_, ": became shorter while it was read: it ends at byte ", offset, "; write it again");
      place += got;
      offset += static_cast<uint64_t>(got);
      bytes -= static_cast<uint64_t>(got);
    }
  }

 private:
  std::string path_;
  int descriptor_;
};

namespace {

constexpr uint64_t kLengthBytes = 8;

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. Subnormals are mantissa * 2^-24, exact in fp32.
float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = (half >> 10) & 31,
                 mantissa = half & 1023;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(mantissa) * 0x1p-24f;
  const uint32_t widened = exponent == 31 ? 255 : exponent + (127 - 15);
  return from_bits(sign | widened << 23 | mantissa << 13);
}

float from_bfloat16(uint16_t value) { return from_bits(static_cast<uint32_t>(value) << 16); }

template <class T, class Convert>
std::vector<float> converted(const std::vector<uint8_t>& bytes, const Convert& convert) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(value);
  }
  return values;
}

}  // namespace

int64_t TensorEntry::count() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(std::make_shared<const Handle>(path)) {
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
  std::string text(static_cast<size_t>(length), ' ');
  file_->read(kLengthBytes, text.data(), length);
  SafetensorsHeader header = parse_safetensors_header(path, text, file_bytes - data_start_);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

const TensorEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = tensors_.find(name);
  CHECK(found != tensors_.end(), path_, ": has no tensor ", in_quotes(name), "; it may belong to another model");
  const uint64_t file_bytes = file_->size();
  CHECK(data_start_ + found->second.end <= file_bytes, path_, ": became shorter after it was opened: tensor ",
        in_quotes(name), " ends beyond its ", file_bytes, " bytes; write it again");
  return found->second;
}

std::vector<uint8_t> SafetensorsFile::read_bytes(const std::string& name) const {
  const TensorEntry& tensor = entry(name);
  std::vector<uint8_t> bytes(static_cast<size_t>(tensor.end - tensor.begin));
  file_->read(data_start_ + tensor.begin, bytes.data(), bytes.size());
  return bytes;
}

std::vector<uint8_t> SafetensorsFile::read_u8(const std::string& name) const {
  const TensorEntry& tensor = entry(name);
  CHECK(tensor.dtype == "U8", path_, ": tensor ", in_quotes(name), " holds ", tensor.dtype, " where U8 is needed");
  return read_bytes(name);
}

std::vector<float> SafetensorsFile::read_f32(const std::string& name) const {
  const TensorEntry& tensor = entry(name);
  if (tensor.dtype == "F16") return converted<uint16_t>(read_bytes(name), from_half);
  if (tensor.dtype == "BF16") return converted<uint16_t>(read_bytes(name), from_bfloat16);
  if (tensor.dtype == "F64") {
    return converted<double>(read_bytes(name), [](double value) { return static_cast<float>(value); });
  }
  CHECK(tensor.dtype == "F32", path_, ": tensor ", in_quotes(name), " holds ", tensor.dtype,
        " where F32, F16, BF16 or F64 is needed");
  std::vector<float> values(static_cast<size_t>(tensor.count()));
  file_->read(data_start_ + tensor.begin, values.data(), tensor.end - tensor.begin);
  return values;
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
