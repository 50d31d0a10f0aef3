// The rows of the operations with linear layers, in both precisions. What a row is put through: tests/ops/harness.h.
#include <algorithm>

#include "engine/ops.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference.h"

namespace entangle {
namespace {

// ---------------------------------------------------------------------------------------------------------- linear ---

struct LinearRow {
  const char* name;
  int64_t rows, in, out,
      groups;  // groups 0: a weight [out, in] and x [rows, in]; else [groups, out, in], [1, rows, in]
  Shape weight_parent, weight_begin, bias_parent;
  bool bias, dx;
};

Case linear_case(const LinearRow& row, Precision precision) {
  const reference::LinearSize s = {row.rows, row.in, row.out, std::max<int64_t>(row.groups, 1), precision};
  const bool grouped = row.groups > 0, bias = row.bias;
  const Shape w = grouped ? Shape{row.groups, row.out, row.in} : Shape{row.out, row.in};
  const Shape b = grouped ? Shape{row.groups, row.out} : Shape{row.out};
  std::vector<Input> inputs = {{"x", grouped ? Shape{1, row.rows, row.in} : Shape{row.rows, row.in}},
                               {"w", w, row.weight_parent, row.weight_begin}};
  inputs[0].requires_grad = row.dx;
  if (bias) inputs.push_back({"b", b, row.bias_parent});
  return {describe(row.name, {s.rows, s.in, s.groups, s.out}) + (precision == Precision::bf16 ? ", bf16" : ""),
          inputs,
          grouped ? Shape{1, row.rows, s.groups * row.out} : Shape{row.rows, row.out},
          [=](const std::vector<Tensor>& t) { return linear(t[0], t[1], bias ? t[2] : Tensor(), precision); },
          [s](const auto& in) { return reference::linear(s, in); },
          [s](const auto& in, const auto& dy) { return reference::linear_backward(s, in, dy); }};
}

std::vector<Case> linear_cases() {
  const LinearRow rows[] = {
      {"one of each", 1, 1, 1, 0, {}, {}, {}, true, true},
      {"one row, no bias", 1, 17, 5, 0, {}, {}, {}, false, true},
      {"one column", 9, 1, 33, 0, {}, {}, {}, true, true},
      {"one output", 13, 29, 1, 0, {}, {}, {}, true, true},
      {"odd", 7, 19, 23, 0, {}, {}, {}, true, true},
      {"first rows and columns", 11, 24, 40, 0, {64, 48}, {}, {64}, true, true},
      {"inner rows and columns", 10, 21, 35, 0, {64, 48}, {3, 5}, {64}, true, true},
      {"x without gradient", 6, 48, 31, 0, {40, 50}, {}, {}, true, false},
      {"subnet", 50, 216, 756, 0, {800, 256}, {}, {800}, true, true},
      {"beyond one block", 137, 300, 131, 0, {}, {}, {}, true, true},
      {"long rows", 3, 1031, 18, 0, {}, {}, {}, true, true},
      {"many rows", 533, 9, 12, 0, {}, {}, {}, true, true},
      {"three groups", 17, 20, 24, 3, {}, {}, {}, true, true},
      {"three groups, no bias", 5, 33, 7, 3, {3, 9, 40}, {}, {}, false, true},
      {"three groups, sliced", 26, 36, 40, 3, {3, 64, 60}, {}, {3, 64}, true, true},
      {"three groups, contiguous bias", 26, 36, 40, 3, {3, 64, 60}, {}, {5, 40}, true, true},
      {"three groups beyond one block", 70, 130, 67, 3, {3, 80, 144}, {}, {3, 80}, true, true},
  };
  std::vector<Case> cases;
  for (const LinearRow& row : rows) {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) cases.push_back(linear_case(row, precision));
  }
  return cases;
}

// The query, key and value rows of T's largest subnet, four images.
const Row linear_row("linear",
                     {"linear_forward", {"linear_backward", {"gradient of x", "gradient of w", "gradient of b"}}},
                     linear_cases, [] {
                       return linear_case({"of T", 788, 240, 256, 3, {}, {}, {}, true, true}, Precision::fp32);
                     });

// ------------------------------------------------------------------------------------------------------------- mlp ---

struct MlpRow {
  const char* name;
  int64_t rows, in, hidden, out;
  Shape parent1, parent2;
  bool dx = true, recompute = false;
};

Case mlp_case(const MlpRow& row, Precision precision) {
  const reference::LinearSize first = {row.rows, row.in, row.hidden, 1, precision};
  const reference::LinearSize second = {row.rows, row.hidden, row.out, 1, precision};
  std::vector<Input> inputs = {{"x", {row.rows, row.in}},
                               {"w1", {row.hidden, row.in}, row.parent1},
                               {"b1", {row.hidden}},
                               {"w2", {row.out, row.hidden}, row.parent2},
                               {"b2", {row.out}}};
  inputs[0].requires_grad = row.dx;
  return {describe(row.name, {row.rows, row.in, row.hidden, row.out}) + (precision == Precision::bf16 ? ", bf16" : ""),
          inputs,
          {row.rows, row.out},
          [=](const std::vector<Tensor>& t) { return mlp(t[0], t[1], t[2], t[3], t[4], precision, row.recompute); },
          [=](const auto& in) { return reference::mlp(first, second, in); },
          [=](const auto& in, const auto& dy) { return reference::mlp_backward(first, second, in, dy); },
          3};  // as for gelu
}

std::vector<Case> mlp_cases() {
  const MlpRow rows[] = {{"one of each", 1, 1, 1, 1, {}, {}},
                         {"odd", 7, 5, 19, 11, {}, {}},
                         {"x without gradient", 9, 6, 13, 4, {}, {}, false},
                         {"sliced", 50, 21, 75, 24, {96, 40}, {40, 96}},
                         {"beyond one block", 131, 33, 130, 17, {}, {}},
                         {"computed again", 60, 21, 75, 24, {96, 40}, {40, 96}, true, true},
                         {"wide", 5, 7, 2100, 3, {}, {}}};
  std::vector<Case> cases;
  for (const MlpRow& row : rows) {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) cases.push_back(mlp_case(row, precision));
  }
  return cases;
}

const Row mlp_row("mlp", {"mlp_forward", "mlp_backward"}, mlp_cases, [] {
  return mlp_case({"of T", 788, 240, 960, 240, {}, {}}, Precision::fp32);
});

}  // namespace
}  // namespace entangle
