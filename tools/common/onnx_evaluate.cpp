#include "tools/common/onnx_evaluate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "engine/check.h"
#include "engine/parallel.h"
#include "tools/common/onnx_values.h"

namespace entangle {
namespace {

// What an operator is given: inputs by place, attributes by name.
class Call {
 public:
  Call(const OnnxNode& node, std::vector<const Value*> inputs) : node_(node), inputs_(std::move(inputs)) {}

  const Value& operator[](size_t i) const {
    CHECK(i < inputs_.size(), node_.op, " of ", node_.outputs.front(), " lacks an input");
    return *inputs_[i];
  }
  int64_t integer(const std::string& name) const { return found(node_.integer, name); }
  float real(const std::string& name) const { return found(node_.real, name); }
  const Sizes& integers(const std::string& name) const { return found(node_.integers, name); }
  // An axis may be counted from the end.
  size_t axis(const Value& x) const {
    const int64_t axis = integer("axis"), rank = static_cast<int64_t>(x.shape.size());
    require(axis >= -rank && axis < rank, "an axis out of range");
    return static_cast<size_t>(axis < 0 ? axis + rank : axis);
  }
  void require(bool condition, const char* otherwise) const {
    CHECK(condition, node_.op, " of ", node_.outputs.front(), " has ", otherwise);
  }

 private:
  template <class Map>
  const typename Map::mapped_type& found(const Map& map, const std::string& name) const {
    const auto at = map.find(name);
    CHECK(at != map.end(), node_.op, " of ", node_.outputs.front(), " lacks the attribute ", name);
    return at->second;
  }

  const OnnxNode& node_;
  std::vector<const Value*> inputs_;
};

using Outputs = std::vector<Value>;

Outputs elementwise(const Call& call, double (*f)(double, double)) {
  const Sizes shape = broadcast_shape(call[0].shape, call[1].shape);
  Value a = broadcast(call[0], shape);
  const Value b = broadcast(call[1], shape);
  for (size_t i = 0; i < a.data.size(); ++i) a.data[i] = f(a.data[i], b.data[i]);
  return {a};
}

// [..., n, k] times [..., k, m]; what stands in front of the last two sizes is broadcast.
Outputs mat_mul(const Call& call) {
  const Value &a = call[0], &b = call[1];
  call.require(a.shape.size() >= 2 && b.shape.size() >= 2 && a.shape.back() == b.shape[b.shape.size() - 2],
               "shapes that cannot be multiplied");
  const int64_t n = a.shape[a.shape.size() - 2], k = a.shape.back(), m = b.shape.back();
  Value first = {{a.shape.begin(), a.shape.end() - 2}, {}, {}}, second = {{b.shape.begin(), b.shape.end() - 2}, {}, {}};
  // Which matrix of each operand meets which.
  for (Value* v : {&first, &second}) {
    v->data.resize(static_cast<size_t>(count_of(v->shape)));
    std::iota(v->data.begin(), v->data.end(), 0.0);
  }
  Sizes shape = broadcast_shape(first.shape, second.shape);
  const Value from_a = broadcast(first, shape), from_b = broadcast(second, shape);
  const int64_t matrices = count_of(shape);
  shape.insert(shape.end(), {n, m});
  Value y = zeros(shape);
  const auto compute_row = [&](int64_t row) {
    const size_t matrix = static_cast<size_t>(row / n);
    const double* x = a.data.data() + (static_cast<int64_t>(from_a.data[matrix]) * n + row % n) * k;
    const double* w = b.data.data() + static_cast<int64_t>(from_b.data[matrix]) * k * m;
    double* to = y.data.data() + row * m;
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < m; ++j) to[j] += x[i] * w[i * m + j];
    }
  };
  const int64_t rows = matrices * n, some = std::max<int64_t>(1, (1 << 18) / (k * m));  // worth waking a thread for
  parallel_for((rows + some - 1) / some, [&](int64_t chunk) {
    for (int64_t row = chunk * some; row < std::min(rows, (chunk + 1) * some); ++row) compute_row(row);
  });
  return {y};
}

// Patches that do not overlap: the stride is the kernel's size.
Outputs conv(const Call& call) {
  const Value &x = call[0], &w = call[1], &bias = call[2];
  const Sizes& size = call.integers("kernel_shape");
  call.require(size == call.integers("strides") && x.shape.size() == 4 && w.shape.size() == 4 &&
                   Sizes(w.shape.begin() + 2, w.shape.end()) == size && w.shape[1] == x.shape[1] &&
                   x.shape[2] % size[0] == 0 && x.shape[3] % size[1] == 0,
               "another form than that of patches");
  const int64_t rows = x.shape[2] / size[0], columns = x.shape[3] / size[1], fan_in = count_of(w.shape) / w.shape[0];
  Value y = zeros({x.shape[0], w.shape[0], rows, columns});
  const Sizes image = strides_of(x.shape);
  parallel_for(x.shape[0] * w.shape[0], [&](int64_t i) {
    const int64_t n = i / w.shape[0], out = i % w.shape[0];
    for (int64_t at = 0; at < rows * columns; ++at) {
      double sum = bias.data[static_cast<size_t>(out)];
      const int64_t corner = n * image[0] + at / columns * size[0] * image[2] + at % columns * size[1];
      walk({x.shape[1], size[0], size[1]}, {image[1], image[2], 1}, [&](size_t t, size_t offset) {
        sum += w.data[static_cast<size_t>(out * fan_in) + t] * x.data[static_cast<size_t>(corner) + offset];
      });
      y.data[static_cast<size_t>(i * rows * columns + at)] = sum;
    }
  });
  return {y};
}

Outputs reshape(const Call& call) {
  Value y = call[0];
  y.shape = call[1].integers;
  for (size_t d = 0; d < y.shape.size(); ++d) {
    call.require(y.shape[d] != 0 || d < call[0].shape.size(), "a size to keep where there is none");
    if (y.shape[d] == 0) y.shape[d] = call[0].shape[d];
  }
  call.require(count_of(y.shape) == static_cast<int64_t>(y.data.size()), "a shape of another number of elements");
  return {y};
}

Outputs transpose(const Call& call) {
  const Sizes &order = call.integers("perm"), strides = strides_of(call[0].shape);
  call.require(order.size() == strides.size(), "an order of another rank");
  Sizes shape, picks;
  for (const int64_t d : order) {
    shape.push_back(call[0].shape.at(static_cast<size_t>(d)));
    picks.push_back(strides[static_cast<size_t>(d)]);
  }
  return {picked(call[0], shape, picks)};
}

Outputs slice(const Call& call) {
  const Value& x = call[0];
  Sizes shape = x.shape;
  const Sizes strides = strides_of(x.shape), &begin = call[1].integers, &end = call[2].integers,
              &axes = call[3].integers;
  call.require(begin.size() == axes.size() && end.size() == axes.size(), "lists of different lengths");
  int64_t first = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t d = static_cast<size_t>(axes[i]);
    call.require(d < shape.size() && begin[i] >= 0 && begin[i] < end[i] && end[i] <= shape[d], "a range outside");
    shape[d] = end[i] - begin[i];
    first += begin[i] * strides[d];
  }
  return {picked(x, shape, strides, first)};
}

Outputs split(const Call& call) {
  const Value& x = call[0];
  const size_t axis = call.axis(x);
  const Sizes strides = strides_of(x.shape);
  Outputs out;
  int64_t begin = 0;
  for (const int64_t size : call[1].integers) {
    Sizes shape = x.shape;
    shape[axis] = size;
    call.require(size >= 1 && begin + size <= x.shape[axis], "parts that are larger than the whole");
    out.push_back(picked(x, shape, strides, begin * strides[axis]));
    begin += size;
  }
  call.require(begin == x.shape[axis], "parts that are not the whole");
  return out;
}

// Puts x into y, from an index on.
void place(const Value& x, const Sizes& begin, Value& y) {
  const Sizes strides = strides_of(y.shape);
  const int64_t first = std::inner_product(begin.begin(), begin.end(), strides.begin(), int64_t{0});
  walk(x.shape, strides, [&](size_t i, size_t at) { y.data[static_cast<size_t>(first) + at] = x.data[i]; });
}

Outputs pad(const Call& call) {
  const Sizes& pads = call[1].integers;
  Sizes shape = call[0].shape;
  call.require(pads.size() == 2 * shape.size(), "widths for another rank");
  for (size_t d = 0; d < shape.size(); ++d) shape[d] += pads[d] + pads[shape.size() + d];
  Value y = zeros(shape);
  place(call[0], {pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(shape.size())}, y);
  return {y};
}

Outputs concat_two(const Call& call) {
  const Value &a = call[0], &b = call[1];
  const size_t axis = call.axis(a);
  Sizes shape = a.shape, begin(a.shape.size(), 0);
  begin[axis] = a.shape[axis];
  shape[axis] = b.shape.at(axis);
  call.require(shape == b.shape, "shapes that differ elsewhere, too");
  shape[axis] += a.shape[axis];
  Value y = zeros(shape);
  place(a, Sizes(shape.size(), 0), y);
  place(b, begin, y);
  return {y};
}

// Rows of a matrix.
Outputs gather(const Call& call) {
  const Value &table = call[0], &rows = call[1];
  call.require(table.shape.size() == 2 && !rows.integers.empty(), "another form than rows of a matrix");
  Sizes shape = rows.shape;
  shape.push_back(table.shape[1]);
  Value y = zeros(shape);
  auto to = y.data.begin();
  for (const int64_t row : rows.integers) {
    call.require(row >= 0 && row < table.shape[0], "a row outside of the matrix");
    to = std::copy_n(table.data.begin() + row * table.shape[1], table.shape[1], to);
  }
  return {y};
}

Outputs softmax(const Call& call) {
  Value y = call[0];
  call.require(call.axis(y) + 1 == y.shape.size(), "another axis than the last");
  for (auto row = y.data.begin(); row != y.data.end(); row += y.shape.back()) {
    const double largest = *std::max_element(row, row + y.shape.back());
    double sum = 0;
    for (auto x = row; x != row + y.shape.back(); ++x) sum += * x = std::exp(*x - largest);
    for (auto x = row; x != row + y.shape.back(); ++x) *x /= sum;
  }
  return {y};
}

Outputs layer_normalization(const Call& call) {
  Value y = call[0];
  call.require(call.axis(y) + 1 == y.shape.size(), "another axis than the last");
  const size_t n = static_cast<size_t>(y.shape.back());
  call.require(call[1].data.size() == n && call[2].data.size() == n, "a weight or bias of another size");
  for (size_t row = 0; row < y.data.size(); row += n) {
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; ++i) mean += y.data[row + i] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) square += std::pow(y.data[row + i] - mean, 2) / static_cast<double>(n);
    const double scale = 1 / std::sqrt(square + static_cast<double>(call.real("epsilon")));
    for (size_t i = 0; i < n; ++i) {
      y.data[row + i] = (y.data[row + i] - mean) * scale * call[1].data[i] + call[2].data[i];
    }
  }
  return {y};
}

// Sum over one axis, which is then gone.
Value sum_over(const Call& call, const Value& x, const Sizes& axes) {
  call.require(axes.size() == 1 && axes[0] >= 0 && axes[0] < static_cast<int64_t>(x.shape.size()) &&
                   call.integer("keepdims") == 0,
               "another form than a sum over one axis");
  const auto axis = static_cast<std::ptrdiff_t>(axes[0]);
  Sizes shape = x.shape;
  shape.erase(shape.begin() + axis);
  Value y = zeros(shape);
  Sizes strides = strides_of(shape);
  strides.insert(strides.begin() + axis, 0);
  walk(x.shape, strides, [&](size_t i, size_t at) { y.data[at] += x.data[i]; });
  return y;
}

Outputs reduce_mean(const Call& call) {
  const Sizes& axes = call.integers("axes");
  Value y = sum_over(call, call[0], axes);
  for (double& value : y.data) value /= static_cast<double>(call[0].shape[static_cast<size_t>(axes[0])]);
  return {y};
}

Outputs erf_of(const Call& call) {
  Value y = call[0];
  for (double& value : y.data) value = std::erf(value);
  return {y};
}

const std::map<std::string, std::function<Outputs(const Call&)>>& operators() {
  using D = double;
  static const std::map<std::string, std::function<Outputs(const Call&)>> all = {
      {"Add", [](const Call& c) { return elementwise(c, [](D a, D b) { return a + b; }); }},
      {"Concat", concat_two},
      {"Conv", conv},
      {"Div", [](const Call& c) { return elementwise(c, [](D a, D b) { return a / b; }); }},
      {"Erf", erf_of},
      {"Gather", gather},
      {"LayerNormalization", layer_normalization},
      {"MatMul", mat_mul},
      {"Max", [](const Call& c) { return elementwise(c, [](D a, D b) { return std::max(a, b); }); }},
      {"Mul", [](const Call& c) { return elementwise(c, [](D a, D b) { return a * b; }); }},
      {"Pad", pad},
      {"ReduceMean", reduce_mean},
      {"ReduceSum", [](const Call& c) { return Outputs{sum_over(c, c[0], c[1].integers)}; }},
      {"Reshape", reshape},
      {"Slice", slice},
      {"Softmax", softmax},
      {"Split", split},
      {"Transpose", transpose}};
  return all;
}

// How often each name is taken, so that a value is let go behind its last use.
std::map<std::string, int64_t> uses_of(const OnnxModel& model) {
  std::map<std::string, int64_t> uses = {{model.output.name, 1}};
  for (const OnnxNode& node : model.nodes) {
    for (const std::string& name : node.inputs) ++uses[name];
  }
  return uses;
}

}  // namespace

std::vector<double> evaluate_onnx(const OnnxModel& model, const std::vector<float>& images, int64_t count) {
  std::map<std::string, Value> values;
  for (const OnnxTensor& c : model.constants) {
    values[c.name] = {c.shape, {c.floats.begin(), c.floats.end()}, c.integers};
  }
  Sizes shape = model.input.shape;
  CHECK(!shape.empty(), "the graph has no input");
  shape[0] = count;
  CHECK(count_of(shape) == static_cast<int64_t>(images.size()), "the graph takes images of another size");
  values[model.input.name] = {shape, {images.begin(), images.end()}, {}};
  std::map<std::string, int64_t> uses = uses_of(model);
  for (const OnnxNode& node : model.nodes) {
    std::vector<const Value*> inputs;
    for (const std::string& name : node.inputs) {
      CHECK(values.count(name) != 0, node.op, " takes ", name, ", which nothing before it makes");
      inputs.push_back(&values.at(name));
    }
    const auto op = operators().find(node.op);
    CHECK(op != operators().end(), "the operator ", node.op, " is not known here");
    Outputs outputs = op->second(Call(node, inputs));
    CHECK(outputs.size() == node.outputs.size(), node.op, " has ", node.outputs.size(), " outputs");
    for (const std::string& name : node.inputs) {
      if (--uses[name] == 0) values.erase(name);
    }
    for (size_t i = 0; i < outputs.size(); ++i) values[node.outputs[i]] = std::move(outputs[i]);
  }
  const auto output = values.find(model.output.name);
  CHECK(output != values.end(), "nothing makes the output ", model.output.name);
  Sizes wanted = model.output.shape;
  if (!wanted.empty()) wanted[0] = count;
  CHECK(output->second.shape == wanted, "the output ", model.output.name, " has another shape than the graph says");
  return output->second.data;
}

}  // namespace entangle
