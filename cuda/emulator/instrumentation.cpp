// What the compiler's instrumentation of .cu files calls: before each load and store, and in place of atomic operations.
#include "cuda/emulator/watch.h"

#if !defined(__SANITIZE_ADDRESS__)

using entangle::emulator::Touch;
using entangle::emulator::touch;

#define WATCH(name, bytes, kind) \
  void __tsan_##name(const void* memory) { touch(memory, bytes, Touch::kind, __builtin_return_address(0)); }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
WATCH(read1, 1, read)
WATCH(read2, 2, read)
WATCH(read4, 4, read)
WATCH(read8, 8, read)
WATCH(read16, 16, read)
WATCH(write1, 1, write)
WATCH(write2, 2, write)
WATCH(write4, 4, write)
WATCH(write8, 8, write)
WATCH(write16, 16, write)
WATCH(unaligned_read2, 2, read)
WATCH(unaligned_read4, 4, read)
WATCH(unaligned_read8, 8, read)
WATCH(unaligned_read16, 16, read)
WATCH(unaligned_write2, 2, write)
WATCH(unaligned_write4, 4, write)
WATCH(unaligned_write8, 8, write)
WATCH(unaligned_write16, 16, write)
void __tsan_read_range(const void* memory, size_t bytes) {
  touch(memory, bytes, Touch::read, __builtin_return_address(0));
}
void __tsan_write_range(const void* memory, size_t bytes) {
  touch(memory, bytes, Touch::write, __builtin_return_address(0));
}
}

// The host's code in a .cu file (reference counts, guards of statics) has its atomic operations replaced, too.
#define ATOMICS(bits, T)                                                                                            \
  T __tsan_atomic##bits##_load(const volatile T* a, int) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##bits##_store(volatile T* a, T v, int) { __atomic_store_n(a, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##bits##_exchange(volatile T* a, T v, int) { return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_add(volatile T* a, T v, int) { return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_sub(volatile T* a, T v, int) { return __atomic_fetch_sub(a, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_and(volatile T* a, T v, int) { return __atomic_fetch_and(a, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_or(volatile T* a, T v, int) { return __atomic_fetch_or(a, v, __ATOMIC_SEQ_CST); }   \
  T __tsan_atomic##bits##_fetch_xor(volatile T* a, T v, int) { return __atomic_fetch_xor(a, v, __ATOMIC_SEQ_CST); } \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* a, T* expected, T v, int, int) {                    \
    return __atomic_compare_exchange_n(a, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                  \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* a, T* expected, T v, int, int) {                      \
    return __atomic_compare_exchange_n(a, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
  }

extern "C" {
ATOMICS(8, unsigned char)
ATOMICS(16, unsigned short)
ATOMICS(32, unsigned)
ATOMICS(64, unsigned long long)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
}

#endif
