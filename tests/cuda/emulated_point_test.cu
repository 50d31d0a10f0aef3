// The emulated NCCL: what one rank sends to another, and its faults.
#if defined(ENTANGLE_CUDA_EMULATED)

#include "cuda/emulator/watch.h"
#include "tests/cuda/emulated_nccl.h"

namespace entangle::gpu {
namespace {

std::vector<float> numbers(size_t n, int rank) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(1000 * rank) + static_cast<float>(i % 997);
  return values;
}

// More than goes through a mailbox at once, and not a multiple of it.
constexpr size_t kMany = 50003;

TEST_F(Emulator, RanksSwap) {
  const Ranks ranks(4);
  for (const int apart : {1, 2, 3}) {
    Parts<float> own, others;
    for (int rank = 0; rank < 4; ++rank) {
      own.push_back(std::make_unique<Memory<float>>(numbers(kMany, rank)));
      others.push_back(std::make_unique<Memory<float>>(kMany));
    }
    ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
      const size_t r = static_cast<size_t>(rank);
      NCCL_CHECK(ncclSend(own[r]->data(), kMany, ncclFloat, rank ^ apart, comm, on));
      return ncclRecv(others[r]->data(), kMany, ncclFloat, rank ^ apart, comm, on);
    });
    for (int rank = 0; rank < 4; ++rank) {
      EXPECT_EQ(others[static_cast<size_t>(rank)]->values(), numbers(kMany, rank ^ apart)) << rank << ", " << apart;
      EXPECT_EQ(own[static_cast<size_t>(rank)]->values(), numbers(kMany, rank));
    }
  }
}

// Each to the next one, of different lengths, and to itself.
TEST_F(Emulator, RanksSendInARing) {
  const Ranks ranks(3);
  const auto length = [](int rank) { return static_cast<size_t>(1 + rank % 3 * 30000); };
  Parts<float> own, others, copies;
  for (int rank = 0; rank < 3; ++rank) {
    own.push_back(std::make_unique<Memory<float>>(numbers(length(rank), rank)));
    others.push_back(std::make_unique<Memory<float>>(length(rank + 2)));
    copies.push_back(std::make_unique<Memory<float>>(size_t{1}));
  }
  ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
    const size_t r = static_cast<size_t>(rank);
    NCCL_CHECK(ncclRecv(others[r]->data(), length(rank + 2), ncclFloat, (rank + 2) % 3, comm, on));
    NCCL_CHECK(ncclSend(own[r]->data(), length(rank), ncclFloat, (rank + 1) % 3, comm, on));
    NCCL_CHECK(ncclSend(own[r]->data(), 1, ncclFloat, rank, comm, on));
    return ncclRecv(copies[r]->data(), 1, ncclFloat, rank, comm, on);
  });
  for (int rank = 0; rank < 3; ++rank) {
    const int left = (rank + 2) % 3;
    EXPECT_EQ(others[static_cast<size_t>(rank)]->values(), numbers(length(left), left)) << rank;
    EXPECT_EQ(copies[static_cast<size_t>(rank)]->values(), numbers(1, rank));
  }
}

TEST_F(Emulator, WhatIsSentIsWhatIsReceived) {
  const Ranks ranks(2);
  const Memory<float> own({1, 2, 3, 4}), other(std::vector<float>(4)), nothing(4);
  float host[4] = {};
  const auto fault = [&](const float* from, size_t sent, ncclDataType_t type, size_t received) {
    return fault_of([&] {
      ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
        return rank == 0 ? ncclSend(from, sent, type, 1, comm, on)
                         : ncclRecv(other.data(), received, ncclFloat, 0, comm, on);
      });
    });
  };
  EXPECT_EQ(fault(own.data(), 4, ncclFloat, 4), "");
  EXPECT_EQ(other.values(), own.values());
  EXPECT_EQ(fault(own.data(), 0, ncclFloat, 0), "");
  expect_words(fault(host, 4, ncclFloat, 4), {"ncclSend: 16 bytes are no device memory"});
  expect_words(fault(own.data(), 5, ncclFloat, 4), {"ncclSend: 20 bytes"});
  EXPECT_EQ(ncclSend(own.data(), 4, ncclFloat, 2, ranks.comm(0), ranks.stream_of(0)), ncclInvalidArgument);
  EXPECT_EQ(ncclRecv(own.data(), 4, ncclFloat, -1, ranks.comm(0), ranks.stream_of(0)), ncclInvalidArgument);
  if (emulator::kWatched)
    expect_words(fault(nothing.data(), 4, ncclFloat, 4), {"ncclSend: sends what nobody has written"});
}

TEST_F(Emulator, RanksThatDoNotMeet) {
  const Memory<float> a({1, 2, 3, 4}), b({5, 6, 7, 8});
  for (const auto& [sent, type] : {std::pair(size_t{3}, ncclFloat), {size_t{4}, ncclInt64}}) {
    const Ranks ranks(2);
    const size_t count = type == ncclFloat ? sent : sent / 2;
    expect_words(
        fault_of([&] {
          ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
            return rank == 0 ? ncclSend(a.data(), count, type, 1, comm, on)
                             : ncclRecv(b.data(), 4, ncclFloat, 0, comm, on);
          });
        }),
        {"rank 1 calls ncclRecv of 4 float32 from rank 0, which sends", type == ncclFloat ? "3 float32" : "2 int64"});
  }
  // Both send first: neither's is received.
  emulator::device_model().patience = 0.05;
  const Ranks ranks(2);
  expect_words(fault_of([&] {
                 for (const int rank : {0, 1}) {
                   const Memory<float>& own = rank == 0 ? a : b;
                   NCCL_CHECK(ncclSend(own.data(), 4, ncclFloat, 1 - rank, ranks.comm(rank), ranks.stream_of(rank)));
                   NCCL_CHECK(ncclRecv(own.data(), 4, ncclFloat, 1 - rank, ranks.comm(rank), ranks.stream_of(rank)));
                 }
                 CUDA_CHECK(cudaDeviceSynchronize());
               }),
               {"waits in ncclSend of 4 float32 to rank", "nothing came in 0.05 s"});
}

TEST_F(Emulator, SwapsAreOrderedByEvents) {
  const Ranks one(1);
  const Memory<float> a({1}), b({2});
  const TwoStreams streams;
  expect_words(fault_of([&] {
                 NCCL_CHECK(ncclGroupStart());
                 NCCL_CHECK(ncclSend(a.data(), 1, ncclFloat, 0, one.comm(0), streams.first));
                 NCCL_CHECK(ncclRecv(b.data(), 1, ncclFloat, 0, one.comm(0), streams.first));
                 NCCL_CHECK(ncclGroupEnd());
                 CUDA_CHECK(cudaMemsetAsync(b.data(), 0, 4, streams.second));
                 CUDA_CHECK(cudaDeviceSynchronize());
               }),
               {"'cudaMemsetAsync', operation ", "and 'ncclSend and ncclRecv', operation ", "no event orders them"});
}

// 5/3 is nearest to 213 / 128 in bf16, but 5 times what 1/3 is in bf16, 0.333984375, to 214 / 128.
TEST_F(Emulator, AnAverageOfBf16MultipliesFirst) {
  const Ranks ranks(3);
  Parts<uint16_t> parts;
  for (const uint16_t own : {0x40a0, 0, 0}) {
    parts.push_back(std::make_unique<Memory<uint16_t>>(std::vector<uint16_t>{own}));
  }
  ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
    uint16_t* own = parts[static_cast<size_t>(rank)]->data();
    return ncclAllReduce(own, own, 1, ncclBfloat16, ncclAvg, comm, on);
  });
  for (const auto& part : parts) EXPECT_EQ(part->values()[0], 0x3fd6);
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
