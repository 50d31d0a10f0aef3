#include "tools/common/binding.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "engine/check.h"

namespace entangle {
namespace {

// The shortest text that reads back to the same number.
std::string number_text(double value) {
  return value == std::trunc(value) && std::fabs(value) < 1e15 ? concat(static_cast<int64_t>(value))
                                                               : nlohmann::json(value).dump();
}

[[noreturn]] void wrong_type(const Binding& binding, const char* expected, const YAML::Node& node) {
  const char* kind = node.IsSequence() ? "a list" : node.IsMap() ? "a section" : "nothing";
  RAISE(binding.name(), ": expected ", expected, ", found ",
        node.IsScalar() ? "'" + node.Scalar() + "'" : std::string(kind));
}

void check_range(const Binding& binding, double value) {
  const Range64& range = binding.range;
  CHECK(value >= range.low && value <= range.high, binding.name(), " is ", number_text(value), ": allowed are ",
        number_text(range.low), " to ", number_text(range.high));
}

template <class Integer>
void read(const Binding& binding, const YAML::Node& node, Integer& out) {
  if (!node.IsScalar()) wrong_type(binding, "a whole number", node);
  const std::string& text = node.Scalar();
  Integer value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) check_range(binding, std::strtod(text.c_str(), nullptr));
  if (error != std::errc() || end != text.data() + text.size()) wrong_type(binding, "a whole number", node);
  check_range(binding, static_cast<double>(value));
  out = value;
}

void read(const Binding& binding, const YAML::Node& node, double& out) {
  if (!node.IsScalar()) wrong_type(binding, "a number", node);
  const std::string& text = node.Scalar();
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value)) wrong_type(binding, "a number", node);
  check_range(binding, value);
  out = value;
}

void read(const Binding& binding, const YAML::Node& node, bool& out) {
  if (!node.IsScalar() || !YAML::convert<bool>::decode(node, out)) wrong_type(binding, "true or false", node);
}

void read(const Binding& binding, const YAML::Node& node, std::string& out) {
  if (!node.IsScalar()) wrong_type(binding, "a word", node);
  out = node.Scalar();
}

// One of two words: whether it is the second.
bool read_word(const Binding& binding, const YAML::Node& node, const std::string& first, const std::string& second) {
  const std::string text = node.IsScalar() ? node.Scalar() : "";
  if (text != first && text != second) wrong_type(binding, (first + " or " + second).c_str(), node);
  return text == second;
}

void read(const Binding& binding, const YAML::Node& node, QkvBias& out) {
  out = read_word(binding, node, "aligned", "contiguous") ? QkvBias::contiguous : QkvBias::aligned;
}

void read(const Binding& binding, const YAML::Node& node, Precision& out) {
  out = read_word(binding, node, "fp32", "bf16") ? Precision::bf16 : Precision::fp32;
}

template <class T>
void read(const Binding& binding, const YAML::Node& node, std::vector<T>& out) {
  if (!node.IsSequence() || node.size() == 0) wrong_type(binding, "a list of numbers", node);
  std::vector<T> values(node.size());
  for (size_t i = 0; i < values.size(); ++i) read(binding, node[i], values[i]);
  out = values;
}

template <class Integer>
std::string write(const Integer& value) {
  return concat(value);
}
std::string write(const double& value) { return number_text(value); }
std::string write(const bool& value) { return value ? "true" : "false"; }
// A JSON string is a quoted YAML string.
std::string write(const std::string& value) {
  try {
    return nlohmann::json(value).dump();
  } catch (const nlohmann::json::type_error&) {
    RAISE("a text of the configuration, such as the data's path, is not UTF-8; rename what it names");
  }
}
std::string write(const QkvBias& value) { return value == QkvBias::aligned ? "aligned" : "contiguous"; }
std::string write(const Precision& value) { return value == Precision::fp32 ? "fp32" : "bf16"; }
template <class T>
std::string write(const std::vector<T>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i == 0 ? "" : ", ") + write(values[i]);
  return text + "]";
}

}  // namespace

void read_value(const Binding& binding, const YAML::Node& node) {
  std::visit([&](auto* variable) { read(binding, node, *variable); }, binding.variable);
}

std::string write_value(const Binding& binding) {
  return std::visit([](const auto* variable) { return write(*variable); }, binding.variable);
}

int edit_distance(const std::string& a, const std::string& b) {
  const auto same = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  };
  // row[j]: distance of a's first i letters from b's first j.
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (same(a[i - 1], b[j - 1]) ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

const Binding& nearest_binding(const std::vector<Binding>& bindings, const std::string& section,
                               const std::string& key) {
  const auto rank = [&](const Binding& b) { return std::pair(edit_distance(key, b.key), section != b.section); };
  return *std::min_element(bindings.begin(), bindings.end(),
                           [&](const Binding& a, const Binding& b) { return rank(a) < rank(b); });
}

std::string nearest_word(const std::vector<std::string>& words, const std::string& word) {
  return *std::min_element(words.begin(), words.end(), [&](const std::string& a, const std::string& b) {
    return edit_distance(word, a) < edit_distance(word, b);
  });
}

}  // namespace entangle
