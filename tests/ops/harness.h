// The test of an operation: one row gives its kernels, its shapes, how to run it and its reference; the harness does
// the rest. For every case of a row, at every instruction-set path of this processor, and on a CUDA device when the build
// and the machine have one:
//   - the output and every gradient against the double reference, within a tolerance computed with the reference;
//   - gradients added to buffers full of ones, and stored into fresh, poisoned ones;
//   - the reference's own gradient against central differences of the reference;
//   - inputs and their gradients as slices of larger parents between guard words: nothing outside of a slice changes,
//     a read outside of it is a NaN, and nothing is written behind the end of what the operation allocates;
//   - the same bits on a rerun, with one thread and with two, and without a tape; on an emulated device also with the
//     threads of a kernel's blocks in ascending, descending and shuffled order.
// A fault is one line of text; a check returns all that it finds, so that the harness itself can be tested. Nothing here
// needs GoogleTest: the rows are tests (ops_test.cpp) and the table of audit_kernels (audit.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/kernel.h"
#include "engine/rng.h"
#include "engine/tensor.h"
#include "tests/ops/reference_numbers.h"

namespace entangle {

using Faults = std::vector<std::string>;

// Element `index` (row-major) of an input.
using Generator = std::function<float(Rng&, int64_t index)>;
Generator uniform(double low, double high);

struct Input {
  std::string name;
  Shape shape;
  // The tensor that this input is a slice of, and where in it the slice begins; rank 0: a tensor of its own.
  Shape parent = {};
  Shape begin = {};
  Generator generate = uniform(-1, 1);
  bool requires_grad = true;
};

// A reference function for both number types, from one generic lambda.
template <class Signature, class BoundedSignature>
struct Reference {
  std::function<Signature> plain;
  std::function<BoundedSignature> bounded;

  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, Reference>>>
  Reference(F f) : plain(f), bounded(f) {}
};
template <class T>
using ForwardOf = reference::Array<T>(const reference::Arrays<T>& inputs);
template <class T>
using BackwardOf = reference::Arrays<T>(const reference::Arrays<T>& inputs, const reference::Array<T>& dy);

struct Case {
  std::string name;
  std::vector<Input> inputs;
  Shape output;
  std::function<Tensor(const std::vector<Tensor>& inputs)> run;
  Reference<ForwardOf<double>, ForwardOf<reference::Bounded>> forward;
  // The gradients of the inputs in their order; those that need none may be missing at the end.
  Reference<BackwardOf<double>, BackwardOf<reference::Bounded>> backward;
  double tolerance = 8;   // c of compare()
  bool cpu_only = false;  // the operation has no kernel for a CUDA device: those of the harness's own tests
  Generator output_gradient = uniform(-1, 1);
};

// "what size size ...": the name of a case.
std::string describe(const std::string& what, const std::vector<int64_t>& sizes);

// Everything in the list above.
Faults check_case(const Case& c);

// Gives what is a Case's operation to do at its sizes, without a reference, to be timed.
using Work = std::function<void(DeviceKind device)>;
Work work_of(std::function<Case()> make);

// Appends a fault unless every |got - want.value| <= c eps (|want.value| + scale), with eps = 2^-24, half a unit in the
// last place of 1. The scale is what want.error exceeds |want.value| by, as the error counts the last rounding already,
// plus the smallest normal number, below which roundings stop to shrink. A NaN or an infinity fails.
void compare(const std::string& what, const std::vector<float>& got, const reference::Array<reference::Bounded>& want,
             double c, Faults& faults);
// The same for one number and a tolerance of its own.
void compare_number(const std::string& what, double got, double want, double tolerance, Faults& faults);
void compare_numbers_bits(const std::string& what, double got, double want, Faults& faults);
uint32_t bits_of(float word);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);
// Appends a fault unless the two are equal bit for bit.
void compare_bits(const std::string& what, const std::vector<float>& got, const std::vector<float>& want,
                  Faults& faults);

// A buffer between guard words, on any device. All of it starts as a NaN that no arithmetic produces. The first word
// stands at an odd multiple of four bytes: kernels are promised no alignment.
class Guarded {
 public:
  explicit Guarded(int64_t count, DeviceKind device = DeviceKind::cpu);
  float* data() { return memory_.get() + kGuard; }
  int64_t count() const { return count_; }
  std::vector<float> values() const;
  void set(const std::vector<float>& values);
  // Appends a fault when a guard word has changed.
  void check(const std::string& what, Faults& faults) const;

 private:
  std::vector<float> words() const;  // in host memory, guards included

  static constexpr int64_t kGuard = 65;
  int64_t count_;
  DeviceKind device_;
  std::shared_ptr<float> memory_;
};
// Whether a word is still what a Guarded starts as.
bool is_guard(float word);

std::vector<CpuPath> supported_paths();

// One way to run kernels that must give the same bits as the first of the list.
struct Variation {
  std::string name;
  std::function<void()> choose;
};
std::vector<Variation> variations_of(DeviceKind device);

// A place where kernels run: a path of the processor, or a CUDA device.
struct Place {
  std::string name;
  DeviceKind device;
  CpuPath path;

  void choose() const;
};
// Every path that this processor supports, and the CUDA device that the build and the machine have.
std::vector<Place> places();
// While it lives, places() is that one alone.
class OnlyAt {
 public:
  explicit OnlyAt(const Place& place);
  ~OnlyAt();
  OnlyAt(const OnlyAt&) = delete;
  OnlyAt& operator=(const OnlyAt&) = delete;

 private:
  Place place_;
};

// The first fault that an emulated device has found since the last call, or an empty string.
std::string take_device_fault();

// Puts the path, the number of threads, the order of emulated threads and poisoning back as they were (poisoning off).
class SettingsScope {
 public:
  SettingsScope();
  ~SettingsScope();

 private:
  CpuPath path_;
  int threads_;
};

// A kernel of a row, and what it makes, as faults and comparisons call it: "output", or "gradient of x". By its name
// alone, x_forward makes the output, x_backward all gradients, any other everything.
struct RowKernel {
  std::string name;
  std::vector<std::string> results;

  RowKernel(const char* kernel);
  RowKernel(const char* kernel, std::vector<std::string> made);
};

struct RowEntry {
  std::string name;
  std::vector<RowKernel> kernels;
  std::function<Faults()> check = nullptr;
  Work work = nullptr;  // none: the row's kernels are timed by another

  // Those that make what `text` is about; all, when it does not say.
  std::vector<std::string> kernels_of(const std::string& text) const;
};

// What the comparisons of a row saw of one of its kernels, faults or not.
struct Figures {
  int64_t compared = 0;  // elements, with the reference
  // Of the element whose error is the largest part of what it may be (`part`; not finite when anything was not a number).
  double error = 0, allowed = 0, part = 0;
  int64_t differences = 0;            // finite differences taken of the reference
  double difference = 0;              // the largest, of the largest gradient
  int64_t reruns = 0, differing = 0;  // results that had to have the bits of another run's, and that did not
};

// Fills figures of a row's kernels from construction to destruction.
class Ledger {
 public:
  explicit Ledger(const RowEntry& row);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  // The one that lives, or null.
  static Ledger* current();

  // Calls f(figures) for each kernel that makes what `what` is about.
  template <class F>
  void note(const std::string& what, const F& f) {
    for (const std::string& kernel : row_.kernels_of(what)) f(figures_[kernel]);
  }
  const std::map<std::string, Figures>& figures() const { return figures_; }

 private:
  const RowEntry& row_;
  std::map<std::string, Figures> figures_;
};

// Rows of cases then check no more of them once one has a fault.
void stop_at_first_faulty_case(bool on);

// A fault for each kernel in the list that no row names, and for each that a row names and the list lacks.
Faults check_coverage(const KernelEntry* kernels, const std::vector<RowEntry>& rows);

// A row: a static object that stays in the list of all rows.
class Row {
 public:
  Row(const std::string& name, const std::vector<RowKernel>& kernels, std::function<Faults()> check,
      Work work = nullptr);
  // A row of cases, each put through check_case; and of one that is timed.
  Row(const std::string& name, const std::vector<RowKernel>& kernels, std::function<std::vector<Case>()> cases);
  Row(const std::string& name, const std::vector<RowKernel>& kernels, std::function<std::vector<Case>()> cases,
      std::function<Case()> timed);
  static const std::vector<RowEntry>& all();
  // Calls f for every row there is and for every one to come: static objects are made in any order. Returns true.
  static bool for_each(std::function<void(const RowEntry&)> f);
};

}  // namespace entangle
