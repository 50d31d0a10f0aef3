#include "engine/parameters.h"

#include <algorithm>
#include <utility>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"

namespace entangle {

namespace {

constexpr int64_t kAlignment = 16;  // floats in 64 bytes

int64_t aligned(int64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }

float* allocate_zeros(int64_t count, DeviceKind device) {
  float* array = static_cast<float*>(allocate(static_cast<size_t>(count) * sizeof(float), device));
  fill_floats(count, 0.0f, array, device);
  return array;
}

// Calls copy(file offset, arena offset, length) for every row of a checkpoint: row groups*j + i of the file is row j of
// group i, and groups follow each other in the arena.
template <class Copy>
void for_each_row(const Parameter& parameter, const Copy& copy) {
  const int64_t groups = parameter.interleave, file_rows = groups > 1 ? parameter.file_shape[0] : 1;
  if (file_rows == 0) return;
  const int64_t length = parameter.file_shape.count() / file_rows, rows = file_rows / groups;
  for (int64_t i = 0; i < groups; ++i) {
    for (int64_t j = 0; j < rows; ++j) {
      copy((groups * j + i) * length, parameter.offset + (i * rows + j) * length, length);
    }
  }
}

}  // namespace

ParameterArena::~ParameterArena() {
  for (void* array :
       std::initializer_list<void*>{values_, gradients_, first_moments_, second_moments_, gradient_squares_}) {
    if (array != nullptr) deallocate(array, device_);
  }
}

int ParameterArena::declare(Parameter parameter) {
  CHECK(values_ == nullptr, "parameter ", parameter.name,
        " is declared after the arena was allocated; declare it before");
  CHECK(!parameter.name.empty(), "a parameter needs a name");
  CHECK(find(parameter.name) == nullptr, "parameter ", parameter.name, " is declared twice; give each its own name");
  CHECK(parameter.shape.count() == parameter.file_shape.count(), "parameter ", parameter.name, " has the shape ",
        parameter.shape.str(), " but ", parameter.file_shape.str(), " in files: another number of elements");
  const bool divides = parameter.interleave == 1 || (parameter.interleave > 1 && parameter.file_shape.rank > 0 &&
                                                     parameter.file_shape[0] % parameter.interleave == 0);
  CHECK(divides, "parameter ", parameter.name, " cannot have the rows of ", parameter.file_shape.str(),
        " interleaved in ", parameter.interleave, " groups; the first size must be a multiple of them");
  parameters_.push_back(std::move(parameter));
  return static_cast<int>(parameters_.size()) - 1;
}

void ParameterArena::allocate(DeviceKind device, ArenaUse use) {
  CHECK(values_ == nullptr, "the parameters are allocated already");
  CHECK(!parameters_.empty(), "there are no parameters to allocate; declare them first");
  const std::string refusal = device == DeviceKind::cuda ? why_no_cuda() : "";
  CHECK(refusal.empty(), refusal);
  device_ = device;
  for (const bool decay : {false, true}) {
    for (Parameter& parameter : parameters_) {
      if (parameter.decay != decay) continue;
      parameter.offset = size_;
      size_ = aligned(size_ + parameter.shape.count());
    }
    if (!decay) without_decay_ = size_;
  }
  const bool training = use == ArenaUse::training;
  values_ = allocate_zeros(size_, device);
  if (training) {
    for (float** array : {&gradients_, &first_moments_, &second_moments_}) *array = allocate_zeros(size_, device);
    gradient_squares_ = static_cast<double*>(entangle::allocate(sizeof(double), device));
  }
  for (Parameter& parameter : parameters_) {
    float* gradient = training ? gradients_ + parameter.offset : nullptr;
    parameter.tensor = Tensor::over(parameter.shape, values_ + parameter.offset, gradient, device);
    parameter.tensor.set_requires_grad(training);
  }
}

const Parameter* ParameterArena::find(const std::string& name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  return found == parameters_.end() ? nullptr : &*found;
}

void ParameterArena::zero_gradients() { fill_floats(size_, 0.0f, gradients_, device_); }

std::vector<float> ParameterArena::to_host(const float* array) const {
  std::vector<float> host(static_cast<size_t>(size_));
  copy_floats(size_, array, device_, host.data(), DeviceKind::cpu);
  return host;
}

void ParameterArena::from_host(const std::vector<float>& host, float* array) {
  CHECK(static_cast<int64_t>(host.size()) == size_, "an array of ", host.size(), " elements for an arena of ", size_);
  copy_floats(size_, host.data(), DeviceKind::cpu, array, device_);
}

std::vector<float> to_file_order(const Parameter& parameter, const float* array) {
  std::vector<float> file(static_cast<size_t>(parameter.file_shape.count()));
  for_each_row(parameter, [&](int64_t in_file, int64_t in_arena, int64_t length) {
    std::copy_n(array + in_arena, length, file.data() + in_file);
  });
  return file;
}

void from_file_order(const Parameter& parameter, const float* file, float* array) {
  for_each_row(parameter, [&](int64_t in_file, int64_t in_arena, int64_t length) {
    std::copy_n(file + in_file, length, array + in_arena);
  });
}

}  // namespace entangle
