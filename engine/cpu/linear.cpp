// Linear layers on strided weight slices; the products are in linear.h.
#include "engine/cpu/linear.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// y[r, :] (+)= x[r, :] W (+ bias) for all rows, a block of them at a time.
template <class P>
static void multiply_rows(int64_t rows, const float* x, const PackedWeight<P>& w, float* y, bool add) {
  parallel_for(chunks_of(rows, kRowBlock), [&](int64_t chunk) {
    const int64_t first = chunk * kRowBlock;
    multiply_block(min_of(kRowBlock, rows - first), x + first * w.depth, w, y + first * w.columns, add);
  });
}

template <class P>
static void forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  void* memory = scratch(Scratch::packed, PackedWeight<P>::bytes(s.in, s.groups * s.out));
  multiply_rows(s.rows, x, pack_forward<P>(s, w, b, memory), y, false);
}

template <class P>
static void backward(const LinearShape& s, const float* x, const float* w, const float* dy, float* dx, bool add,
                     float* dw, float* db) {
  if (dw != nullptr) accumulate_weight_gradient<P>(s, x, dy, dw, db);
  if (dx == nullptr) return;
  void* memory = scratch(Scratch::packed, PackedWeight<P>::bytes(s.groups * s.out, s.in));
  multiply_rows(s.rows, dy, pack_backward<P>(s, w, memory), dx, add);
}

void linear_forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  s.precision == Precision::bf16 ? forward<Bf16>(s, x, w, b, y) : forward<Fp32>(s, x, w, b, y);
}

void linear_backward(const LinearShape& s, const float* x, const float* w, const float* dy, float* dx, bool add,
                     float* dw, float* db) {
  (s.precision == Precision::bf16 ? backward<Bf16> : backward<Fp32>)(s, x, w, dy, dx, add, dw, db);
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
