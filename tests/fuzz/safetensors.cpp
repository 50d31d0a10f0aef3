// A safetensors file: its header, and every tensor's values.
#include "engine/safetensors.h"

#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

FUZZ_TARGET(safetensors) {
  using namespace entangle;
  static const int file = memfd_create("safetensors", MFD_CLOEXEC);
  fuzz_require(file >= 0 && ftruncate(file, 0) == 0, "there is a file in memory");
  fuzz_require(pwrite(file, bytes, size, 0) == static_cast<ssize_t>(size), "it can be written");
  const SafetensorsFile read(concat("/proc/self/fd/", file));
  for (const auto& [name, entry] : read.tensors()) {
    fuzz_require(read.read_bytes(name).size() == entry.end - entry.begin, "tensors are whole");
    const bool floats = entry.dtype == "F32" || entry.dtype == "F16" || entry.dtype == "BF16" || entry.dtype == "F64";
    if (floats) fuzz_require(read.read_f32(name).size() == static_cast<size_t>(entry.count()), "every value is read");
  }
}
