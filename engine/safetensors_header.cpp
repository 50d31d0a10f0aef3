#include "engine/safetensors_header.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "engine/check.h"

#include <nlohmann/json.hpp>

namespace entangle {

namespace {

using nlohmann::json;

constexpr size_t kMaxDimensions = 64;
const char* const kMetadata = "__metadata__";

// Bytes of one element; 0 for a type that the format does not have.
uint64_t size_of_dtype(const std::string& dtype) {
  static const std::map<std::string, uint64_t> sizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},  {"F64", 8}, {"I64", 8}, {"U64", 8},     {"C64", 8}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? 0 : found->second;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

// Reads the header event by event. What may stand where is fixed, so nesting is bounded by the three levels that the
// format has, and a repeated name is seen although JSON parsers keep only the last.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  HeaderReader(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool null() override { wrong(); }
  bool boolean(bool) override { wrong(); }
  bool number_integer(number_integer_t) override { wrong(); }  // the negative ones
  bool number_float(number_float_t, const string_t&) override { wrong(); }
  bool binary(binary_t&) override { wrong(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > static_cast<uint64_t>(INT64_MAX)) wrong();
      if (entry_.shape.size() == kMaxDimensions) refuse(concat("has more than ", kMaxDimensions, " dimensions"));
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    } else {
      wrong();
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      header_.metadata[key_] = value;
    } else if (place_ == Place::tensor && field_ == "dtype") {
      if (size_of_dtype(value) == 0) refuse("has the unknown dtype " + in_quotes(value));
      entry_.dtype = value;
    } else {
      wrong();
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::file;
    } else if (place_ == Place::file) {
      place_ = name_ == kMetadata ? Place::metadata : Place::tensor;
      entry_ = TensorEntry();
      fields_.clear();
      offsets_ = 0;
    } else {
      wrong();
    }
    return true;
  }

  bool key(string_t& key) override {
    if (place_ == Place::file) {
      if (!names_.insert(key).second) fail_unsound(path_, "the name " + in_quotes(key) + " occurs twice in the header");
      name_ = key;
    } else if (place_ == Place::metadata) {
      if (header_.metadata.count(key)) fail_unsound(path_, "the metadata key " + in_quotes(key) + " occurs twice");
      key_ = key;
    } else {
      const bool known = key == "dtype" || key == "shape" || key == "data_offsets";
      if (!known) refuse("has the unknown key " + in_quotes(key));
      if (!fields_.insert(key).second) refuse("has " + in_quotes(key) + " twice");
      field_ = key;
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!fields_.count(field)) refuse(concat("has no ", field));
      }
      header_.tensors[name_] = entry_;
    }
    place_ = place_ == Place::file ? Place::outside : Place::file;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || field_ == "dtype") wrong();
    place_ = field_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2) wrong();
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail_unsound(path_, concat("its header is not valid JSON at byte ", position));
  }

 private:
  enum class Place { outside, file, metadata, tensor, shape, offsets };

  [[noreturn]] void refuse(const std::string& what) { fail_unsound(path_, "tensor " + in_quotes(name_) + " " + what); }

  // A value of a kind that may not stand here.
  [[noreturn]] void wrong() {
    if (place_ == Place::outside) fail_unsound(path_, "its header is not a JSON object");
    if (place_ == Place::metadata)
      fail_unsound(path_, "the value of metadata key " + in_quotes(key_) + " is not a string");
    if (place_ == Place::file && name_ == kMetadata) fail_unsound(path_, "__metadata__ is not an object of strings");
    if (place_ == Place::file) refuse("is not described by an object");
    if (field_ == "dtype") refuse("has a dtype that is not a string");
    if (field_ == "shape") refuse("has a shape that is not a list of integers from 0 to 2^63 - 1");
    refuse("has data_offsets that are not two integers from 0 to 2^64 - 1");
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::outside;
  std::set<std::string> names_, fields_;
  std::string name_, key_, field_;
  TensorEntry entry_;
  int offsets_ = 0;
};

// The tensors must cover the data section from end to end, each byte once.
void check_layout(const std::string& path, const std::map<std::string, TensorEntry>& tensors, uint64_t data_bytes) {
  using Item = std::pair<const std::string, TensorEntry>;
  std::vector<const Item*> items;
  for (const Item& item : tensors) {
    const auto& [name, entry] = item;
    const std::string tensor = "tensor " + in_quotes(name);
    uint64_t bytes = 0;
    if (entry.begin > entry.end)
      fail_unsound(path, concat(tensor, " begins at ", entry.begin, " after its end ", entry.end));
    if (!safetensors_bytes(entry.dtype, entry.shape, &bytes))
      fail_unsound(path, tensor + " has the impossible size " + shape_text(entry.shape));
    if (entry.end - entry.begin != bytes) {
      fail_unsound(path, concat(tensor, " has ", entry.end - entry.begin, " bytes where ", entry.dtype, " ",
                                shape_text(entry.shape), " needs ", bytes));
    }
    items.push_back(&item);
  }
  std::sort(items.begin(), items.end(), [](const Item* a, const Item* b) {
    return std::tie(a->second.begin, a->second.end) < std::tie(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  for (const Item* item : items) {
    const auto& [name, entry] = *item;
    if (entry.begin < covered)
      fail_unsound(path, concat("tensor ", in_quotes(name), " overlaps the one that ends at ", covered));
    if (entry.begin > covered)
      fail_unsound(path, concat("a hole of unused bytes lies before tensor ", in_quotes(name)));
    covered = entry.end;
  }
  if (covered > data_bytes)
    fail_unsound(path, concat("it is cut short: ", covered - data_bytes, " bytes of data are missing"));
  if (covered < data_bytes)
    fail_unsound(path, concat("it has ", data_bytes - covered, " bytes more than its header describes"));
}

std::string json_string(const std::string& text, const std::string& path) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    RAISE(path, ": cannot be written: ", in_quotes(text), " is not UTF-8 text; rename it");
  }
}

// The entry of a tensor whose bytes start at `begin`.
TensorEntry entry_of(const std::string& path, const TensorToWrite& tensor, uint64_t begin) {
  uint64_t bytes = 0;
  const bool sound = tensor.shape.size() <= kMaxDimensions && safetensors_bytes(tensor.dtype, tensor.shape, &bytes);
  CHECK(sound, path, ": cannot be written: tensor ", in_quotes(tensor.name),
        " has an impossible type or shape: ", in_quotes(tensor.dtype), " ", shape_text(tensor.shape));
  return {tensor.dtype, tensor.shape, begin, begin + bytes};
}

}  // namespace

std::string in_quotes(const std::string& name) {
  constexpr size_t kShown = 100;
  std::string shown = name.substr(0, kShown);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return "'" + shown + (name.size() > kShown ? "...'" : "'");
}

void fail_unsound(const std::string& path, const std::string& what) {
  RAISE(path, ": ", what, "; this is not a sound safetensors file: fetch or write it again");
}

bool safetensors_bytes(const std::string& dtype, const std::vector<int64_t>& shape, uint64_t* bytes) {
  int64_t product = static_cast<int64_t>(size_of_dtype(dtype));
  bool possible = product > 0;
  for (const int64_t size : shape) possible = possible && size >= 0 && !__builtin_mul_overflow(product, size, &product);
  *bytes = possible ? static_cast<uint64_t>(product) : 0;
  return possible;
}

SafetensorsHeader parse_safetensors_header(const std::string& path, const std::string& text, uint64_t data_bytes) {
  if (text.empty() || text[0] != '{') fail_unsound(path, "its header is not a JSON object");
  // The parser would take a zero byte for the end of its input.
  if (text.find('\0') != std::string::npos) fail_unsound(path, "its header contains a zero byte");
  SafetensorsHeader header;
  HeaderReader reader(path, header);
  json::sax_parse(text.begin(), text.end(), &reader);
  check_layout(path, header.tensors, data_bytes);
  return header;
}

std::string make_safetensors_header(const std::string& path, const std::vector<TensorToWrite>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += json_string(kMetadata, path) + ":{";
    for (const auto& [key, value] : metadata) {
      if (key != metadata.begin()->first) header += ',';
      header += json_string(key, path) += ':';
      header += json_string(value, path);
    }
    header += '}';
  }
  std::set<std::string> names = {kMetadata};
  uint64_t begin = 0;
  for (const TensorToWrite& tensor : tensors) {
    CHECK(names.insert(tensor.name).second, path, ": cannot be written: two tensors are called ",
          in_quotes(tensor.name));
    const TensorEntry entry = entry_of(path, tensor, begin);
    if (header.size() > 1) header += ',';
    header +=
        concat(json_string(tensor.name, path), ":{\"dtype\":\"", entry.dtype, "\",\"shape\":", json(entry.shape).dump(),
               ",\"data_offsets\":[", entry.begin, ",", entry.end, "]}");
    begin = entry.end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(header.size() <= kMaxSafetensorsHeader, path, ": cannot be written: its header has ", header.size(),
        " bytes, more than ", kMaxSafetensorsHeader, "; write fewer tensors or less metadata");
  return header;
}

}  // namespace entangle
