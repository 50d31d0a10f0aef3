#include "engine/tensor.h"

#include <algorithm>
#include <cstring>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"
#include "engine/trace.h"

namespace entangle {

// -------------------------------------------------------------------------------------------------------------- Shape

Shape::Shape(std::initializer_list<int64_t> dims) {
  CHECK(dims.size() <= kMaxRank, "a tensor has at most ", kMaxRank, " dimensions, not ", dims.size());
  for (const int64_t size : dims) {
    CHECK(size >= 0, "a tensor's size cannot be negative: ", size);
    dim[rank++] = size;
  }
}

int64_t Shape::count() const {
  int64_t product = 1;
  for (int d = 0; d < rank; ++d) product *= dim[d];
  return product;
}

bool Shape::operator==(const Shape& other) const {
  return rank == other.rank && std::equal(dim, dim + rank, other.dim);
}

std::string Shape::str() const {
  std::string text = "[";
  for (int d = 0; d < rank; ++d) text += (d > 0 ? ", " : "") + std::to_string(dim[d]);
  return text + "]";
}

// ------------------------------------------------------------------------------------------------------------- Buffer

Buffer::~Buffer() {
  if (owned) deallocate(data, device);
}

namespace {

void fill(Buffer& buffer, int64_t count, DeviceKind device) {
  buffer.data = static_cast<float*>(allocate(static_cast<size_t>(count) * sizeof(float), device));
  buffer.count = count;
  buffer.device = device;
  buffer.owned = true;
}

void set_row_major(const Shape& shape, int64_t* stride) {
  int64_t step = 1;
  for (int d = shape.rank - 1; d >= 0; --d) {
    stride[d] = step;
    step *= shape.dim[d];
  }
}

// Appends the elements of a strided array in row-major order.
void gather(const float* at, const Shape& shape, const int64_t* stride, int d, std::vector<float>& out) {
  if (d == shape.rank) {
    out.push_back(*at);
    return;
  }
  for (int64_t i = 0; i < shape.dim[d]; ++i) gather(at + i * stride[d], shape, stride, d + 1, out);
}

// The elements of a strided array on any device in row-major order; from a GPU all that it spans is copied at once.
std::vector<float> gather(const float* at, const Shape& shape, const int64_t* stride, DeviceKind device) {
  std::vector<float> out, span;
  if (shape.count() == 0) return out;
  out.reserve(static_cast<size_t>(shape.count()));
  if (device != DeviceKind::cpu) {
    int64_t last = 0;
    for (int d = 0; d < shape.rank; ++d) last += (shape.dim[d] - 1) * stride[d];
    span.resize(static_cast<size_t>(last + 1));
    copy_floats(last + 1, at, device, span.data(), DeviceKind::cpu);
    at = span.data();
  }
  gather(at, shape, stride, 0, out);
  return out;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------- Tensor

Tensor Tensor::empty(const Shape& shape, DeviceKind device) {
  Tensor tensor = over(shape, nullptr, nullptr, device);
  fill(*tensor.values_, shape.count(), device);
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, DeviceKind device) {
  Tensor tensor = empty(shape, device);
  fill_floats(shape.count(), 0.0f, tensor.data(), device);
  return tensor;
}

Tensor Tensor::from(const Shape& shape, const std::vector<float>& values, DeviceKind device) {
  CHECK(shape.count() == static_cast<int64_t>(values.size()), "a tensor of shape ", shape.str(), " has ", shape.count(),
        " elements, not ", values.size());
  Tensor tensor = empty(shape, device);
  copy_floats(shape.count(), values.data(), DeviceKind::cpu, tensor.data(), device);
  return tensor;
}

Tensor Tensor::over(const Shape& shape, float* values, float* gradients, DeviceKind device) {
  Tensor tensor;
  tensor.shape_ = shape;
  set_row_major(shape, tensor.stride_);
  tensor.device_ = device;
  tensor.elements_ = shape.count();
  tensor.values_ = std::make_shared<Buffer>();
  tensor.values_->data = values;
  tensor.values_->count = shape.count();
  tensor.gradient_ = std::make_shared<Gradient>();
  tensor.gradient_->buffer.data = gradients;
  tensor.gradient_->buffer.count = shape.count();
  return tensor;
}

bool Tensor::contiguous() const {
  int64_t step = 1;
  for (int d = rank() - 1; d >= 0; --d) {
    if (shape_.dim[d] != 1 && stride_[d] != step) return false;
    step *= shape_.dim[d];
  }
  return true;
}

float* Tensor::data() const {
  CHECK(values_ != nullptr, "data: a tensor of shape ", shape_.str(),
        " without values (undefined, or kept for its gradient only)");
  return values_->data + offset_;
}

float Tensor::item() const {
  CHECK(defined() && count() == 1, "item(): the tensor has ", count(), " elements, not 1");
  float value = 0;
  copy_floats(1, data(), device_, &value, DeviceKind::cpu);
  return value;
}

Tensor Tensor::to(DeviceKind device) const { return from(shape_, to_vector(), device); }

std::vector<float> Tensor::to_vector() const { return gather(data(), shape_, stride_, device_); }

std::vector<float> Tensor::grad_to_vector() const { return gather(grad(), shape_, stride_, device_); }

Tensor Tensor::slice(int d, int64_t begin, int64_t length) const {
  CHECK(d >= 0 && d < rank(), "slice: dimension ", d, " of a tensor of shape ", shape_.str());
  CHECK(begin >= 0 && length >= 0 && length <= size(d) - begin, "slice: [", begin, ", ", begin + length,
        ") leaves dimension ", d, " of shape ", shape_.str());
  Tensor out = *this;
  out.offset_ += begin * stride_[d];
  out.shape_.dim[d] = length;
  return out;
}

Tensor Tensor::view(const Shape& shape) const {
  CHECK(contiguous(), "view: a tensor of shape ", shape_.str(), " with gaps cannot become ", shape.str());
  CHECK(shape.count() == count(), "view: ", shape_.str(), " and ", shape.str(), " have different numbers of elements");
  Tensor out = *this;
  out.shape_ = shape;
  set_row_major(shape, out.stride_);
  return out;
}

Tensor Tensor::view(const Shape& shape, std::initializer_list<int64_t> strides, int64_t offset) const {
  CHECK(static_cast<int>(strides.size()) == shape.rank, "view: ", strides.size(), " strides for shape ", shape.str());
  Tensor out = *this;
  out.shape_ = shape;
  out.offset_ += offset;
  int64_t last = out.offset_;
  int d = 0;
  for (const int64_t stride : strides) {
    CHECK(stride >= 0, "view: negative stride ", stride);
    out.stride_[d] = stride;
    last += stride * std::max<int64_t>(shape.dim[d] - 1, 0);
    ++d;
  }
  CHECK(out.offset_ >= 0 && (shape.count() == 0 || last < elements_), "view: shape ", shape.str(), " at offset ",
        offset, " leaves a buffer of ", elements_, " elements");
  return out;
}

Tensor& Tensor::set_requires_grad(bool on) {
  CHECK(defined(), "set_requires_grad: an undefined tensor");
  gradient_->required = on;
  return *this;
}

float* Tensor::grad() const {
  CHECK(defined(), "grad: an undefined tensor");
  Buffer& buffer = gradient_->buffer;
  if (buffer.data == nullptr) {
    fill(buffer, elements_, device_);
    fill_floats(elements_, 0.0f, buffer.data, device_);
  }
  return buffer.data + offset_;
}

bool Tensor::is_whole() const { return offset_ == 0 && count() == elements_ && contiguous(); }

GradTarget Tensor::grad_target() const {
  CHECK(defined(), "grad_target: an undefined tensor");
  if (has_grad() || !is_whole()) return {grad(), true};
  fill(gradient_->buffer, elements_, device_);
  return {gradient_->buffer.data, false};
}

void Tensor::adopt_grad(const Tensor& from) const {
  CHECK(defined() && from.has_grad() && from.count() == count(), "adopt_grad: a gradient of shape ", from.shape().str(),
        " for a tensor of shape ", shape_.str());
  if (!has_grad() && is_whole() && from.is_whole() && from.gradient_->buffer.owned) {
    gradient_->buffer.device = from.device_;
    std::swap(gradient_->buffer.data, from.gradient_->buffer.data);
    std::swap(gradient_->buffer.owned, from.gradient_->buffer.owned);
    return;
  }
  CHECK(contiguous() && from.contiguous(), "adopt_grad: tensors with gaps");
  add_floats(count(), from.grad(), grad(), device_);
}

Tensor Tensor::gradient_only() const {
  Tensor out = *this;
  out.values_.reset();
  return out;
}

int64_t KeptImages::count(int64_t batch) const {
  if (slot.empty()) return batch;
  return std::count_if(slot.begin(), slot.end(), [](int64_t place) { return place >= 0; });
}

const int64_t* KeptImages::slots(DeviceKind device) const {
  if (slot.empty()) return nullptr;
  if (device == DeviceKind::cpu) return slot.data();
  if (device_slot == nullptr) {
    const size_t bytes = slot.size() * sizeof(int64_t);
    device_slot = {static_cast<int64_t*>(allocate(bytes, device)), [device](int64_t* p) { deallocate(p, device); }};
    copy_bytes(bytes, slot.data(), DeviceKind::cpu, device_slot.get(), device);
  }
  return device_slot.get();
}

// --------------------------------------------------------------------------------------------------------------- Tape

namespace {

thread_local Tape* current_tape = nullptr;
thread_local int64_t macs = 0;

constexpr size_t kBlockBytes = 64 << 10;

}  // namespace

Tape::Tape() : previous_(current_tape) { current_tape = this; }

Tape::~Tape() {
  while (!entries_.empty()) release_last();
  for (char* block : blocks_) deallocate(block);
  current_tape = previous_;
}

Tape* Tape::current() { return current_tape; }

void* Tape::append(const char* op, const Tensor& output, const Tensor& second, size_t bytes, void (*run)(void*),
                   void (*destroy)(void*)) {
  bytes = (bytes + 63) / 64 * 64;
  CHECK(bytes <= kBlockBytes, op, ": captures ", bytes, " bytes, more than a tape's block");
  if (blocks_.empty() || block_used_ + bytes > kBlockBytes) {
    blocks_.push_back(static_cast<char*>(allocate(kBlockBytes)));
    block_used_ = 0;
  }
  void* place = blocks_.back() + block_used_;
  block_used_ += bytes;
  entries_.push_back({op, output.gradient_only(), second.gradient_only(), place, run, destroy});
  return place;
}

void Tape::release_last() {
  entries_.back().destroy(entries_.back().closure);
  entries_.pop_back();
}

void Tape::backward(const Tensor& loss, float weight, const std::function<void(size_t)>& left) {
  CHECK(loss.defined() && loss.count() == 1, "backward: starts from a tensor with one element");
  CHECK(loss.requires_grad(), "backward: nothing that needs a gradient was recorded");
  add_floats(1, Tensor::from({1}, {weight}, loss.device()).data(), loss.grad(), loss.device());
  while (!entries_.empty()) {
    {
      // An operation whose outputs have no gradient did not influence the loss.
      const Entry& last = entries_.back();
      const TraceSpan span("backward", last.op);
      if (last.output.has_grad() || last.second.has_grad()) last.run(last.closure);
      release_last();
    }
    if (left) left(entries_.size());
  }
}

Tape* recording(std::initializer_list<const Tensor*> inputs) {
  if (current_tape == nullptr) return nullptr;
  const bool needed = std::any_of(inputs.begin(), inputs.end(), [](const Tensor* t) { return t->requires_grad(); });
  return needed ? current_tape : nullptr;
}

DeviceKind common_device(const char* op, std::initializer_list<const Tensor*> inputs) {
  const Tensor* first = nullptr;
  for (const Tensor* tensor : inputs) {
    if (!tensor->defined()) continue;
    if (first == nullptr) first = tensor;
    CHECK(tensor->device() == first->device(), op, ": a tensor of shape ", first->shape().str(), " is on ",
          name_of(first->device()), ", one of shape ", tensor->shape().str(), " on ", name_of(tensor->device()),
          "; move one with to()");
  }
  return first == nullptr ? DeviceKind::cpu : first->device();
}

void count_macs(int64_t n) { macs += n; }
int64_t counted_macs() { return macs; }
void reset_counted_macs() { macs = 0; }

}  // namespace entangle
