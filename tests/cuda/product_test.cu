// Products with strides and alignments that no operation of the registry asks for, on a GPU or emulated: among them
// those for which cuBLASLt has no kernel.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "cuda/bf16.cuh"
#include "cuda/product.h"
#include "engine/device.h"
#include "engine/rng.h"

namespace entangle::gpu {
namespace {

// A batch of matrices on the device and, as the product sees them, on the host.
struct Matrices {
  Matrices(int64_t batch, int64_t rows, int64_t row, bool half, uint64_t seed)
      : memory(batch * rows * row * (half ? 1 : 2)),
        operand{memory.data(), half ? CUDA_R_16BF : CUDA_R_32F, row, rows * row, false} {
    Rng rng(seed, Stream::synthetic);
    std::vector<bf16> halves;
    for (int64_t i = 0; i < batch * rows * row; ++i) {
      const float value = static_cast<float>(rng.uniform(-1, 1));
      halves.push_back(to_bf16(value));
      values.push_back(half ? to_float(halves.back()) : value);
    }
    const void* source = half ? static_cast<const void*>(halves.data()) : values.data();
    copy_bytes(values.size() * (half ? 2 : 4), source, DeviceKind::cpu, memory.data(), DeviceKind::cuda);
  }
  double at(int64_t batch, int64_t i, int64_t j) const {
    if (operand.transposed) std::swap(i, j);
    return values[static_cast<size_t>(batch * operand.batch + i * operand.row + j)];
  }

  Workspace<bf16> memory;
  std::vector<float> values;
  Operand operand;
};

struct Sizes {
  int64_t batch, m, n, k, pad;
  bool half, transpose_a, transpose_b, add, bias;
};

void expect_product(const Sizes& s) {
  Matrices a(s.batch, s.transpose_a ? s.k : s.m, (s.transpose_a ? s.m : s.k) + s.pad, s.half, 1);
  Matrices b(s.batch, s.transpose_b ? s.n : s.k, (s.transpose_b ? s.k : s.n) + s.pad, s.half, 2);
  Matrices c(s.batch, s.m, s.n + s.pad, false, 3), bias(s.batch, 1, s.n, false, 4);
  a.operand.transposed = s.transpose_a;
  b.operand.transposed = s.transpose_b;
  float* result = reinterpret_cast<float*>(c.memory.data());
  Product p = {s.batch, s.m, s.n, s.k, a.operand, b.operand, result, c.operand.row, c.operand.batch, s.add};
  if (s.bias) p.bias = static_cast<const float*>(bias.operand.data);
  p.bias_batch = bias.operand.batch;
  multiply(p);
  std::vector<float> got(c.values.size());
  copy_floats(static_cast<int64_t>(got.size()), result, DeviceKind::cuda, got.data(), DeviceKind::cpu);
  for (int64_t batch = 0; batch < s.batch; ++batch) {
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n + s.pad; ++j) {
        const size_t at = static_cast<size_t>(batch * c.operand.batch + i * c.operand.row + j);
        double want = s.add || j >= s.n ? c.values[at] : 0, scale = std::fabs(want);
        for (int64_t k = 0; k < s.k && j < s.n; ++k) {
          want += a.at(batch, i, k) * b.at(batch, k, j);
          scale += std::fabs(a.at(batch, i, k) * b.at(batch, k, j));
        }
        if (s.bias && j < s.n) want += bias.at(batch, 0, j);
        ASSERT_NEAR(got[at], want, j < s.n ? 1e-6 * (scale + 1) : 0) << batch << ", " << i << ", " << j;
      }
    }
  }
}

TEST(Product, AnyStridesAndAlignments) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  for (const bool half : {false, true}) {
    for (const bool add : {false, true}) {
      for (const bool transpose_a : {false, true}) {
        for (const bool transpose_b : {false, true}) {
          expect_product({1, 5, 7, 9, 0, half, transpose_a, transpose_b, add, !add});
          expect_product({3, 16, 24, 32, 0, half, transpose_a, transpose_b, add, !add});
          expect_product({2, 33, 17, 41, 3, half, transpose_a, transpose_b, add, !add});
        }
      }
    }
  }
}

// The same sizes with other addresses and another bias: the plan that was kept must not hold on to the first ones.
TEST(Product, PlansHoldNoAddress) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  std::vector<std::unique_ptr<Workspace<float>>> between;
  for (int i = 0; i < 3; ++i) {
    expect_product({2, 8, 8, 8, 0, false, false, true, false, true});
    between.push_back(std::make_unique<Workspace<float>>(16));  // takes a place that was given back
  }
}

}  // namespace
}  // namespace entangle::gpu
