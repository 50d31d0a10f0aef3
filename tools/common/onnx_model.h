// ONNX models, as far as this project's networks need them, and their bytes.
//
// An ONNX file is one protobuf message (tools/common/protobuf.h). So an export needs neither the ONNX library nor
// protobuf, at the price of the field numbers that stand in onnx_model.cpp (from onnx.proto, IR version 8). What is
// written is read back by read_onnx and computed by evaluate_onnx (tools/common/onnx_evaluate.h) before anyone sees it;
// tests/onnx_runtime.sh has the ONNX library and ONNX Runtime judge the same files.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace entangle {

inline constexpr int64_t kOnnxOpset = 17, kOnnxIrVersion = 8;  // 17 is the first with LayerNormalization

// A constant of the graph. One of the two lists holds its values, in row-major order.
struct OnnxTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> floats;
  std::vector<int64_t> integers;

  bool is_float() const { return integers.empty(); }
  int64_t count() const;
};

struct OnnxNode {
  std::string op;
  std::vector<std::string> inputs, outputs;              // names of constants, of the graph's input, of earlier outputs
  std::map<std::string, std::vector<int64_t>> integers;  // attributes that are lists
  std::map<std::string, int64_t> integer;                // attributes that are one integer
  std::map<std::string, float> real;                     // attributes that are one number
};

// A float tensor that goes in or out. A size of 0 is the batch's: any number, called "N".
struct OnnxValue {
  std::string name;
  std::vector<int64_t> shape;
};

struct OnnxModel {
  std::string description;
  std::map<std::string, std::string> metadata;
  OnnxValue input, output;
  std::vector<OnnxTensor> constants;
  std::vector<OnnxNode> nodes;  // each behind those whose outputs it takes
};

// The bytes of an .onnx file. Throws Error when they would be 2 GiB or more, which protobuf does not allow.
std::string onnx_bytes(const OnnxModel& model);

// The model in such bytes, of the messages, fields and types that onnx_bytes writes. Throws Error, beginning with `name`,
// that tells the byte where something else or nothing more is found.
OnnxModel read_onnx(const std::string& bytes, const std::string& name);

}  // namespace entangle
