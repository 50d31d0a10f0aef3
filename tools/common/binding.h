// Named values of a configuration: one Binding ties a section and a key to a variable and its range. Reading, writing,
// checking and correcting a key all work from the same table, so one key is one line.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "nn/supernet.h"

namespace YAML {
class Node;
}

namespace entangle {

// Inclusive. The range of a list is that of its entries; strings and truth values have none.
struct Range64 {
  double low, high;
};

struct Binding {
  using Variable = std::variant<int*, int64_t*, uint64_t*, double*, bool*, std::string*, QkvBias*, Precision*,
                                std::vector<int>*, std::vector<double>*>;

  const char* section;
  const char* key;
  Variable variable;
  Range64 range = {0, 0};
  bool required = false;

  std::string name() const { return std::string(section) + "." + key; }
};

// Stores a YAML value in the binding's variable. Throws Error "SECTION.key ..." naming the value, and what is allowed,
// when it is of another type or out of range.
void read_value(const Binding& binding, const YAML::Node& node);

// The variable's value as YAML that reads back to the same value.
std::string write_value(const Binding& binding);

// Levenshtein distance of two words, letters compared without case.
int edit_distance(const std::string& a, const std::string& b);

// The binding whose key is nearest to `key`, one of `section` among equally near ones.
const Binding& nearest_binding(const std::vector<Binding>& bindings, const std::string& section,
                               const std::string& key);

// The word nearest to `word`.
std::string nearest_word(const std::vector<std::string>& words, const std::string& word);

}  // namespace entangle
