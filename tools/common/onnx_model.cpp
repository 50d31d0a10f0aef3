#include "tools/common/onnx_model.h"

#include "engine/check.h"
#include "tools/common/protobuf.h"

namespace entangle {
namespace {

// Field numbers of onnx.proto. Numbers are unique within a message only, hence the names.
namespace model {
enum { ir_version = 1, producer = 2, description = 6, graph = 7, opset = 8, metadata = 14 };
}
namespace opset {
enum { version = 2 };  // of the default domain, which is the empty one
}
namespace entry {
enum { key = 1, value = 2 };
}
namespace graph {
enum { node = 1, name = 2, constant = 5, input = 11, output = 12 };
}
namespace node {
enum { input = 1, output = 2, name = 3, op = 4, attribute = 5 };
}
namespace attribute {
enum { name = 1, real = 2, integer = 3, integers = 8, type = 20 };
enum Type { type_real = 1, type_integer = 2, type_integers = 7 };
}  // namespace attribute
namespace tensor {
enum { size = 1, type = 2, name = 8, bytes = 9 };
enum Type { type_float = 1, type_int64 = 7 };
}  // namespace tensor
namespace value {
enum { name = 1, type = 2 };
}
// The type of a value lies four messages deep: TypeProto, its Tensor, TensorShapeProto, Dimension.
namespace type {
enum { tensor = 1, element = 1, shape = 2, dimension = 1, size = 1, batch = 2 };
}

using Message = ProtobufMessage;
using Fields = ProtobufFields;

Message message_of(const OnnxTensor& t) {
  Message out;
  for (const int64_t size : t.shape) out.integer(tensor::size, size);
  out.integer(tensor::type, t.is_float() ? tensor::type_float : tensor::type_int64);
  out.text(tensor::name, t.name);
  if (t.is_float()) {
    out.data(tensor::bytes, t.floats.data(), t.floats.size() * sizeof(float));
  } else {
    out.data(tensor::bytes, t.integers.data(), t.integers.size() * sizeof(int64_t));
  }
  return out;
}

Message message_of(const OnnxNode& n) {
  Message out;
  for (const std::string& name : n.inputs) out.text(node::input, name);
  for (const std::string& name : n.outputs) out.text(node::output, name);
  out.text(node::name, n.outputs.front());
  out.text(node::op, n.op);
  const auto attribute = [&](const std::string& name, attribute::Type type, const auto& add) {
    Message one;
    one.text(attribute::name, name);
    add(one);
    one.integer(attribute::type, type);
    out.message(node::attribute, one);
  };
  for (const auto& [name, values] : n.integers) {
    attribute(name, attribute::type_integers, [&, &list = values](Message& one) {
      for (const int64_t value : list) one.integer(attribute::integers, value);
    });
  }
  for (const auto& [name, value] : n.integer) {
    attribute(name, attribute::type_integer,
              [&, &number = value](Message& one) { one.integer(attribute::integer, number); });
  }
  for (const auto& [name, value] : n.real) {
    attribute(name, attribute::type_real, [&, &number = value](Message& one) { one.real(attribute::real, number); });
  }
  return out;
}

Message message_of(const OnnxValue& v) {
  Message shape, sized, typed, out;
  for (const int64_t size : v.shape) {
    Message dimension;
    if (size == 0) {
      dimension.text(type::batch, "N");
    } else {
      dimension.integer(type::size, size);
    }
    shape.message(type::dimension, dimension);
  }
  sized.integer(type::element, tensor::type_float);
  sized.message(type::shape, shape);
  typed.message(type::tensor, sized);
  out.text(value::name, v.name);
  out.message(value::type, typed);
  return out;
}

OnnxTensor read_tensor(Fields f) {
  OnnxTensor out;
  int64_t type = 0;
  while (f.next()) {
    switch (f.field()) {
      case tensor::size:
        out.shape.push_back(f.integer());
        break;
      case tensor::type:
        type = f.integer();
        break;
      case tensor::name:
        out.name = f.text();
        break;
      case tensor::bytes:
        f.require(type == tensor::type_float || type == tensor::type_int64, "a tensor that is of neither type");
        if (type == tensor::type_float) {
          out.floats = f.values<float>();
        } else {
          out.integers = f.values<int64_t>();
        }
        break;
      default:
        f.unknown();
    }
  }
  for (const int64_t size : out.shape) f.require(size >= 1 && size < 1 << 30, "a tensor with an impossible size");
  f.require(out.count() == static_cast<int64_t>(out.floats.size() + out.integers.size()),
            "a tensor whose values do not fill its shape");
  return out;
}

void read_attribute(Fields f, OnnxNode& out) {
  std::string name;
  while (f.next()) {
    switch (f.field()) {
      case attribute::name:
        name = f.text();
        break;
      case attribute::real:
        out.real[name] = f.real();
        break;
      case attribute::integer:
        out.integer[name] = f.integer();
        break;
      case attribute::integers:
        out.integers[name].push_back(f.integer());
        break;
      case attribute::type:
        f.integer();
        break;
      default:
        f.unknown();
    }
  }
}

OnnxNode read_node(Fields f) {
  OnnxNode out;
  while (f.next()) {
    switch (f.field()) {
      case node::input:
        out.inputs.push_back(f.text());
        break;
      case node::output:
        out.outputs.push_back(f.text());
        break;
      case node::name:
        f.text();
        break;
      case node::op:
        out.op = f.text();
        break;
      case node::attribute:
        read_attribute(f.message(), out);
        break;
      default:
        f.unknown();
    }
  }
  return out;
}

std::vector<int64_t> read_shape(Fields f) {
  std::vector<int64_t> out;
  while (f.next()) {
    Fields dimension = f.message();
    while (dimension.next()) out.push_back(dimension.field() == type::size ? dimension.integer() : 0);
  }
  return out;
}

OnnxValue read_value(Fields f) {
  OnnxValue out;
  while (f.next()) {
    if (f.field() == value::name) {
      out.name = f.text();
      continue;
    }
    Fields typed = f.message();
    while (typed.next()) {
      Fields sized = typed.message();
      while (sized.next()) {
        if (sized.field() == type::shape) out.shape = read_shape(sized.message());
      }
    }
  }
  return out;
}

void read_graph(Fields f, OnnxModel& out) {
  while (f.next()) {
    switch (f.field()) {
      case graph::node:
        out.nodes.push_back(read_node(f.message()));
        break;
      case graph::name:
        f.text();
        break;
      case graph::constant:
        out.constants.push_back(read_tensor(f.message()));
        break;
      case graph::input:
        out.input = read_value(f.message());
        break;
      case graph::output:
        out.output = read_value(f.message());
        break;
      default:
        f.unknown();
    }
  }
}

}  // namespace

int64_t OnnxTensor::count() const {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size > 0 && count > INT64_MAX / size) return -1;
    count *= size;
  }
  return count;
}

std::string onnx_bytes(const OnnxModel& m) {
  Message whole, graph_message, opset_message;
  for (const OnnxNode& one : m.nodes) graph_message.message(graph::node, message_of(one));
  graph_message.text(graph::name, "entangle");
  for (const OnnxTensor& one : m.constants) graph_message.message(graph::constant, message_of(one));
  graph_message.message(graph::input, message_of(m.input));
  graph_message.message(graph::output, message_of(m.output));
  opset_message.integer(opset::version, kOnnxOpset);
  whole.integer(model::ir_version, kOnnxIrVersion);
  whole.text(model::producer, "entangle");
  whole.text(model::description, m.description);
  whole.message(model::graph, graph_message);
  whole.message(model::opset, opset_message);
  for (const auto& [key, text] : m.metadata) {
    Message one;
    one.text(entry::key, key);
    one.text(entry::value, text);
    whole.message(model::metadata, one);
  }
  CHECK(whole.bytes().size() < uint64_t{1} << 31, "the ONNX file would have ", whole.bytes().size(),
        " bytes, but the format ends at 2 GiB");
  return whole.bytes();
}

OnnxModel read_onnx(const std::string& bytes, const std::string& name) {
  OnnxModel out;
  Fields f(bytes, name);
  while (f.next()) {
    switch (f.field()) {
      case model::ir_version:
        f.require(f.integer() == kOnnxIrVersion, "another IR version");
        break;
      case model::producer:
        f.text();
        break;
      case model::description:
        out.description = f.text();
        break;
      case model::graph:
        read_graph(f.message(), out);
        break;
      case model::opset: {
        Fields version = f.message();
        while (version.next()) version.require(version.integer() == kOnnxOpset, "another operator set");
        break;
      }
      case model::metadata: {
        std::string key;
        Fields one = f.message();
        while (one.next()) (one.field() == entry::key ? key : out.metadata[key]) = one.text();
        break;
      }
      default:
        f.unknown();
    }
  }
  return out;
}

}  // namespace entangle
