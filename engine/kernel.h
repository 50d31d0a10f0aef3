// How a kernel is declared once and found at run time.
//
// KERNEL(name, (arguments), COST(flops, bytes), "formula"); in ops.h declares
//   entangle::cpu::<path>::name   one function per instruction-set path, all from engine/cpu/<op>.cpp,
//   entangle::gpu::name           when built with CUDA, from cuda/<op>.cu,
//   entangle::costs::name         what a call with those arguments costs; flops and bytes are expressions in them,
//   entangle::kernels::name       the table of all that, which registers itself in a list of all kernels.
// The formula is what the kernel computes, in one line, for tables of kernels.
// A path without its function is a link error. A file compiled for one path (ENTANGLE_ISA set by the build) sees the
// declarations of its own path only and no inline code: nothing compiled for AVX-512 can be picked by the linker for
// the code that must run anywhere.
#pragma once

#include <stdint.h>

#define ENTANGLE_CONCAT_(a, b) a##b
#define ENTANGLE_CONCAT(a, b) ENTANGLE_CONCAT_(a, b)

#if defined(ENTANGLE_ISA)

#define KERNEL(name, arguments, cost, formula) \
  namespace cpu {                              \
  namespace ENTANGLE_ISA {                     \
  void name arguments;                         \
  }                                            \
  }

#else

#include <cstddef>
#include <type_traits>

namespace entangle {

// Instruction-set paths, slowest first. A build for another processor has the baseline only.
#if defined(__x86_64__)
enum class CpuPath { baseline, avx2, avx512, avx512_bf16 };
inline constexpr int kCpuPaths = 4;
#else
enum class CpuPath { baseline };
inline constexpr int kCpuPaths = 1;
#endif

const char* name_of(CpuPath path);
bool cpu_supports(CpuPath path);
// The path in use: the fastest that this processor supports, or ENTANGLE_CPU=baseline|avx2|avx512|avx512_bf16 in the environment.
CpuPath cpu_path();
// Overrides the path. Throws Error naming the path when the processor lacks it.
void set_cpu_path(CpuPath path);

enum class DeviceKind { cpu, cuda };

class DeviceTimer;  // engine/device.h
class TraceSpan;    // engine/trace.h

// What one call of a kernel costs. flops: two for each multiply-accumulate of a matrix product; all other arithmetic
// is not counted, since memory bounds it. bytes: the least traffic, every operand read once and every result written
// once, a result that is added to read as well.
struct KernelCost {
  int64_t flops, bytes;
};

// One entry of the list of all kernels, for the tests, the audit and the timing.
struct KernelEntry {
  const char* name;
  const KernelEntry* next;
  const char* formula = "";
  // Sums over the calls while timing is on.
  mutable int64_t calls = 0, flops = 0, bytes = 0;
  mutable double seconds = 0;
};
const KernelEntry* all_kernels();
const KernelEntry* register_kernel(KernelEntry* entry);

// Switches the timing of kernels on or off; switching it on clears what was counted. Kernels are launched from one thread
// while it is on.
void set_kernel_timing(bool on);
bool kernel_timing();

// Called behind every launch of `kernel` with the arrays that the kernel may write to, null ones left out: so that tests can
// plant an error in any kernel. Null for none.
using LaunchHook = void (*)(void* const* written, size_t count, DeviceKind device);
void set_launch_hook(const KernelEntry* kernel, LaunchHook hook);

// Whether launches are timed, traced (engine/trace.h) or have a hook. When not, that costs a branch a launch.
bool launches_watched();
// While it lives, launches are not watched: they are recorded for later, or come from several threads.
class UnwatchedLaunches {
 public:
  UnwatchedLaunches();
  ~UnwatchedLaunches();
  UnwatchedLaunches(const UnwatchedLaunches&) = delete;
  UnwatchedLaunches& operator=(const UnwatchedLaunches&) = delete;
};

// Counts one launch, from construction to destruction. `written` has room for `arguments` arrays, null where an argument is
// none that a kernel writes to.
class KernelTimer {
 public:
  KernelTimer(const KernelEntry& entry, const KernelCost& cost, DeviceKind device, void** written, size_t arguments);
  ~KernelTimer();
  KernelTimer(const KernelTimer&) = delete;
  KernelTimer& operator=(const KernelTimer&) = delete;

 private:
  const KernelEntry& entry_;
  DeviceKind device_;
  void** written_;
  size_t arguments_;
  TraceSpan* span_ = nullptr;
  DeviceTimer* timer_;
};

// The array that an argument is, when a kernel may write to it.
template <class T>
void* written_through(const T&) {
  return nullptr;
}
template <class T>
void* written_through(T* array) {
  if constexpr (std::is_const_v<T>) {
    return nullptr;
  } else {
    return array;
  }
}

// A kernel's function on one device, to be called with the kernel's arguments.
template <class... Parameters>
struct Launch {
  void (*function)(Parameters...);
  KernelCost (*cost)(Parameters...);
  const KernelEntry& entry;
  DeviceKind device;

  void operator()(Parameters... arguments) const {
    if (!launches_watched()) return function(arguments...);
    void* written[] = {written_through(arguments)...};
    const KernelTimer timer(entry, cost(arguments...), device, written, sizeof...(Parameters));
    function(arguments...);
  }
};

template <class Signature>
struct Kernel;

// A kernel: its functions on every device and path, all with the parameters of the signature.
template <class... Parameters>
struct Kernel<void(Parameters...)> {
  using Function = void(Parameters...);

  KernelEntry entry;
  KernelCost (*cost)(Parameters...);
  Function* cpu[kCpuPaths];
  Function* gpu;

  // Aggregates of function addresses; the constructor only links the entry into the list.
  template <class... Paths>
  Kernel(const char* name, const char* formula, KernelCost (*cost_of)(Parameters...), Function* device_code,
         Paths*... paths)
      : entry{name, nullptr, formula}, cost(cost_of), cpu{paths...}, gpu(device_code) {
    register_kernel(&entry);
  }
  // The function for a device, on the CPU for the path in use.
  Launch<Parameters...> on(DeviceKind device) const {
    return {device == DeviceKind::cpu ? cpu[static_cast<size_t>(cpu_path())] : gpu, cost, entry, device};
  }
};

}  // namespace entangle

#if defined(ENTANGLE_CUDA)
#define ENTANGLE_DECLARE_GPU(name, arguments) \
  namespace gpu {                             \
  void name arguments;                        \
  }
#define ENTANGLE_GPU_ADDRESS(name) &gpu::name
#else
#define ENTANGLE_DECLARE_GPU(name, arguments)
#define ENTANGLE_GPU_ADDRESS(name) nullptr
#endif

#if defined(__x86_64__)
#define ENTANGLE_DECLARE_CPU(name, arguments) \
  namespace cpu {                             \
  namespace baseline {                        \
  void name arguments;                        \
  }                                           \
  namespace avx2 {                            \
  void name arguments;                        \
  }                                           \
  namespace avx512 {                          \
  void name arguments;                        \
  }                                           \
  namespace avx512_bf16 {                     \
  void name arguments;                        \
  }                                           \
  }
#define ENTANGLE_CPU_ADDRESSES(name) &cpu::baseline::name, &cpu::avx2::name, &cpu::avx512::name, &cpu::avx512_bf16::name
#else
#define ENTANGLE_DECLARE_CPU(name, arguments) \
  namespace cpu {                             \
  namespace baseline {                        \
  void name arguments;                        \
  }                                           \
  }
#define ENTANGLE_CPU_ADDRESSES(name) &cpu::baseline::name
#endif

// The body of a cost function.
#define COST(flops, bytes) \
  { return {flops, bytes}; }

// Most costs read few of the kernel's arguments.
// clang-format off
#define KERNEL(name, arguments, cost, formula)                                                       \
  ENTANGLE_DECLARE_CPU(name, arguments)                                                              \
  ENTANGLE_DECLARE_GPU(name, arguments)                                                              \
  namespace costs {                                                                                  \
  _Pragma("GCC diagnostic push")                                                                     \
  _Pragma("GCC diagnostic ignored \"-Wunused-parameter\"")                                           \
  inline KernelCost name arguments cost                                                              \
  _Pragma("GCC diagnostic pop")                                                                      \
  }                                                                                                  \
  namespace kernels {                                                                                \
  inline const Kernel<void arguments> name(#name, formula, &costs::name, ENTANGLE_GPU_ADDRESS(name), \
                                           ENTANGLE_CPU_ADDRESSES(name));                            \
  }
// clang-format on

#endif  // ENTANGLE_ISA
