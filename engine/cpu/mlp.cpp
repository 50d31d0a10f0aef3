// Two linear layers with GELU between them, a block of rows at a time: the hidden activations of a block are multiplied
// by the second weight, or their gradient by the first, while they are in the L2 cache.
#include "engine/cpu/gelu.h"
#include "engine/cpu/linear.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// Rows of a block whose hidden activations take a quarter of a megabyte.
static inline int64_t block_rows(int64_t hidden) {
  const int64_t fit = 65536 / hidden / kRows * kRows;
  return max_of(kRows, min_of(kRowBlock, fit));
}

static inline float* block_scratch(int64_t rows, int64_t hidden) {
  return static_cast<float*>(scratch(Scratch::rows, static_cast<size_t>(2 * rows * hidden) * sizeof(float)));
}

template <class P>
static void forward(const LinearShape& first, const LinearShape& second, const float* x, const float* w1,
                    const float* b1, const float* w2, const float* b2, float* h, float* y) {
  const int64_t hidden = first.out, block = block_rows(hidden);
  const size_t bytes = PackedWeight<P>::bytes(first.in, hidden);
  char* memory = static_cast<char*>(scratch(Scratch::packed, bytes + PackedWeight<P>::bytes(hidden, second.out)));
  const PackedWeight<P> one = pack_forward<P>(first, w1, b1, memory);
  const PackedWeight<P> two = pack_forward<P>(second, w2, b2, memory + bytes);
  parallel_for(chunks_of(first.rows, block), [&](int64_t chunk) {
    const int64_t row = chunk * block, rows = min_of(block, first.rows - row);
    float* activations = block_scratch(block, hidden);
    float* before = h == nullptr ? activations + block * hidden : h + row * hidden;
    multiply_block(rows, x + row * first.in, one, before, false);
    for_vectors(rows * hidden, [&](int64_t i, int64_t n) {
      const vec in = load_some(before + i, n);
      store_some(activations + i, in * normal_distribution(in).cumulative, n);
    });
    multiply_block(rows, activations, two, y + row * second.out, false);
  });
}

// h becomes its gradient, a what GELU made of it.
template <class P>
static void backward_rows(const LinearShape& first, const LinearShape& second, bool recompute, const float* x,
                          const float* w1, const float* b1, const float* w2, float* h, float* a, const float* dy,
                          float* dx, bool add) {
  const int64_t hidden = first.out, block = block_rows(hidden);
  const size_t outer = PackedWeight<P>::bytes(second.out, hidden), inner = PackedWeight<P>::bytes(hidden, first.in);
  char* memory = static_cast<char*>(
      scratch(Scratch::packed, outer + inner + (recompute ? PackedWeight<P>::bytes(first.in, hidden) : 0)));
  const PackedWeight<P> two = pack_backward<P>(second, w2, memory);
  const PackedWeight<P> one = pack_backward<P>(first, w1, memory + outer);
  const PackedWeight<P> again = recompute ? pack_forward<P>(first, w1, b1, memory + outer + inner) : one;
  parallel_for(chunks_of(first.rows, block), [&](int64_t chunk) {
    const int64_t row = chunk * block, rows = min_of(block, first.rows - row);
    float *gradient = block_scratch(block, hidden), *in_out = h + row * hidden, *activations = a + row * hidden;
    if (recompute) multiply_block(rows, x + row * first.in, again, in_out, false);
    multiply_block(rows, dy + row * second.out, two, gradient, false);
    for_vectors(rows * hidden, [&](int64_t i, int64_t n) {
      const vec in = load_some(in_out + i, n);
      const NormalDistribution normal = normal_distribution(in);
      store_some(activations + i, in * normal.cumulative, n);
      store_some(in_out + i, load_some(gradient + i, n) * gelu_slope(in, normal), n);
    });
    if (dx != nullptr) multiply_block(rows, in_out, one, dx + row * first.in, add);
  });
}

template <class P>
static void backward(const LinearShape& first, const LinearShape& second, bool recompute, const float* x,
                     const float* w1, const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx,
                     bool add, float* dw1, float* db1, float* dw2, float* db2) {
  backward_rows<P>(first, second, recompute, x, w1, b1, w2, h, a, dy, dx, add);
  accumulate_weight_gradient<P>(second, a, dy, dw2, db2);
  accumulate_weight_gradient<P>(first, x, h, dw1, db1);
}

void mlp_forward(const LinearShape& first, const LinearShape& second, const float* x, const float* w1, const float* b1,
                 const float* w2, const float* b2, float* h, float* y) {
  const bool bf16 = first.precision == Precision::bf16;
  (bf16 ? forward<Bf16> : forward<Fp32>)(first, second, x, w1, b1, w2, b2, h, y);
}

void mlp_backward(const LinearShape& first, const LinearShape& second, bool recompute, const float* x, const float* w1,
                  const float* b1, const float* w2, float* h, float* a, const float* dy, float* dx, bool add,
                  float* dw1, float* db1, float* dw2, float* db2) {
  const bool bf16 = first.precision == Precision::bf16;
  (bf16 ? backward<Bf16> : backward<Fp32>)(first, second, recompute, x, w1, b1, w2, h, a, dy, dx, add, dw1, db1, dw2,
                                           db2);
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle
