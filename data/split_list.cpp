#include "data/split_list.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "data/gzip.h"
#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/hash.h"

namespace entangle {

namespace {

constexpr uint64_t kLargestList = uint64_t{1} << 30;
constexpr const char* kData = "# data: ";

// What tells two data sets apart for a list of indices: how many images and classes, and a 64-bit FNV-1a hash of all names
// and labels in order. Where the data lies does not matter.
std::string description(const Dataset& train) {
  uint64_t hash = kEmptyHash;
  for (int64_t i = 0; i < train.size(); ++i) {
    for (const char c : train.name(i)) hash = hash_on(hash, static_cast<uint8_t>(c));
    hash = hash_on(hash, 0);
    for (int shift = 0; shift < 32; shift += 8) hash = hash_on(hash, static_cast<uint8_t>(train.label(i) >> shift));
  }
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(hash));
  return concat(train.size(), " images, ", train.classes(), " classes, fingerprint ", hex);
}

void check_description(const std::string& told, const Dataset& train, const std::string& list) {
  const std::string own = description(train);
  CHECK(told == own, list, " is of other training data: of ", told, ", but here are ", own);
}

bool parse_index(const std::string& text, int64_t& index) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  return error == std::errc() && end == text.data() + text.size();
}

// An image of the data set by its name, or else by its index.
class Lookup {
 public:
  explicit Lookup(const Dataset& train) : train_(train) {
    by_name_.reserve(static_cast<size_t>(train.size()));
    for (int64_t i = 0; i < train.size(); ++i) by_name_.emplace(train.name(i), i);
  }
  int64_t find(const std::string& image, const std::string& where) const {
    const auto named = by_name_.find(image);
    if (named != by_name_.end()) return named->second;
    int64_t index = 0;
    const bool is_index = parse_index(image, index) && index >= 0 && index < train_.size();
    CHECK(is_index, where, " names \"", image, "\", but the ", train_.size(),
          " training images have no such name or index");
    return index;
  }

 private:
  const Dataset& train_;
  std::unordered_map<std::string, int64_t> by_name_;
};

}  // namespace

Split split_by_list(const Dataset& train, std::vector<int64_t> held_out, const std::string& list) {
  std::sort(held_out.begin(), held_out.end());
  CHECK(!held_out.empty(), list, ": lists no images");
  CHECK(held_out.front() >= 0 && held_out.back() < train.size(), list, ": lists image ",
        held_out.front() < 0 ? held_out.front() : held_out.back(), ", but there are ", train.size(),
        " training images");
  const auto twice = std::adjacent_find(held_out.begin(), held_out.end());
  CHECK(twice == held_out.end(), list, ": lists image ", *twice, " (", train.name(*twice), ") twice");
  CHECK(static_cast<int64_t>(held_out.size()) < train.size(), list, ": holds out all ", train.size(),
        " training images; it must leave one to train on");
  Split split;
  split.held_out = std::move(held_out);
  auto next = split.held_out.begin();
  for (int64_t i = 0; i < train.size(); ++i) {
    if (next != split.held_out.end() && *next == i) {
      ++next;
    } else {
      split.train.push_back(i);
    }
  }
  return split;
}

Split read_split_list(const std::string& path, const Dataset& train) {
  const std::vector<uint8_t> bytes = read_file(path, kLargestList);
  std::istringstream text(std::string(bytes.begin(), bytes.end()));
  const Lookup lookup(train);
  std::vector<int64_t> held_out;
  int64_t number = 0;
  for (std::string line; std::getline(text, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.rfind(kData, 0) == 0) check_description(line.substr(std::string(kData).size()), train, path);
    if (line.empty() || line[0] == '#') continue;
    held_out.push_back(lookup.find(line, concat(path, ": line ", number)));
  }
  return split_by_list(train, std::move(held_out), path);
}

void write_split_list(const std::string& path, const Dataset& train, const std::vector<int64_t>& held_out,
                      const std::string& comment) {
  std::string text = "# " + comment + "\n" + kData + description(train) + "\n";
  for (const int64_t index : held_out) {
    const std::string name = train.name(index);
    const bool plain = !name.empty() && name[0] != '#' && name.find_first_of("\r\n") == std::string::npos;
    text += (plain ? name : std::to_string(index)) + "\n";
  }
  write_file_atomically(path, text);
}

std::string write_split_record(const Dataset& train, const std::vector<int64_t>& held_out) {
  std::string record = description(train) + ":";
  for (const int64_t index : held_out) record += " " + std::to_string(index);
  return record;
}

Split read_split_record(const std::string& record, const Dataset& train, const std::string& list) {
  const size_t colon = record.find(':');
  CHECK(colon != std::string::npos, list, ": its record of the search split is broken");
  check_description(record.substr(0, colon), train, list);
  std::istringstream text(record.substr(colon + 1));
  std::vector<int64_t> held_out;
  for (std::string word; text >> word;) {
    int64_t index = 0;
    CHECK(parse_index(word, index), list, ": its record of the search split has \"", word, "\" in place of an index");
    held_out.push_back(index);
  }
  if (held_out.empty()) return make_split(train, 0, 0);
  return split_by_list(train, std::move(held_out), list);
}

}  // namespace entangle
