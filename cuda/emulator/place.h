// From an address in the program's code to a line of its source.
#pragma once

#include <cstdint>
#include <string>

namespace entangle::emulator {

// Of the call that returns to `pc`: "cuda/device.cuh:139, called at cuda/cross_entropy.cu:48", as the debug information
// and addr2line of binutils tell; without them where in the program it is.
std::string text_of_place(uintptr_t pc);

}  // namespace entangle::emulator
