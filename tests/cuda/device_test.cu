// The device functions of cuda/device.cuh and cuda/bf16.cuh, on a GPU or emulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cuda/bf16.cuh"
#include "cuda/device.cuh"
#include "engine/device.h"
#include "engine/rng.h"
#include "engine/tensor.h"

namespace entangle::gpu {
namespace {

#define SKIP_WITHOUT_CUDA() \
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda()

std::vector<float> random_values(int64_t n, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(rng.uniform(-1, 1)));
  return values;
}

__global__ void reductions_kernel(const float* x, float* warp_sums, float* warp_maxima, float* block_sums) {
  Shared shared;
  float* scratch = shared.take<float>(warps_in_block());
  const float value = x[blockIdx.x * blockDim.x + threadIdx.x];
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  warp_sums[i] = warp_sum(value);
  warp_maxima[i] = warp_max(value);
  block_sums[i] = block_sum(value, scratch);
}

TEST(Device, ReductionsReachEveryThread) {
  SKIP_WITHOUT_CUDA();
  constexpr int kBlock = 96, kBlocks = 3, kAll = kBlock * kBlocks;
  const std::vector<float> x = random_values(kAll, 1);
  const Tensor in = Tensor::from({kAll}, x, DeviceKind::cuda);
  std::vector<Tensor> out;
  for (int i = 0; i < 3; ++i) out.push_back(Tensor::empty({kAll}, DeviceKind::cuda));
  LAUNCH(reductions_kernel, kBlocks, kBlock, shared_bytes<float>(kBlock / kWarp), stream(), in.data(), out[0].data(),
         out[1].data(), out[2].data());
  const std::vector<float> sums = out[0].to_vector(), maxima = out[1].to_vector(), block_sums = out[2].to_vector();
  for (int i = 0; i < kAll; ++i) {
    double warp = 0, block = 0;
    float largest = -1;
    for (int j = i / kWarp * kWarp; j < (i / kWarp + 1) * kWarp; ++j) {
      warp += x[static_cast<size_t>(j)];
      largest = std::max(largest, x[static_cast<size_t>(j)]);
    }
    for (int j = i / kBlock * kBlock; j < (i / kBlock + 1) * kBlock; ++j) block += x[static_cast<size_t>(j)];
    const size_t at = static_cast<size_t>(i);
    EXPECT_NEAR(sums[at], warp, 1e-5);
    EXPECT_EQ(maxima[at], largest);
    EXPECT_NEAR(block_sums[at], block, 1e-5);
    EXPECT_EQ(sums[at], sums[at / kWarp * kWarp]) << "all lanes hold the same bits";
    EXPECT_EQ(block_sums[at], block_sums[at / kBlock * kBlock]);
  }
}

TEST(Device, Bf16RoundsToNearestEven) {
  const auto round_trip = [](float value) { return to_float(to_bf16(value)); };
  EXPECT_EQ(round_trip(1.0f), 1.0f);
  EXPECT_EQ(round_trip(1.0f + 0x1p-8f), 1.0f);            // half way: to even
  EXPECT_EQ(round_trip(1.0f + 0x3p-8f), 1.0f + 0x4p-8f);  // half way: to even
  EXPECT_EQ(round_trip(1.0f + 0x1.01p-8f), 1.0f + 0x1p-7f);
  EXPECT_EQ(round_trip(-3.0e38f), -0x1.c4p127f);
  EXPECT_TRUE(std::isinf(round_trip(3.4e38f)));
  EXPECT_TRUE(std::isnan(round_trip(NAN)));
}

// One tile: D [16, 8] = A [16, 16] B [16, 8] + C, each lane gathering its fragments by the layout in cuda/bf16.cuh.
__global__ void mma_kernel(const float* a, const float* b, const float* c, float* d) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  FragmentA fragment_a;
  for (int word = 0; word < 4; ++word) {
    const float* at = a + (g + word % 2 * 8) * 16 + 2 * t + word / 2 * 8;
    fragment_a.word[word] = pack_bf16(at[0], at[1]);
  }
  FragmentB fragment_b;
  for (int word = 0; word < 2; ++word) {
    const float* at = b + (2 * t + word * 8) * 8 + g;
    fragment_b.word[word] = pack_bf16(at[0], at[8]);
  }
  FragmentC fragment_c;
  for (int i = 0; i < 4; ++i) fragment_c.value[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  const FragmentC result = mma_m16n8k16(fragment_a, fragment_b, fragment_c);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = result.value[i];
}

TEST(Device, TensorCoreTileIsAProduct) {
  SKIP_WITHOUT_CUDA();
  const std::vector<float> a = random_values(16 * 16, 2), b = random_values(16 * 8, 3), c = random_values(16 * 8, 4);
  const Tensor da = Tensor::from({16, 16}, a, DeviceKind::cuda), db = Tensor::from({16, 8}, b, DeviceKind::cuda);
  const Tensor dc = Tensor::from({16, 8}, c, DeviceKind::cuda), dd = Tensor::empty({16, 8}, DeviceKind::cuda);
  LAUNCH(mma_kernel, 1, kWarp, 0, stream(), da.data(), db.data(), dc.data(), dd.data());
  const std::vector<float> d = dd.to_vector();
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      double want = c[i * 8 + j], scale = std::fabs(want);
      for (size_t k = 0; k < 16; ++k) {
        const double product = double(to_float(to_bf16(a[i * 16 + k]))) * to_float(to_bf16(b[k * 8 + j]));
        want += product;
        scale += std::fabs(product);
      }
      // 17 fp32 additions; the hardware truncates where it aligns.
      EXPECT_NEAR(d[i * 8 + j], want, 17 * 0x1p-23 * scale) << i << ", " << j;
    }
  }
}

// d[form] = op(A) op(B) of two 16 x 16 tiles in shared memory, form 2 i + k: A transposed when i, B when k. Rows are
// kPitch elements apart.
constexpr int kPitch = 24;

__global__ void shared_tiles_kernel(const float* a, const float* b, float* d) {
  Shared shared;
  bf16 *tile_a = shared.take<bf16>(16 * kPitch), *tile_b = shared.take<bf16>(16 * kPitch);
  for (int i = lane_index(); i < 256; i += kWarp) {
    tile_a[i / 16 * kPitch + i % 16] = to_bf16(a[i]);
    tile_b[i / 16 * kPitch + i % 16] = to_bf16(b[i]);
  }
  __syncwarp();
  for (int form = 0; form < 4; ++form) {
    const FragmentA fragment = form / 2 == 0 ? load_a(tile_a, kPitch) : load_a_transposed(tile_a, kPitch);
    const FragmentPairB pair = form % 2 == 0 ? load_b(tile_b, kPitch) : load_b_transposed(tile_b, kPitch);
    FragmentC left = {}, right = {};
    multiply_add(fragment, pair, left, right);
    float* to = d + form * 256 + lane_index() / 4 * 16 + lane_index() % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      to[i / 2 * 8 * 16 + i % 2] = left.value[i];
      to[i / 2 * 8 * 16 + i % 2 + 8] = right.value[i];
    }
  }
}

TEST(Device, TilesOfSharedMemoryAreFactors) {
  SKIP_WITHOUT_CUDA();
  std::vector<float> a, b;  // small integers: exact
  for (int i = 0; i < 256; ++i) {
    a.push_back(static_cast<float>(i * 37 % 101 - 50));
    b.push_back(static_cast<float>(i * 53 % 97 - 48));
  }
  const Tensor da = Tensor::from({16, 16}, a, DeviceKind::cuda), db = Tensor::from({16, 16}, b, DeviceKind::cuda);
  const Tensor dd = Tensor::empty({4, 16, 16}, DeviceKind::cuda);
  LAUNCH(shared_tiles_kernel, 1, kWarp, 2 * shared_bytes<bf16>(16 * kPitch), stream(), da.data(), db.data(), dd.data());
  const std::vector<float> d = dd.to_vector();
  for (size_t form = 0; form < 4; ++form) {
    for (size_t i = 0; i < 16; ++i) {
      for (size_t j = 0; j < 16; ++j) {
        float want = 0;
        for (size_t k = 0; k < 16; ++k) {
          want += a[form / 2 == 0 ? i * 16 + k : k * 16 + i] * b[form % 2 == 0 ? k * 16 + j : j * 16 + k];
        }
        EXPECT_EQ(d[form * 256 + i * 16 + j], want) << "form " << form << ", " << i << ", " << j;
      }
    }
  }
}

}  // namespace
}  // namespace entangle::gpu
