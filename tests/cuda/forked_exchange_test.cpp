// Gradients on emulated GPUs, exchanged between processes over NCCL.
#if defined(ENTANGLE_CUDA_EMULATED)

#include <gtest/gtest.h>
#include <nccl.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/bf16.h"
#include "engine/device.h"
#include "engine/gradient_exchange.h"
#include "engine/rng.h"
#include "tests/cuda/forked_ranks.h"

namespace entangle {
namespace {

constexpr int64_t kRows = 200, kColumns = 170, kSeen = 160, kCount = kRows * kSeen;

// Of shard (or rank) s; some nearly cancel, and some are much larger than others.
float gradient_of(int shard, int64_t i) {
  const RngKey key = rng_key(3, Stream::synthetic, static_cast<uint64_t>(shard));
  const float x = rng_uniform(key, static_cast<uint64_t>(i)) - 0.5f;
  return i % 3 == 0 && shard == 1 ? -gradient_of(0, i) : i % 5 == 0 ? 1e4f * x : x;
}

// A parameter of whose columns a view leaves out the last ones.
struct Weight {
  explicit Weight(DeviceKind device) : whole(Tensor::zeros({kRows, kColumns}, device).set_requires_grad()) {
    views = {{whole.slice(1, 0, kSeen), 0}};
  }
  void set(int shard) {
    std::vector<float> values(static_cast<size_t>(kRows * kColumns), 7.0f);
    for (int64_t i = 0; i < kCount; ++i) {
      values[static_cast<size_t>(i / kSeen * kColumns + i % kSeen)] = gradient_of(shard, i);
    }
    copy_floats(kRows * kColumns, values.data(), DeviceKind::cpu, whole.grad(), whole.device());
  }
  // The view's, and behind them a number that is none of it.
  std::vector<float> result() const {
    std::vector<float> values = views[0].view.grad_to_vector();
    values.push_back(whole.grad_to_vector().back());
    return values;
  }
  Tensor whole;
  std::vector<TapedView> views;
};

std::vector<float> mean_of(Communicator& ranks, Precision wire) {
  Weight weight(DeviceKind::cuda);
  weight.set(ranks.rank());
  GradientExchange exchange(ranks, wire);
  exchange.begin(weight.views);
  exchange.finish();
  ranks.settle_sums();
  std::vector<float> result = weight.result();
  result.push_back(static_cast<float>(exchange.bytes()));
  return result;
}

// Within the bound of engine/gradient_exchange.h for sums of R numbers whose additions are rounded to a unit u; and the bits
// that plain loops find in the order of the emulated NCCL.
void expect_means(Precision wire) {
  const bool rounded = wire == Precision::bf16;
  for (const int size : {2, 3, 4}) {
    const auto results = ForkedRanks::run(size, [&](Communicator& ranks) { return mean_of(ranks, wire); });
    for (const auto& result : results) ASSERT_EQ(result, results[0]) << size;
    ASSERT_EQ(results[0].size(), static_cast<size_t>(kCount) + 2);
    const double u = rounded ? 0x1p-8 : 0x1p-24, allowed = std::pow(1 + u, size) - 1 + 0x1p-22;  // the factor's, too
    double largest = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      const float got = results[0][static_cast<size_t>(i)];
      double mean = 0, sizes = 0;
      float sum = 0;
      for (int rank = 0; rank < size; ++rank) {
        const float g = gradient_of(rank, i);
        mean += static_cast<double>(g) / size;
        sizes += std::fabs(static_cast<double>(g)) / size;
        sum = rounded ? from_bf16(to_bf16(sum + from_bf16(to_bf16(g)))) : sum + g;
      }
      ASSERT_EQ(got, sum * (1.0f / static_cast<float>(size))) << size << ", " << i;
      ASSERT_LE(std::fabs(got - mean), allowed * sizes) << size << ", " << i;
      largest = std::max(largest, std::fabs(got - mean) / sizes);
    }
    EXPECT_GT(largest, u / 2) << "something is rounded";
    EXPECT_EQ(results[0][kCount], 7.0f) << "outside of the view";
    EXPECT_EQ(results[0][kCount + 1], (rounded ? 2 : 4) * kCount) << "bytes";
  }
}

TEST(ForkedExchange, TheMeanIsThatOfAllRanks) { expect_means(Precision::fp32); }

TEST(ForkedExchange, OnABf16WireTheMeanIsWithinItsBoundInHalfTheBytes) { expect_means(Precision::bf16); }

std::vector<float> tree_of(Communicator& ranks, DeviceKind device, int shards) {
  Weight weight(device);
  GradientTree tree(ranks, shards);
  const int own = shards / ranks.size();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < own; ++i) {
      weight.set(ranks.rank() * own + i);
      tree.add(weight.views);
    }
    tree.finish(weight.views);
    ranks.settle_sums();
  }
  std::vector<float> result = weight.result();
  result.push_back(static_cast<float>(tree.bytes()));
  return result;
}

// The bits that one process finds, on a GPU or on the processor.
TEST(ForkedExchange, ATreeHasTheSameBitsForAnyNumberOfRanks) {
  SingleProcess alone;
  std::vector<float> want = tree_of(alone, DeviceKind::cpu, 8);
  EXPECT_EQ(want.back(), 0);
  want.pop_back();
  int64_t others = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    float in_a_row = 0;
    for (int shard = 0; shard < 8; ++shard) in_a_row += gradient_of(shard, i);
    others += in_a_row / 8 != want[static_cast<size_t>(i)];
  }
  ASSERT_GT(others, kCount / 100) << "the order matters";
  for (const int size : {1, 2, 4, 8}) {
    auto results = ForkedRanks::run(size, [](Communicator& ranks) { return tree_of(ranks, DeviceKind::cuda, 8); });
    int rounds = 0;
    while (1 << rounds < size) ++rounds;
    for (auto& result : results) {
      ASSERT_EQ(result.size(), want.size() + 1) << size;
      EXPECT_EQ(result.back(), rounds * 4 * kCount) << "bytes";
      result.pop_back();
      ASSERT_EQ(result, want) << size;
    }
  }
}

// Nobody swaps with rank 0, or sums.
TEST(ForkedExchange, ARankThatDoesNotComeEndsTheOthers) {
  CommunicatorOptions options;
  options.timeout = 0.5;
  for (const bool swaps : {false, true}) {
    const auto results = ForkedRanks::run(
        2,
        [&](Communicator& ranks) -> std::vector<float> {
          if (ranks.rank() == 1) {
            sleep(2);
            return {1};
          }
          const Tensor own = Tensor::zeros({5}, DeviceKind::cuda), others = Tensor::zeros({5}, DeviceKind::cuda);
          try {
            if (swaps) ranks.swap(1, own.data(), others.data(), 5);
            if (!swaps) ranks.start_sum(own.data(), 5);
            ranks.finish_sums();
            ranks.settle_sums();
          } catch (const Error& error) {
            synchronize(DeviceKind::cuda);  // ends, and finds no fault: what waited for rank 1 was aborted
            return {std::string(error.what()).find("is lost or hangs") == std::string::npos ? 2.0f : 3.0f};
          }
          return {4};
        },
        options);
    EXPECT_EQ(results, (std::vector<std::vector<float>>{{3}, {1}})) << swaps;
  }
}

// 3 when it throws an Error that says `words`.
std::vector<float> said(const std::string& words, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return {std::string(error.what()).find(words) == std::string::npos ? 2.0f : 3.0f};
  }
  return {4};
}

TEST(ForkedExchange, RanksThatCannotBeJoinedAreNamed) {
  CommunicatorOptions options;
  options.timeout = 0.5;
  const auto lost = ForkedRanks::run_hosts(
      2,
      [&](std::unique_ptr<Communicator> host) -> std::vector<float> {
        if (host->first()) {
          return said("a rank is lost or hangs in ncclCommInitRank", [&] { join_gpus(std::move(host), options); });
        }
        cudaDeviceProp properties;
        cudaGetDeviceProperties(&properties, 1);
        host->gather(properties.uuid);
        host->gather(ncclUniqueId{});
        sleep(2);
        return {1};
      },
      options);
  EXPECT_EQ(lost, (std::vector<std::vector<float>>{{3}, {1}}));
  const auto alike =
      ForkedRanks::run_hosts(2,
                             [](std::unique_ptr<Communicator> host) {
                               cudaSetDevice(5);
                               return said("ranks 0 and 1 use the same GPU", [&] { join_gpus(std::move(host), {}); });
                             },
                             {});
  EXPECT_EQ(alike, (std::vector<std::vector<float>>{{3}, {3}}));
}

TEST(ForkedExchange, GradientsLieWhereTheRanksExchangeThem) {
  const auto results = ForkedRanks::run(2, [](Communicator& ranks) -> std::vector<float> {
    Weight weight(DeviceKind::cpu);
    return said("gradients on cpu", [&] { GradientExchange(ranks).begin(weight.views); });
  });
  EXPECT_EQ(results, (std::vector<std::vector<float>>{{3}, {3}}));
}

}  // namespace
}  // namespace entangle

#endif  // ENTANGLE_CUDA_EMULATED
