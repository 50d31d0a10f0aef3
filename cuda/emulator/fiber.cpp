// Switching stacks. On x86-64 a switch saves the six registers that a callee must keep and exchanges the stack pointer,
// a few nanoseconds; elsewhere ucontext does it, with a system call for the signal mask each time.
#include "cuda/emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "engine/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace entangle::emulator {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = size_t{256} << 10;  // red zones make frames several times larger
#else
constexpr size_t kStackBytes = size_t{64} << 10;
#endif

Fiber* running = nullptr;  // the fibre that was entered last

#if defined(__SANITIZE_ADDRESS__)
const void* outer_stack = nullptr;  // the scheduler's, as the sanitizer reports it
size_t outer_bytes = 0;
#endif

}  // namespace

#if defined(__x86_64__)

extern "C" void entangle_switch_stack(void** save, void* to);
asm(R"(
.text
.globl entangle_switch_stack
.type entangle_switch_stack, @function
entangle_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size entangle_switch_stack, . - entangle_switch_stack
)");

struct Fiber::Context {
  void *fiber = nullptr, *scheduler = nullptr;  // stack pointers
  void* fake_stack = nullptr;                   // AddressSanitizer's

  // What the first switch pops: six registers and the address of `entry`. A function starts with its stack pointer 8
  // bytes below a multiple of 16.
  void start(char* stack, void (*entry)()) {
    uintptr_t* top = reinterpret_cast<uintptr_t*>(stack + kStackBytes);
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
    fiber = top;
  }
  void to_fiber() { entangle_switch_stack(&scheduler, fiber); }
  void to_scheduler() { entangle_switch_stack(&fiber, scheduler); }
};

#else

struct Fiber::Context {
  ucontext_t fiber = {}, scheduler = {};
  void* fake_stack = nullptr;

  void start(char* stack, void (*entry)()) {
    getcontext(&fiber);
    fiber.uc_stack.ss_sp = stack;
    fiber.uc_stack.ss_size = kStackBytes;
    fiber.uc_link = nullptr;
    makecontext(&fiber, entry, 0);
  }
  void to_fiber() { swapcontext(&scheduler, &fiber); }
  void to_scheduler() { swapcontext(&fiber, &scheduler); }
};

#endif

Fiber::Fiber() : context_(new Context) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, page + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED, "no memory for the stack of an emulated thread (", kStackBytes, " bytes)");
  mprotect(memory, page, PROT_NONE);
  stack_ = static_cast<char*>(memory) + page;
}

Fiber::~Fiber() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  munmap(stack_ - page, page + kStackBytes);
  delete context_;
}

size_t Fiber::stack_bytes() { return kStackBytes; }

void Fiber::restart(void (*run)()) {
  run_ = run;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);  // frames that a fault abandoned
#endif
  context_->start(stack_, &Fiber::main);
}

void Fiber::main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &outer_stack, &outer_bytes);
#endif
  running->run_();
  running->leave(true);
}

void Fiber::enter() {
  running = this;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
  context_->to_fiber();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::leave([[maybe_unused]] bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &context_->fake_stack, outer_stack, outer_bytes);
#endif
  context_->to_scheduler();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(context_->fake_stack, &outer_stack, &outer_bytes);
#endif
}

}  // namespace entangle::emulator
