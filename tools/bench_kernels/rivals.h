// The matrix products of other libraries, when this machine has them: found at run time, so the build needs none.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace entangle {

// C [m, n] = A B + beta C with A [m, k] or, transposed, stored as [k, m]; B [k, n] or, transposed, stored as [n, k].
// All row-major, rows at their strides.
struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  const float* a;
  int64_t a_row;
  const float* b;
  int64_t b_row;
  float beta;
  float* c;
  int64_t c_row;
};

struct Rival {
  std::string name;
  std::function<void(const Product&)> multiply;
};

// OpenBLAS and oneDNN, those that can be loaded, on that many threads each.
std::vector<Rival> load_rivals(int threads);

}  // namespace entangle
