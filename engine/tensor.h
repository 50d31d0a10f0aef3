// Tensors with shared storage, and the tape that turns a forward pass into gradients.
//
// A tensor is a handle: shape, strides and an offset into two buffers, one of values and, once asked for, one of
// gradients. slice() gives another handle on the same buffers. Value (i, j) of a slice and its gradient lie at the same
// offset of the two buffers, so the gradient of a slice *is* the slice of its parent's gradient: weights entangled
// across subnets need no copy in either direction.
//
//   Tensor x = Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6}).set_requires_grad();
//   Tape tape;                         // records what this thread computes while it lives
//   Tensor loss = ...ops on x...;      // [1]
//   tape.backward(loss);               // x.grad() now holds d loss / d x
//
// Values are fp32. Without a live Tape nothing is recorded and nothing is kept: that is inference.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "engine/kernel.h"

namespace entangle {

inline constexpr int kMaxRank = 4;

// The sizes of a tensor, of up to kMaxRank dimensions.
struct Shape {
  int rank = 0;
  int64_t dim[kMaxRank] = {};

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);  // throws Error on a negative size or too many dimensions
  int64_t count() const;                       // product of the sizes; 1 for rank 0
  int64_t operator[](int d) const { return dim[d]; }
  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }
  std::string str() const;  // "[2, 3]"
};

// The two buffers behind one or many tensors. They live apart: a recorded operation that needs only the gradient of its
// output does not keep the values alive.
struct Buffer {
  float* data = nullptr;
  int64_t count = 0;  // elements
  DeviceKind device = DeviceKind::cpu;
  bool owned = false;

  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
};
// The second of the two buffers behind tensors.
struct Gradient {
  Buffer buffer;  // data is null until it is first asked for
  bool required = false;
};

// Where a backward kernel puts the gradient of an activation: adds to what is there, or, when nothing is there yet,
// stores (the buffer is then uninitialised).
struct GradTarget {
  float* data;
  bool add;
};

// A handle on values and on their gradient, shared with whatever views it or is viewed by it.
class Tensor {
 public:
  Tensor() = default;
  static Tensor empty(const Shape& shape, DeviceKind device = DeviceKind::cpu);  // values undefined
  static Tensor zeros(const Shape& shape, DeviceKind device = DeviceKind::cpu);
  static Tensor from(const Shape& shape, const std::vector<float>& values, DeviceKind device = DeviceKind::cpu);
  // A tensor over memory that somebody else owns and that outlives it. `gradients` may be null.
  static Tensor over(const Shape& shape, float* values, float* gradients, DeviceKind device = DeviceKind::cpu);

  bool defined() const { return gradient_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank; }
  int64_t size(int d) const { return shape_.dim[d]; }
  int64_t stride(int d) const { return stride_[d]; }
  int64_t count() const { return shape_.count(); }
  bool contiguous() const;
  DeviceKind device() const { return device_; }
  float* data() const;                   // device memory on a CUDA device; throws Error for a tensor without values
  Tensor to(DeviceKind device) const;    // a contiguous copy of the values there
  float item() const;                    // the value of a tensor with one element
  std::vector<float> to_vector() const;  // the values in row-major order, whatever the strides

  // Views on the same buffers. They throw Error when they would leave the tensor.
  Tensor slice(int d, int64_t begin, int64_t length) const;
  Tensor view(const Shape& shape) const;  // contiguous tensors only
  Tensor view(const Shape& shape, std::initializer_list<int64_t> strides, int64_t offset = 0) const;  // any strides

  // Gradients. Setting it on a view sets it for all that share the buffers.
  Tensor& set_requires_grad(bool on = true);
  bool requires_grad() const { return defined() && gradient_->required; }
  bool has_grad() const { return defined() && gradient_->buffer.data != nullptr; }
  float* grad() const;                        // the gradient's buffer, zero-filled when first asked for
  std::vector<float> grad_to_vector() const;  // row-major
  GradTarget grad_target() const;             // for backward kernels; see GradTarget
  // Gives the gradient of `from`, whose last use this is, to this tensor: taken over when this one has none yet,
  // added otherwise. For operations whose input gradient equals their output gradient.
  void adopt_grad(const Tensor& from) const;
  // The same tensor without its values: what a recorded operation captures of an output when its gradient is all it
  // needs.
  Tensor gradient_only() const;

 private:
  bool is_whole() const;  // covers its buffers, in their order

  std::shared_ptr<Buffer> values_;
  std::shared_ptr<Gradient> gradient_;
  DeviceKind device_ = DeviceKind::cpu;
  int64_t offset_ = 0, elements_ = 0;  // elements_: of the buffers
  Shape shape_;
  int64_t stride_[kMaxRank] = {};
};

// The relative position tables of an attention layer (engine/ops.h); undefined tensors for none.
struct AttentionTables {
  Tensor key_v, key_h, value_v, value_h;
};

// The images of a batch that a branch of the network computes; drop-path leaves out the others.
struct KeptImages {
  std::vector<int64_t> slot;  // of each image: its place among the kept, in ascending order, or -1; empty: all are kept
  float scale = 1;            // of the branch: 1 / probability of being kept
  mutable std::shared_ptr<int64_t> device_slot = {};  // a copy on the CUDA device, once it was asked for

  int64_t count(int64_t batch) const;
  const int64_t* slots(DeviceKind device) const;  // for kernels; null when all are kept
};
// The two outputs of residual_norm (engine/ops.h).
struct ResidualNorm {
  Tensor sum, norm;
};

// Records the operations of the current thread from construction to destruction. Tapes nest like scopes.
class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The innermost live tape of this thread, or null.
  static Tape* current();

  // Appends an operation: `backward` reads the gradient of `output` and adds to the gradients of the inputs that it
  // captured. The tape itself keeps no values; what the backward pass needs is what the closures captured.
  template <class F>
  void record(const char* op, Tensor& output, F backward) {
    Tensor none;
    record(op, output, none, std::move(backward));
  }
  // The same for an operation with two outputs.
  template <class F>
  void record(const char* op, Tensor& output, Tensor& second, F backward) {
    output.set_requires_grad();
    if (second.defined()) second.set_requires_grad();
    void* place = append(
        op, output, second, sizeof(F), [](void* f) { (*static_cast<F*>(f))(); },
        [](void* f) { static_cast<F*>(f)->~F(); });
    new (place) F(std::move(backward));
  }

  // Seeds the gradient of `loss`, which has one element, with `weight` and runs the operations backward. Each is released as
  // soon as it has run, so activations are freed on the way. The tape is empty afterwards. After each, `left` is told how
  // many are left.
  void backward(const Tensor& loss, float weight = 1, const std::function<void(size_t)>& left = nullptr);

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    const char* op;
    Tensor output, second;  // second: undefined for most operations
    void* closure;
    void (*run)(void*);
    void (*destroy)(void*);
  };
  void* append(const char* op, const Tensor& output, const Tensor& second, size_t bytes, void (*run)(void*),
               void (*destroy)(void*));
  void release_last();

  std::vector<Entry> entries_;
  std::vector<char*> blocks_;  // closures live in blocks of the tensor allocator
  size_t block_used_ = 0;
  Tape* previous_;
};

// A view of a parameter that operations read, and how many the tape held before the first of them: once no more are left
// of them, the backward pass has finished the view's gradient.
struct TapedView {
  Tensor view;
  size_t before;
};

// The current tape when one is live and any of the inputs needs a gradient, else null: `if (Tape* tape =
// recording(...))`.
Tape* recording(std::initializer_list<const Tensor*> inputs);

// The device that all defined inputs of an operation are on. Throws Error naming the operation when they differ.
DeviceKind common_device(const char* op, std::initializer_list<const Tensor*> inputs);

// Multiply-accumulates that the operations of this thread have executed in forward passes since the last reset.
// Operations report themselves; the cost model is checked against it.
void count_macs(int64_t macs);
int64_t counted_macs();
void reset_counted_macs();

}  // namespace entangle
