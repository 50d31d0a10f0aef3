// Named parameters, all in one arena: values, gradients and the optimiser's two moments are four equal arrays, so the
// optimiser, a checkpoint or an average of weights walks one array.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace entangle {

// One named weight of a network, and where it lies.
struct Parameter {
  std::string name;  // as in checkpoints
  Shape shape;       // as it is stored here
  Shape file_shape;  // as checkpoints store it (the same number of elements)
  // Groups whose rows checkpoints interleave: row 3j+i of the file is row j of group i here. 1: the same order.
  int interleave = 1;
  bool decay = true;   // whether weight decay applies
  int64_t offset = 0;  // of the first element in the arena
  Tensor tensor;       // shape; values and gradients in the arena
};

// What an arena is for: inference needs values only, a quarter of the memory.
enum class ArenaUse { training, inference };

// All parameters of a network, with their gradients and the optimiser's moments.
class ParameterArena {
 public:
  ParameterArena() = default;
  ParameterArena(const ParameterArena&) = delete;
  ParameterArena& operator=(const ParameterArena&) = delete;
  ~ParameterArena();

  // Declares a parameter; all are declared before allocate(). Returns its index. Throws Error on a repeated name.
  int declare(Parameter parameter);
  // Lays them out (those without decay first, each in order of declaration, starts aligned to 64 bytes) and allocates
  // everything, zero-filled. For inference the three other arrays stay null and no parameter requires a gradient.
  void allocate(DeviceKind device = DeviceKind::cpu, ArenaUse use = ArenaUse::training);
  bool allocated() const { return values_ != nullptr; }

  const std::vector<Parameter>& all() const { return parameters_; }
  Parameter& operator[](int index) { return parameters_[static_cast<size_t>(index)]; }
  const Parameter& operator[](int index) const { return parameters_[static_cast<size_t>(index)]; }
  const Parameter* find(const std::string& name) const;  // null when there is none

  DeviceKind device() const { return device_; }
  int64_t size() const { return size_; }                    // elements of each array, padding included
  int64_t without_decay() const { return without_decay_; }  // elements [0, this) are not decayed
  float* values() const { return values_; }
  float* gradients() const { return gradients_; }
  float* first_moments() const { return first_moments_; }
  float* second_moments() const { return second_moments_; }
  // One number on the device, for the optimiser: the sum of the gradient's squares.
  double* gradient_squares() const { return gradient_squares_; }

  void zero_gradients();
  // One of the four arrays, as a copy in host memory and back.
  std::vector<float> to_host(const float* array) const;
  void from_host(const std::vector<float>& host, float* array);

 private:
  std::vector<Parameter> parameters_;
  DeviceKind device_ = DeviceKind::cpu;
  int64_t size_ = 0, without_decay_ = 0;
  float *values_ = nullptr, *gradients_ = nullptr, *first_moments_ = nullptr, *second_moments_ = nullptr;
  double* gradient_squares_ = nullptr;
};

// Copies one parameter between its own order and a checkpoint's. `array` is one of the arena's four arrays in host
// memory (to_host).
std::vector<float> to_file_order(const Parameter& parameter, const float* array);
void from_file_order(const Parameter& parameter, const float* file, float* array);

}  // namespace entangle
