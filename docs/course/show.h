// What the pages of the course print with: a name and its numbers, with four significant digits, so that processors whose
// last bits differ print the same.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace entangle {

// Without a sign where it rounds to zero, which one processor's rounding may reach from below and another's from above.
inline std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value > -1e-6 && value < 1e-6 ? 0.0 : value);
  return text;
}

inline void show(const std::string& name, double value) {
  std::printf("%s = %s\n", name.c_str(), number(value).c_str());
}

// name = [1 2 3], or of a matrix with `columns` columns a line for each row.
inline void show(const std::string& name, const std::vector<float>& values, size_t columns = 0) {
  const std::string indent(name.size() + 3, ' ');
  if (columns == 0) columns = values.size();
  for (size_t first = 0; first < values.size(); first += columns) {
    std::printf("%s[", first == 0 ? (name + " = ").c_str() : indent.c_str());
    for (size_t i = first; i < first + columns && i < values.size(); ++i) {
      std::printf("%s%s", i > first ? " " : "", number(values[i]).c_str());
    }
    std::printf("]\n");
  }
}

inline size_t last_size(const Tensor& tensor) {
  return tensor.rank() < 2 ? 0 : static_cast<size_t>(tensor.size(tensor.rank() - 1));
}
inline void show(const std::string& name, const Tensor& tensor) { show(name, tensor.to_vector(), last_size(tensor)); }
inline void show_gradient(const std::string& name, const Tensor& tensor) {
  show(name, tensor.grad_to_vector(), last_size(tensor));
}

}  // namespace entangle
