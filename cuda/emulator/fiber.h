// Fibres: the stacks that the threads of an emulated block run on, switched by hand. A scheduler enters a fibre, the
// fibre leaves back to it; fibres never enter each other. One host thread at a time runs them.
#pragma once

#include <cstddef>

namespace entangle::emulator {

class Fiber {
 public:
  Fiber();  // maps a stack with an inaccessible page below it: an overflow of the stack is a fault, not a neighbour's
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next enter() starts `run` from its beginning, whatever this fibre was in the middle of.
  void restart(void (*run)());
  // On the scheduler: runs the fibre until it leaves or `run` returns.
  void enter();
  // On the fibre: back to who entered it. With `last`, it is not entered again before restart().
  void leave(bool last = false);

  const char* stack() const { return stack_; }
  static size_t stack_bytes();

 private:
  static void main();

  struct Context;
  Context* context_;
  char* stack_;  // above the inaccessible page
  void (*run_)() = nullptr;
};

}  // namespace entangle::emulator
