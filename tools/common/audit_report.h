// What an audit of the kernels found (tests/ops/audit.h), as text, JSON and one page of HTML.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace entangle {

// "file:line" of a kernel's definition on the processor and on a GPU; made by tools/common/list_kernel_sources.sh.
struct KernelSource {
  std::string kernel, cpu, gpu;
};
const std::vector<KernelSource>& kernel_sources();

// A kernel at one place: an instruction-set path of the processor, or a GPU.
struct AuditedPlace {
  std::string place;
  std::vector<std::string> faults;  // none: the kernel is right there
  int64_t compared = 0;             // elements, with the double reference
  double error = 0, allowed = 0;    // of the element whose error is the largest part of what it may be
  int64_t differences = 0;          // finite differences of the reference, for a gradient
  double difference = 0;            // the largest, as part of the largest gradient
  int64_t reruns = 0, differing = 0;
  std::string variations;  // what had to give the same bits
  double seconds = 0;      // of a call at the size of T's largest subnet with four images; 0: not timed
  double percent = 0;      // of what the ceilings allow for the counted operations and bytes
  std::string resources;   // of a GPU
};

struct AuditedKernel {
  std::string name, formula;
  KernelSource source;
  std::vector<std::string> rows, faults;  // faults: whatever the place
  int64_t flops = 0, bytes = 0;           // of the call that is timed
  std::vector<AuditedPlace> places;

  bool right() const;
};

struct AuditedCeiling {
  std::string place;
  double gflops = 0, copy = 0;  // GFLOP/s and GB/s
};

struct Audit {
  int threads = 0;  // while timing
  std::vector<AuditedCeiling> ceilings;
  std::vector<AuditedKernel> kernels;

  bool right() const;
};

std::string audit_text(const Audit& audit);
std::string audit_json(const Audit& audit);
std::string audit_html(const Audit& audit);  // needs no other file

}  // namespace entangle
