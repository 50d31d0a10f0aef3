#include "engine/tensor_file.h"

#include <cstring>

#include "engine/check.h"
#include "engine/safetensors.h"
#include "engine/safetensors_header.h"
#include "engine/torch_checkpoint.h"

namespace entangle {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the formats are little-endian and values are copied as they lie");

namespace {

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

const TensorEntry& TensorFile::entry(const std::string& name) const {
  const auto found = tensors_.find(name);
  CHECK(found != tensors_.end(), path_, ": has no tensor ", in_quotes(name), "; it may belong to another model");
  return found->second;
}

std::vector<uint8_t> TensorFile::read_bytes(const std::string& name) const {
  const TensorEntry& tensor = entry(name);
  std::vector<uint8_t> bytes(static_cast<size_t>(tensor.end - tensor.begin));
  read_into(name, tensor, bytes.data());
  return bytes;
}

std::vector<uint8_t> TensorFile::read_u8(const std::string& name) const {
  const TensorEntry& tensor = entry(name);
  CHECK(tensor.dtype == "U8", path_, ": tensor ", in_quotes(name), " holds ", tensor.dtype, " where U8 is needed");
  return read_bytes(name);
}

std::vector<float> TensorFile::read_f32(const std::string& name) const {
  const TensorEntry& tensor = entry(name);
  if (tensor.dtype == "F16") return converted<uint16_t>(read_bytes(name), from_half);
  if (tensor.dtype == "BF16") return converted<uint16_t>(read_bytes(name), from_bfloat16);
  if (tensor.dtype == "F64") {
    return converted<double>(read_bytes(name), [](double value) { return static_cast<float>(value); });
  }
  CHECK(tensor.dtype == "F32", path_, ": tensor ", in_quotes(name), " holds ", tensor.dtype,
        " where F32, F16, BF16 or F64 is needed");
  std::vector<float> values(static_cast<size_t>(tensor.count()));
  read_into(name, tensor, values.data());
  return values;
}

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
  if (is_torch_checkpoint(path)) return std::make_unique<TorchCheckpoint>(path);
  return std::make_unique<SafetensorsFile>(path);
}

}  // namespace entangle
