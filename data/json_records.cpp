#include "data/json_records.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "data/gzip.h"
#include "engine/check.h"

namespace entangle {

namespace {

using Json = nlohmann::json;

constexpr uint64_t kLargestFile = uint64_t{2} << 30;

// A record lies two lists or objects deep where the file is a list, and three deep in a list of the file's object.
class RecordHandler : public nlohmann::json_sax<Json> {
 public:
  using Take = std::function<void(const std::string&, const JsonRecord&)>;
  RecordHandler(const std::string& path, const std::vector<std::string>& wanted, const Take& take)
      : path_(path), wanted_(wanted), take_(take) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t value) override { return store(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return store(std::to_string(value)); }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t& value) override { return store(value); }
  bool binary(binary_t&) override { return true; }

  bool start_object(size_t) override {
    if (depth_ == 0) record_depth_ = 3;
    if (++depth_ == record_depth_) record_.clear();
    return true;
  }
  bool end_object() override {
    if (depth_-- == record_depth_ && in_list_) take_(section_, record_);
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 0) record_depth_ = 2;
    if (++depth_ == record_depth_ - 1) in_list_ = true;
    return true;
  }
  bool end_array() override {
    if (depth_-- == record_depth_ - 1) in_list_ = false;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) section_ = name;
    if (depth_ == record_depth_) key_ = name;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    RAISE(path_, ": is no JSON at byte ", position, ": it is cut short, corrupt or another file; fetch it again");
  }

 private:
  bool store(const std::string& value) {
    const bool wanted = depth_ == record_depth_ && std::find(wanted_.begin(), wanted_.end(), key_) != wanted_.end();
    if (wanted) record_[key_] = value;
    return true;
  }

  const std::string& path_;
  const std::vector<std::string>& wanted_;
  const Take& take_;
  int64_t depth_ = 0, record_depth_ = 0;
  bool in_list_ = false;
  std::string section_, key_;
  JsonRecord record_;
};

}  // namespace

void read_json_records(const std::string& path, const std::vector<std::string>& wanted,
                       const std::function<void(const std::string&, const JsonRecord&)>& take) {
  const std::vector<uint8_t> bytes = read_file(path, kLargestFile);
  RecordHandler handler(path, wanted, take);
  Json::sax_parse(bytes.begin(), bytes.end(), &handler);
}

}  // namespace entangle
