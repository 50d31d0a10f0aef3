// A persistent pool of threads and the scratch memory that kernels use.
//
// Work is split by the caller's own chunk count, never by the number of threads, so results do not depend on it.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace entangle {

// Sets how many threads run parallel work, the caller included. 0 means every core. Throws Error when n is
// negative, above 16 and four times the cores, or more than the system allows. Not to be called from inside parallel work.
void set_threads(int n);
int threads();

// Runs body(context, chunk) for every chunk in [0, chunks) and returns when all are done. Chunks are handed out in
// ascending order to whichever thread is free. Nested calls run serially. The first exception is rethrown here.
void run_chunks(int64_t chunks, void (*body)(const void* context, int64_t chunk), const void* context);

// The same for a callable. `static`: each translation unit keeps its own copy, which the one-definition rule demands of
// files compiled per instruction set.
template <class F>
static inline void parallel_for(int64_t chunks, const F& f) {
  run_chunks(
      chunks, [](const void* context, int64_t chunk) { (*static_cast<const F*>(context))(chunk); }, &f);
}

// Scratch memory of the calling thread, 64-byte aligned, at least `bytes` large, contents undefined. One buffer per
// slot; a buffer only grows. A kernel that hands its scratch to parallel work passes the pointer: workers have their
// own.
enum class Scratch { packed, partial, tile, rows, attention };
void* scratch(Scratch slot, size_t bytes);

}  // namespace entangle
