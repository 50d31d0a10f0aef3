// A PyTorch checkpoint in either format: the archive, the pickles, every tensor's values.
#include "engine/torch_checkpoint.h"

#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

FUZZ_TARGET(torch_checkpoint) {
  using namespace entangle;
  static const int file = memfd_create("torch_checkpoint", MFD_CLOEXEC);
  fuzz_require(file >= 0 && ftruncate(file, 0) == 0, "there is a file in memory");
  fuzz_require(pwrite(file, bytes, size, 0) == static_cast<ssize_t>(size), "it can be written");
  const TorchCheckpoint read(concat("/proc/self/fd/", file));
  for (const auto& [name, entry] : read.tensors()) {
    fuzz_require(entry.end <= size, "no tensor is larger than the file");
    fuzz_require(read.read_bytes(name).size() == entry.end, "tensors are whole");
    const bool floats = entry.dtype == "F32" || entry.dtype == "F16" || entry.dtype == "BF16" || entry.dtype == "F64";
    if (floats) fuzz_require(read.read_f32(name).size() == static_cast<size_t>(entry.count()), "every value is read");
  }
}
