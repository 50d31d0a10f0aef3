#include "data/shard_names.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include "engine/check.h"

namespace entangle {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNames = 1000000;
constexpr const char* kHowToName = "name them as in wds:DIR/train-{000000..000146}.tar,DIR/val-{000000..000006}.tar";

bool is_number(const std::string& text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos;
}

// Where the brace at `open` is closed.
size_t closing_brace(const std::string& pattern, size_t open) {
  int depth = 0;
  for (size_t i = open; i < pattern.size(); ++i) {
    depth += pattern[i] == '{' ? 1 : pattern[i] == '}' ? -1 : 0;
    if (depth == 0) return i;
  }
  RAISE(pattern, ": the brace at character ", open + 1, " is not closed");
}

// At separators that no brace encloses.
std::vector<std::string> split_outside_braces(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (size_t i = 0; i < text.size();) {
    if (depth == 0 && text.compare(i, separator.size(), separator) == 0) {
      parts.emplace_back();
      i += separator.size();
      continue;
    }
    depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
    parts.back() += text[i++];
  }
  return parts;
}

// What stands between two braces, one result for each choice, themselves not expanded yet.
std::vector<std::string> choices(const std::string& inside, const std::string& pattern) {
  const size_t dots = inside.find("..");
  const std::string first = inside.substr(0, dots), last = dots == std::string::npos ? "" : inside.substr(dots + 2);
  if (!is_number(first) || !is_number(last)) return split_outside_braces(inside, ",");
  const unsigned long from = std::stoul(first), to = std::stoul(last);
  CHECK(from <= to, pattern, ": the range {", inside, "} goes down");
  CHECK(to - from < kMostNames, pattern, ": the range {", inside, "} has more than ", kMostNames, " numbers");
  const bool padded = (first[0] == '0' && first.size() > 1) || (last[0] == '0' && last.size() > 1);
  const size_t width = padded ? std::max(first.size(), last.size()) : 0;
  std::vector<std::string> numbers;
  for (unsigned long i = from; i <= to; ++i) {
    const std::string digits = std::to_string(i);
    numbers.push_back(std::string(width - std::min(width, digits.size()), '0') + digits);
  }
  return numbers;
}

// The shards of a folder whose names begin so and go on with no letter ("val" does not mean "validation"), by name.
std::vector<std::string> shards_called(const fs::path& folder, const std::string& beginning) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(folder.empty() ? "." : folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool called = name.compare(0, beginning.size(), beginning) == 0 && it->path().extension() == ".tar" &&
                        !std::isalpha(static_cast<unsigned char>(name[beginning.size()]));
    if (called) found.push_back((folder / name).string());
  }
  CHECK(!error, folder.string(), ": cannot be read (", error.message(), ")");
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> val_shards_of(const fs::path& folder, const std::string& before) {
  for (const char* part : {"val", "validation", "test"}) {
    const std::vector<std::string> found = shards_called(folder, before + part);
    if (!found.empty()) return found;
  }
  RAISE(folder.string(), ": holds no shards ", before, "val*.tar for the final answer; ", kHowToName);
}

std::vector<std::string> expand_list(const std::string& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : split_outside_braces(patterns, "::")) {
    CHECK(!pattern.empty(), "wds:", patterns, " has an empty name; ", kHowToName);
    const std::vector<std::string> expanded = expand_braces(pattern);
    paths.insert(paths.end(), expanded.begin(), expanded.end());
  }
  return paths;
}

}  // namespace

std::vector<std::string> expand_braces(const std::string& pattern) {
  const size_t open = pattern.find('{');
  const size_t stray = pattern.find('}');
  CHECK(stray == std::string::npos || stray > open, pattern, ": the brace at character ", stray + 1, " closes nothing");
  if (open == std::string::npos) return {pattern};
  const size_t close = closing_brace(pattern, open);
  const std::vector<std::string> ends = expand_braces(pattern.substr(close + 1));
  std::vector<std::string> all;
  for (const std::string& choice : choices(pattern.substr(open + 1, close - open - 1), pattern)) {
    for (const std::string& middle : expand_braces(choice)) {
      CHECK(all.size() + ends.size() <= kMostNames, pattern, ": names more than ", kMostNames, " files");
      for (const std::string& end : ends) all.push_back(pattern.substr(0, open) + middle + end);
    }
  }
  return all;
}

ShardLists find_shards(const std::string& location) {
  CHECK(!location.empty(), "no shards are named; ", kHowToName);
  std::error_code ignored;
  if (fs::is_directory(location, ignored)) {
    ShardLists lists = {shards_called(location, "train"), {}};
    CHECK(!lists.train.empty(), location, ": holds no shards train*.tar; ", kHowToName);
    lists.val = val_shards_of(location, "");
    return lists;
  }
  const std::vector<std::string> parts = split_outside_braces(location, ",");
  CHECK(parts.size() <= 2, "wds:", location, " has more than two parts; ", kHowToName);
  ShardLists lists = {expand_list(parts[0]), {}};
  if (parts.size() == 2) {
    lists.val = expand_list(parts[1]);
    return lists;
  }
  const fs::path first = lists.train.front();
  const std::string name = first.filename().string();
  const size_t train = name.find("train");
  CHECK(train != std::string::npos, "wds:", location,
        " does not say where the shards for the final answer are, nor is its first shard called train; ", kHowToName);
  lists.val = val_shards_of(first.parent_path(), name.substr(0, train));
  return lists;
}

bool split_member_name(const std::string& name, std::string& sample, std::string& kind) {
  const size_t last = name.rfind('/') + 1;  // 0 without a slash: npos + 1
  const size_t dot = name.find('.', last);
  if (dot == std::string::npos || dot == last) return false;
  sample = name.substr(0, dot);
  kind = name.substr(dot + 1);
  std::transform(kind.begin(), kind.end(), kind.begin(),
                 [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
  return true;
}

}  // namespace entangle
