#include "tests/ops/harness.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"

namespace entangle {

using reference::Array;
using reference::Arrays;
using reference::Bounded;

namespace {

// The offsets of a tensor's elements from data(), in row-major order.
std::vector<int64_t> offsets_of(const Tensor& t) {
  std::vector<int64_t> offsets;
  for (int64_t index = 0; index < t.count(); ++index) {
    int64_t offset = 0, rest = index;
    for (int d = t.rank() - 1; d >= 0; --d) {
      offset += rest % t.size(d) * t.stride(d);
      rest /= t.size(d);
    }
    offsets.push_back(offset);
  }
  return offsets;
}

template <class T>
Array<T> widen(const std::vector<float>& values) {
  return Array<T>(values.begin(), values.end());
}

template <class T>
Arrays<T> widen(const std::vector<std::vector<float>>& values) {
  Arrays<T> out;
  for (const std::vector<float>& v : values) out.push_back(widen<T>(v));
  return out;
}

// What a case is run on: the inputs in row-major order, and the gradient of the output.
struct Data {
  std::vector<std::vector<float>> inputs;
  std::vector<float> dy;
};

Data draw(const Case& c) {
  Data data;
  uint64_t seed = 1;
  for (const Input& input : c.inputs) {
    Rng rng(seed++, Stream::synthetic);
    data.inputs.emplace_back();
    for (int64_t i = 0; i < input.shape.count(); ++i) data.inputs.back().push_back(input.generate(rng, i));
  }
  Rng rng(seed, Stream::synthetic);
  for (int64_t i = 0; i < c.output.count(); ++i) data.dy.push_back(c.output_gradient(rng, i));
  return data;
}

// Whether gradients exist before the backward pass.
enum class Start { ones, fresh };

// One input in its guarded buffers. The parent's elements outside of the slice keep the guard pattern.
class Operand {
 public:
  Operand(const Input& input, const std::vector<float>& values, Start start, DeviceKind device)
      : input_(input),
        start_(start),
        values_(input.parent.rank > 0 ? input.parent.count() : input.shape.count(), device),
        gradients_(values_.count(), device) {
    // Only an input that needs a gradient may be given one, so the other kind always has a buffer to watch.
    float* gradients = start == Start::ones || !input.requires_grad ? gradients_.data() : nullptr;
    parent_ = Tensor::over(input.parent.rank > 0 ? input.parent : input.shape, values_.data(), gradients, device);
    tensor_ = parent_;
    for (int d = 0; d < input.parent.rank; ++d) {
      tensor_ = tensor_.slice(d, input.begin.rank > 0 ? input.begin[d] : 0, input.shape[d]);
    }
    const std::vector<int64_t> offsets = offsets_of(tensor_);
    inside_.resize(static_cast<size_t>(values_.count()));
    before_ = values_.values();
    gradients_before_ = gradients_.values();
    for (size_t i = 0; i < offsets.size(); ++i) {
      const size_t at = static_cast<size_t>(tensor_.data() + offsets[i] - values_.data());
      before_[at] = values[i];
      if (gradients != nullptr) gradients_before_[at] = 1;
      inside_[at] = true;
    }
    values_.set(before_);
    gradients_.set(gradients_before_);
    tensor_.set_requires_grad(input.requires_grad);
  }

  const Tensor& tensor() const { return tensor_; }

  void check(Faults& faults) const {
    values_.check(input_.name, faults);
    gradients_.check("the gradient of " + input_.name, faults);
    if (!same_bits(values_.values(), before_)) faults.push_back(input_.name + ": the values of an input were changed");
    if (!input_.requires_grad) {
      if (!same_bits(gradients_.values(), gradients_before_)) {
        faults.push_back(input_.name + ": needs no gradient, yet its gradient was changed");
      }
    } else if (start_ == Start::ones) {
      check_outside(gradients_.values(), faults, is_guard);
    } else if (tensor_.has_grad()) {
      check_outside(parent_.grad_to_vector(), faults, [](float word) { return bits_of(word) == 0; });
    }
  }

 private:
  void check_outside(const std::vector<float>& gradient, Faults& faults, bool (*untouched)(float)) const {
    for (size_t i = 0; i < gradient.size(); ++i) {
      if (inside_[i] || untouched(gradient[i])) continue;
      faults.push_back(concat(input_.name, ": element ", i, " of the parent's gradient, outside of the slice, is now ",
                              gradient[i]));
      return;
    }
  }

  const Input& input_;
  Start start_;
  Guarded values_, gradients_;
  Tensor parent_, tensor_;
  std::vector<bool> inside_;
  std::vector<float> before_, gradients_before_;
};

// sum_i dy_i y_i: gives the output of an operation the gradient dy.
Tensor weighted_sum(const Tensor& y, const std::vector<float>& dy) {
  Tensor loss = Tensor::zeros({1}, y.device());
  if (Tape* tape = recording({&y})) {
    tape->record("weighted_sum", loss, [y, dy] {
      const GradTarget target = y.grad_target();
      const Tensor given = Tensor::from(y.shape(), dy, y.device());
      if (target.add) {
        add_floats(y.count(), given.data(), target.data, y.device());
      } else {
        copy_floats(y.count(), given.data(), y.device(), target.data, y.device());
      }
    });
  }
  return loss;
}

// The word that fills memory which the allocator hands out poisoned.
uint32_t poison_bits() {
  const Tensor probe = Tensor::empty({16});
  return bits_of(probe.data()[15]);
}

// Blocks are multiples of 64 bytes and come poisoned: between the last element and the end of the block nothing may
// have been written. (An emulated device's end where the last element does, and it watches what lies behind.)
void check_end(const std::string& what, const float* data, int64_t count, DeviceKind device, Faults& faults) {
  float behind[16] = {};
  const int64_t n = (16 - count % 16) % 16;
#if defined(ENTANGLE_CUDA_EMULATED)
  if (device == DeviceKind::cuda) return;
#endif
  copy_floats(n, data + count, device, behind, DeviceKind::cpu);
  for (int64_t i = 0; i < n; ++i) {
    if (bits_of(behind[i]) == poison_bits()) continue;
    faults.push_back(concat(what, ": written ", i + 1, " element(s) behind its end: ", behind[i]));
    return;
  }
}

struct Outcome {
  std::vector<float> y;
  std::vector<std::vector<float>> gradients;
  Faults faults;
};

void run_backward(const Case& c, const Data& data, const std::vector<Tensor>& inputs, Start start, Outcome& out) {
  Tape tape;
  const Tensor y = c.run(inputs);
  if (y.shape() != c.output) {
    out.faults.push_back(concat("the output has shape ", y.shape().str(), ", not ", c.output.str()));
    return;
  }
  out.y = y.to_vector();
  check_end("the output", y.data(), y.count(), y.device(), out.faults);
  if (!y.requires_grad()) {
    out.faults.push_back("nothing was recorded on the tape");
    return;
  }
  tape.backward(weighted_sum(y, data.dy));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!c.inputs[i].requires_grad) {
      out.gradients.emplace_back();
      continue;
    }
    const bool allocated = start == Start::fresh && c.inputs[i].parent.rank == 0 && inputs[i].has_grad();
    if (allocated) {
      check_end("the gradient of " + c.inputs[i].name, inputs[i].grad(), inputs[i].count(), y.device(), out.faults);
    }
    out.gradients.push_back(inputs[i].grad_to_vector());
  }
}

// One forward and backward pass. An exception is a fault like any other.
Outcome run_once(const Case& c, const Data& data, Start start, DeviceKind device, const Variation& variation) {
  variation.choose();
  set_poison(true);
  Outcome out;
  std::vector<std::unique_ptr<Operand>> operands;
  std::vector<Tensor> inputs;
  try {
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      operands.push_back(std::make_unique<Operand>(c.inputs[i], data.inputs[i], start, device));
      inputs.push_back(operands.back()->tensor());
    }
    run_backward(c, data, inputs, start, out);
    synchronize(device);
  } catch (const std::exception& error) {
    out.faults.push_back(error.what());
    take_device_fault();
  }
  for (const std::unique_ptr<Operand>& operand : operands) operand->check(out.faults);
  return out;
}

// The output when no tape is live.
std::vector<float> run_inference(const Case& c, const Data& data, DeviceKind device) {
  std::vector<std::unique_ptr<Operand>> operands;
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    operands.push_back(std::make_unique<Operand>(c.inputs[i], data.inputs[i], Start::ones, device));
    inputs.push_back(operands.back()->tensor());
  }
  return c.run(inputs).to_vector();
}

void compare_outcomes(const std::string& what, const Case& c, const Outcome& got, const Outcome& want, Faults& faults) {
  compare_bits(what + ": output", got.y, want.y, faults);
  for (size_t i = 0; i < std::min(got.gradients.size(), want.gradients.size()); ++i) {
    if (!c.inputs[i].requires_grad) continue;
    compare_bits(what + ": gradient of " + c.inputs[i].name, got.gradients[i], want.gradients[i], faults);
  }
}

struct Wanted {
  Array<Bounded> y;
  Arrays<Bounded> gradients;
};

void compare_with_reference(const Case& c, const Outcome& got, const Wanted& want, Start start, Faults& faults) {
  compare("output", got.y, want.y, c.tolerance, faults);
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    if (!c.inputs[i].requires_grad) continue;
    Array<Bounded> gradient = want.gradients[i];
    if (start == Start::ones) {
      for (Bounded& g : gradient) g += 1.0;
    }
    compare("gradient of " + c.inputs[i].name, got.gradients[i], gradient, c.tolerance, faults);
  }
}

// Everything about the kernels of a device, on the processor those of the path in use.
Faults check_device(const Case& c, const Data& data, const Wanted& want, DeviceKind device) {
  Faults faults;
  Outcome first[2];
  for (const Start start : {Start::fresh, Start::ones}) {
    const std::vector<Variation> variations = variations_of(device);
    const Outcome once = run_once(c, data, start, device, variations[0]);
    Faults found = once.faults;
    if (once.y.size() == want.y.size()) compare_with_reference(c, once, want, start, found);
    for (size_t i = 1; i < variations.size(); ++i) {
      const Outcome again = run_once(c, data, start, device, variations[i]);
      if (found.empty()) found = again.faults;
      compare_outcomes(variations[i].name, c, again, once, found);
    }
    const std::string which = start == Start::ones ? "gradients of ones: " : "fresh gradients: ";
    for (const std::string& fault : found) faults.push_back(which + fault);
    first[start == Start::ones] = once;
  }
  compare_bits("output with other gradient buffers", first[1].y, first[0].y, faults);
  if (faults.empty()) compare_bits("output without a tape", run_inference(c, data, device), first[0].y, faults);
  return faults;
}

double weighted_output(const Case& c, const Arrays<double>& inputs, const Array<double>& dy) {
  const Array<double> y = c.forward.plain(inputs);
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += dy[i] * y[i];
  return sum;
}

void note_difference(const std::string& what, double difference, double largest) {
  if (Ledger* ledger = Ledger::current()) {
    ledger->note(what, [&](Figures& figures) {
      ++figures.differences;
      if (largest > 0) figures.difference = std::max(figures.difference, difference / largest);
    });
  }
}

// The reference's gradient against (f(x+h) - f(x-h)) / 2h of the reference, f = dy . y, at a few elements of each
// input. Truncation is of order h^2 = 1e-10 times a third derivative, rounding of order 1e-16 |f| / h = 1e-11 |f|.
void check_differences(const Case& c, const Data& data, Faults& faults) {
  Arrays<double> inputs = widen<double>(data.inputs);
  size_t size = 0;
  for (const Array<double>& input : inputs) size += input.size();
  const int elements = size < 20000 ? 8 : 2;  // the largest shapes are there for the kernels' blocks
  const Array<double> dy = widen<double>(data.dy);
  const Arrays<double> gradients = c.backward.plain(inputs, dy);
  Rng rng(7, Stream::synthetic);
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (!c.inputs[k].requires_grad || inputs[k].empty()) continue;
    double largest = 0;
    for (const double g : gradients[k]) largest = std::max(largest, std::fabs(g));
    for (int n = 0; n < elements; ++n) {
      const size_t i = static_cast<size_t>(rng.below(static_cast<int64_t>(inputs[k].size())));
      const double x = inputs[k][i], h = 1e-5 * std::max(1.0, std::fabs(x));
      inputs[k][i] = x + h;
      const double above = weighted_output(c, inputs, dy);
      inputs[k][i] = x - h;
      const double below = weighted_output(c, inputs, dy);
      inputs[k][i] = x;
      const double want = (above - below) / (2 * h), tolerance = 1e-6 * largest + 1e-9 * (1 + std::fabs(above));
      note_difference("gradient of " + c.inputs[k].name, std::fabs(gradients[k][i] - want), largest);
      if (std::fabs(gradients[k][i] - want) <= tolerance) continue;
      faults.push_back(concat("the reference's gradient of ", c.inputs[k].name, " at element ", i, " is ",
                              gradients[k][i], ", its finite difference ", want));
      return;
    }
  }
}

// What is timed of a case: forward and backward on tensors of their own.
void run_plainly(const Case& c, const Data& data, DeviceKind device) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    inputs.push_back(Tensor::from(c.inputs[i].shape, data.inputs[i], device));
    inputs.back().set_requires_grad(c.inputs[i].requires_grad);
  }
  Tape tape;
  tape.backward(weighted_sum(c.run(inputs), data.dy));
}

}  // namespace

Work work_of(std::function<Case()> make) {
  return [make, drawn = std::make_shared<std::unique_ptr<std::pair<Case, Data>>>()](DeviceKind device) {
    if (*drawn == nullptr) {
      const Case c = make();
      *drawn = std::make_unique<std::pair<Case, Data>>(c, draw(c));
    }
    run_plainly((*drawn)->first, (*drawn)->second, device);
  };
}

Faults check_case(const Case& c) {
  const SettingsScope restore;
  const Data data = draw(c);
  Faults faults;
  check_differences(c, data, faults);
  const Arrays<Bounded> inputs = widen<Bounded>(data.inputs);
  const Wanted want = {c.forward.bounded(inputs), c.backward.bounded(inputs, widen<Bounded>(data.dy))};
  for (const Place& place : places()) {
    if (c.cpu_only && place.device != DeviceKind::cpu) continue;
    place.choose();
    for (const std::string& fault : check_device(c, data, want, place.device)) {
      faults.push_back(place.name + ": " + fault);
    }
  }
  for (std::string& fault : faults) fault = c.name + ": " + fault;
  return faults;
}

}  // namespace entangle
