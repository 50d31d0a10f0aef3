// Entry points of the fuzzer, one file each: FUZZ_TARGET(name) { ... bytes, size ... } in name.cpp.
//
// A target reads the bytes as a file of its kind. Error is a right answer; any other exception, a sanitizer's report, or a
// message that is not one line of text is a fault. tests/fuzz/run.sh builds each with libFuzzer; the ordinary tests run all
// of them over the files in corpus/NAME.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "engine/check.h"

namespace entangle {

using FuzzTarget = void (*)(const uint8_t* bytes, size_t size);

inline std::map<std::string, FuzzTarget>& fuzz_targets() {
  static std::map<std::string, FuzzTarget> targets;
  return targets;
}

// Whether the bytes were taken without Error. Ends the process at a fault.
inline bool run_fuzz_target(FuzzTarget target, const uint8_t* bytes, size_t size) {
  try {
    target(bytes, size);
    return true;
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const char c : message) {
      const bool text = static_cast<unsigned char>(c) >= 0x20 && c != 0x7F;
      if (!text) std::fprintf(stderr, "not one line of text: %s\n", message.c_str()), std::abort();
    }
    return false;
  }
}

// For what must hold of all that is taken.
inline void fuzz_require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace entangle

#if defined(ENTANGLE_FUZZ)
#define FUZZ_ENTRY(name)                                                     \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) { \
    return entangle::run_fuzz_target(name, bytes, size), 0;                  \
  }
#else
#define FUZZ_ENTRY(name) \
  [[maybe_unused]] static const bool registered = entangle::fuzz_targets().emplace(#name, name).second;
#endif
#define FUZZ_TARGET(name)                              \
  static void name(const uint8_t* bytes, size_t size); \
  FUZZ_ENTRY(name)                                     \
  static void name(const uint8_t* bytes, size_t size)
