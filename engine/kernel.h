// How a kernel is declared once and found at run time.
//
// KERNEL(name, (arguments)); in ops.h declares
//   entangle::cpu::<path>::name   one function per instruction-set path, all from engine/cpu/<op>.cpp,
//   entangle::gpu::name           when built with CUDA, from cuda/<op>.cu,
//   entangle::kernels::name       the table of them, which registers itself in a list of all kernels.
// A path without its function is a link error. A file compiled for one path (ENTANGLE_ISA set by the build) sees the
// declarations of its own path only and no inline code: nothing compiled for AVX-512 can be picked by the linker for
// the code that must run anywhere.
#pragma once

#include <stdint.h>

#define ENTANGLE_CONCAT_(a, b) a##b
#define ENTANGLE_CONCAT(a, b) ENTANGLE_CONCAT_(a, b)

#if defined(ENTANGLE_ISA)

#define KERNEL(name, arguments) \
  namespace cpu {               \
  namespace ENTANGLE_ISA {      \
  void name arguments;          \
  }                             \
  }

#else

#include <cstddef>

namespace entangle {

// Instruction-set paths, slowest first. A build for another processor has the baseline only.
#if defined(__x86_64__)
enum class CpuPath { baseline, avx2, avx512 };
inline constexpr int kCpuPaths = 3;
#else
enum class CpuPath { baseline };
inline constexpr int kCpuPaths = 1;
#endif

const char* name_of(CpuPath path);
bool cpu_supports(CpuPath path);
// The path in use: the fastest that this processor supports, or ENTANGLE_CPU=baseline|avx2|avx512 in the environment.
CpuPath cpu_path();
// Overrides the path. Throws Error naming the path when the processor lacks it.
void set_cpu_path(CpuPath path);

enum class DeviceKind { cpu, cuda };

// One entry of the list of all kernels, for the tests, the audit and the timing.
struct KernelEntry {
  const char* name;
  const KernelEntry* next;
  mutable int64_t calls = 0;  // while timing is on
  mutable double seconds = 0;
};
const KernelEntry* all_kernels();
const KernelEntry* register_kernel(KernelEntry* entry);

// Switches the timing of kernels on or off; switching it on clears what was counted. Kernels are launched from one thread
// while it is on. Off, it costs a branch a launch.
void set_kernel_timing(bool on);

// Counts one launch, from construction to destruction, when timing is on.
class KernelTimer {
 public:
  explicit KernelTimer(const KernelEntry& entry);
  ~KernelTimer();
  KernelTimer(const KernelTimer&) = delete;
  KernelTimer& operator=(const KernelTimer&) = delete;

 private:
  const KernelEntry* entry_;  // null when timing is off
  double start_ = 0;
};

// A kernel's function on one device, to be called with the kernel's arguments.
template <class Signature>
struct Launch {
  Signature* function;
  const KernelEntry& entry;

  template <class... Arguments>
  void operator()(const Arguments&... arguments) const {
    const KernelTimer timer(entry);
    function(arguments...);
  }
};

template <class Signature>
struct Kernel {
  KernelEntry entry;
  Signature* cpu[kCpuPaths];
  Signature* gpu;

  // Aggregates of function addresses; the constructor only links the entry into the list.
  template <class... Paths>
  Kernel(const char* name, Signature* device_code, Paths*... paths)
      : entry{name, nullptr}, cpu{paths...}, gpu(device_code) {
    register_kernel(&entry);
  }
  // The function for a device, on the CPU for the path in use.
  Launch<Signature> on(DeviceKind device) const {
    return {device == DeviceKind::cpu ? cpu[static_cast<size_t>(cpu_path())] : gpu, entry};
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
  }
#define ENTANGLE_CPU_ADDRESSES(name) &cpu::baseline::name, &cpu::avx2::name, &cpu::avx512::name
#else
#define ENTANGLE_DECLARE_CPU(name, arguments) \
  namespace cpu {                             \
  namespace baseline {                        \
  void name arguments;                        \
  }                                           \
  }
#define ENTANGLE_CPU_ADDRESSES(name) &cpu::baseline::name
#endif

#define KERNEL(name, arguments)                                                                              \
  ENTANGLE_DECLARE_CPU(name, arguments)                                                                      \
  ENTANGLE_DECLARE_GPU(name, arguments)                                                                      \
  namespace kernels {                                                                                        \
  inline const Kernel<void arguments> name(#name, ENTANGLE_GPU_ADDRESS(name), ENTANGLE_CPU_ADDRESSES(name)); \
  }

#endif  // ENTANGLE_ISA
