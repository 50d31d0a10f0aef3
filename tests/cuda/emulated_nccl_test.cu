// The emulated NCCL: collectives between communicators of this process and between processes, and their faults.
#if defined(ENTANGLE_CUDA_EMULATED)

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>

#include "cuda/bf16.cuh"
#include "cuda/emulator/watch.h"
#include "engine/rng.h"
#include "tests/cuda/emulated_nccl.h"

namespace entangle::gpu {
namespace {

// Small integers of either sign: sums of them are exact in float.
std::vector<float> numbers(size_t n, int rank) {
  Rng rng(static_cast<uint64_t>(rank) + 1, Stream::synthetic);
  std::vector<float> values(n);
  for (float& value : values) value = std::floor(static_cast<float>(rng.uniform(-8, 8)));
  return values;
}

Parts<float> parts_of(const Ranks& ranks, size_t n) {
  Parts<float> parts;
  for (int rank = 0; rank < ranks.count(); ++rank) parts.push_back(std::make_unique<Memory<float>>(numbers(n, rank)));
  return parts;
}

float expected(ncclRedOp_t op, int ranks, size_t n, size_t i) {
  double result = numbers(n, 0)[i];
  for (int rank = 1; rank < ranks; ++rank) {
    const double value = numbers(n, rank)[i];
    result = op == ncclProd  ? result * value
             : op == ncclMax ? std::max(result, value)
             : op == ncclMin ? std::min(result, value)
                             : result + value;
  }
  return static_cast<float>(op == ncclAvg ? result / ranks : result);
}

TEST_F(Emulator, AllReduceOfEveryOperation) {
  for (const int count : {1, 2, 4}) {
    const Ranks ranks(count);
    for (const ncclRedOp_t op : {ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg}) {
      const size_t n = 7;
      const Parts<float> parts = parts_of(ranks, n);
      ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
        float* own = parts[static_cast<size_t>(rank)]->data();
        return ncclAllReduce(own, own, n, ncclFloat, op, comm, on);
      });
      for (const auto& part : parts) {
        for (size_t i = 0; i < n; ++i) EXPECT_EQ(part->values()[i], expected(op, count, n, i)) << count << ", " << op;
      }
    }
  }
}

// More than goes through a slot at once, and not a multiple of it.
TEST_F(Emulator, CollectivesOfManyPieces) {
  const int count = 3;
  const size_t n = 100003;
  const Ranks ranks(count);
  const Parts<float> whole = parts_of(ranks, n * count), parts = parts_of(ranks, n);
  std::vector<float> sums(n * count);
  std::vector<std::vector<float>> of_rank;
  for (int rank = 0; rank < count; ++rank) of_rank.push_back(numbers(n * count, rank));
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = of_rank[0][i] + of_rank[1][i] + of_rank[2][i];
  Parts<float> scattered, gathered;
  for (int rank = 0; rank < count; ++rank) {
    scattered.push_back(std::make_unique<Memory<float>>(n));
    gathered.push_back(std::make_unique<Memory<float>>(n * count));
  }
  ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
    const size_t r = static_cast<size_t>(rank);
    NCCL_CHECK(ncclReduceScatter(whole[r]->data(), scattered[r]->data(), n, ncclFloat, ncclSum, comm, on));
    return ncclAllGather(parts[r]->data(), gathered[r]->data(), n, ncclFloat, comm, on);
  });
  std::vector<float> all;
  for (int rank = 0; rank < count; ++rank) {
    const std::vector<float> own = numbers(n, rank), part = scattered[static_cast<size_t>(rank)]->values();
    all.insert(all.end(), own.begin(), own.end());
    const auto first = sums.begin() + static_cast<std::ptrdiff_t>(n) * rank;
    EXPECT_TRUE(std::equal(part.begin(), part.end(), first)) << rank;
  }
  for (const auto& values : gathered) EXPECT_EQ(values->values(), all);
  ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
    float* own = whole[static_cast<size_t>(rank)]->data();
    return ncclAllReduce(own, own, n * count, ncclFloat, ncclSum, comm, on);
  });
  for (const auto& values : whole) EXPECT_EQ(values->values(), sums);
  ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
    const size_t r = static_cast<size_t>(rank);
    return ncclBroadcast(rank == 2 ? parts[r]->data() : nullptr, scattered[r]->data(), n, ncclFloat, 2, comm, on);
  });
  for (const auto& values : scattered) EXPECT_EQ(values->values(), numbers(n, 2));
}

template <class T>
std::vector<T> sum_of_three(ncclDataType_t type, const std::vector<T>& values) {
  const Ranks ranks(3);
  Parts<T> parts;
  for (const T value : values) parts.push_back(std::make_unique<Memory<T>>(std::vector<T>{value}));
  ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
    T* own = parts[static_cast<size_t>(rank)]->data();
    return ncclAllReduce(own, own, 1, type, ncclSum, comm, on);
  });
  std::vector<T> sums;
  for (const auto& part : parts) sums.push_back(part->values()[0]);
  return sums;
}

TEST_F(Emulator, SumsOfEveryType) {
  const int64_t large = int64_t{1} << 60;
  EXPECT_EQ(sum_of_three<int64_t>(ncclInt64, {large, 1, -3}), std::vector<int64_t>(3, large - 2));
  EXPECT_EQ(sum_of_three<uint64_t>(ncclUint64, {~uint64_t{0}, 1, 5}), std::vector<uint64_t>(3, 5));
  EXPECT_EQ(sum_of_three<uint8_t>(ncclUint8, {200, 50, 5}), std::vector<uint8_t>(3, 255));
  EXPECT_EQ(sum_of_three<double>(ncclDouble, {1, 0x1p-52, 0}), std::vector<double>(3, 1 + 0x1p-52));
  // Each addition is rounded to the type, ranks ascending: 256 + 1 is 256 in bf16, 1 + 1 + 256 would be 258.
  const auto sums = sum_of_three<bf16>(ncclBfloat16, {to_bf16(256), to_bf16(1), to_bf16(1)});
  for (const bf16 sum : sums) EXPECT_EQ(to_float(sum), 256);
  EXPECT_EQ(to_float(sum_of_three<bf16>(ncclBfloat16, {to_bf16(1), to_bf16(1), to_bf16(256)})[1]), 258);
  EXPECT_TRUE(std::isnan(sum_of_three<float>(ncclFloat, {1, NAN, 1})[0]));
}

// A second process is rank 1; what it gets it tells by its exit status.
TEST_F(Emulator, RanksInTwoProcesses) {
  stream();
  const ncclUniqueId id = new_id();
  const auto run = [&](int rank) {
    ncclComm_t comm = nullptr;
    NCCL_CHECK(ncclCommInitRank(&comm, 2, id, rank));
    const size_t n = 200000;
    const Memory<float> own(numbers(n, rank));
    int count = 0, number = -1;
    NCCL_CHECK(ncclCommCount(comm, &count));
    NCCL_CHECK(ncclCommUserRank(comm, &number));
    for (int i = 0; i < 2; ++i)
      NCCL_CHECK(ncclAllReduce(own.data(), own.data(), n, ncclFloat, ncclSum, comm, stream()));
    const std::vector<float> values = own.values(), mine = numbers(n, 0), other = numbers(n, 1);
    bool right = count == 2 && number == rank;
    for (size_t i = 0; i < n; ++i) right = right && values[i] == 2 * (mine[i] + other[i]);
    NCCL_CHECK(ncclCommDestroy(comm));
    return right;
  };
  const pid_t child = fork();
  if (child == 0) {
    bool right = false;
    try {
      right = run(1);
    } catch (...) {
    }
    _exit(right ? 0 : 1);
  }
  EXPECT_TRUE(run(0));
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST_F(Emulator, CollectivesInAGraph) {
  ncclComm_t comm = nullptr;
  NCCL_CHECK(ncclCommInitRank(&comm, 1, new_id(), 0));
  const Memory<float> from({1, 2}), to({0, 0});
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal));
  NCCL_CHECK(ncclAllReduce(from.data(), to.data(), 2, ncclFloat, ncclSum, comm, stream()));
  NCCL_CHECK(ncclAllReduce(to.data(), from.data(), 1, ncclFloat, ncclAvg, comm, stream()));
  CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
  CUDA_CHECK(cudaGraphInstantiate(&executable, graph));
  EXPECT_EQ(to.values(), (std::vector<float>{0, 0}));
  for (int i = 0; i < 2; ++i) CUDA_CHECK(cudaGraphLaunch(executable, stream()));
  EXPECT_EQ(to.values(), (std::vector<float>{1, 2}));
  CUDA_CHECK(cudaGraphDestroy(graph));
  CUDA_CHECK(cudaGraphExecDestroy(executable));
  NCCL_CHECK(ncclCommDestroy(comm));
}

// -------------------------------------------------------------------------------------------------------------- faults

TEST_F(Emulator, RanksThatCallDifferentThings) {
  const Ranks ranks(2);
  const Parts<float> parts = parts_of(ranks, 4);
  const auto fault = [&](const std::function<ncclResult_t(float*, ncclComm_t, cudaStream_t)>& second) {
    return fault_of([&] {
      ranks.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
        float* own = parts[static_cast<size_t>(rank)]->data();
        return rank == 0 ? ncclAllReduce(own, own, 4, ncclFloat, ncclSum, comm, on) : second(own, comm, on);
      });
    });
  };
  expect_words(
      fault([](float* own, ncclComm_t comm, cudaStream_t on) {
        return ncclAllReduce(own, own, 3, ncclFloat, ncclSum, comm, on);
      }),
      {"ncclAllReduce of 4 float32, operation 0", "ncclAllReduce of 3 float32", "call the same, in the same order"});
  const Ranks others(2);
  expect_words(fault_of([&] {
                 others.all([&](int rank, ncclComm_t comm, cudaStream_t on) {
                   float* own = parts[static_cast<size_t>(rank)]->data();
                   return ncclBroadcast(own, own, 4, ncclFloat, rank, comm, on);
                 });
               }),
               {"ncclBroadcast of 4 float32 from rank 0", "ncclBroadcast of 4 float32 from rank 1"});
}

TEST_F(Emulator, ARankThatDoesNotCome) {
  const Ranks ranks(2);
  const Parts<float> parts = parts_of(ranks, 4);
  emulator::device_model().patience = 0.05;
  expect_words(fault_of([&] {
                 float* own = parts[0]->data();
                 NCCL_CHECK(ncclGroupStart());
                 NCCL_CHECK(ncclAllReduce(own, own, 4, ncclFloat, ncclSum, ranks.comm(0), ranks.stream_of(0)));
                 NCCL_CHECK(ncclGroupEnd());
                 CUDA_CHECK(cudaStreamSynchronize(ranks.stream_of(0)));
               }),
               {"rank 0 of 2 waits in ncclAllReduce of 4 float32", "for rank 1", "nothing came in 0.05 s"});
  ncclComm_t comm = nullptr;
  expect_words(fault_of([&] { NCCL_CHECK(ncclCommInitRank(&comm, 2, new_id(), 1)); }),
               {"ncclCommInitRank: rank 1 of 2 waits for rank 0, which did not come"});
  EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
}

TEST_F(Emulator, RanksOfOneThreadNeedAGroup) {
  const Ranks ranks(2);
  const Memory<float> own({1, 2});
  expect_words(
      fault_of([&] {
        NCCL_CHECK(ncclAllReduce(own.data(), own.data(), 2, ncclFloat, ncclSum, ranks.comm(0), ranks.stream_of(0)));
      }),
      {"one process calls for several ranks", "ncclGroupStart"});
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
}

TEST_F(Emulator, ArgumentsOfACommunicator) {
  ncclComm_t comm = nullptr, again = nullptr;
  const ncclUniqueId id = new_id();
  EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 2), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRank(&comm, 0, id, 0), ncclInvalidArgument);
  NCCL_CHECK(ncclGroupStart());
  NCCL_CHECK(ncclCommInitRank(&comm, 2, id, 0));
  expect_words(fault_of([&] { NCCL_CHECK(ncclCommInitRank(&again, 2, id, 0)); }), {"rank 0 of 2 joins twice"});
  expect_words(fault_of([&] { NCCL_CHECK(ncclCommInitRank(&again, 3, id, 1)); }),
               {"rank 1 says that there are 3 ranks, another one 2"});
  NCCL_CHECK(ncclCommInitRank(&again, 2, id, 1));
  NCCL_CHECK(ncclGroupEnd());
  EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
  EXPECT_EQ(ncclCommDestroy(comm), ncclInvalidArgument);
  EXPECT_EQ(ncclAllReduce(nullptr, nullptr, 1, ncclFloat, ncclSum, comm, stream()), ncclInvalidArgument);
  EXPECT_EQ(ncclCommDestroy(again), ncclSuccess);
}

TEST_F(Emulator, MemoryOfACollective) {
  const Ranks one(1);
  const Memory<float> own({1, 2, 3, 4});
  const Memory<float> nothing(4);
  float host[4] = {};
  const auto fault = [&](const float* from, float* to, size_t n) {
    return fault_of([&] {
      NCCL_CHECK(ncclAllReduce(from, to, n, ncclFloat, ncclSum, one.comm(0), one.stream_of(0)));
      CUDA_CHECK(cudaDeviceSynchronize());
    });
  };
  expect_words(fault(host, own.data(), 4), {"ncclAllReduce: 16 bytes to send are no device memory"});
  expect_words(fault(own.data(), own.data() + 1, 4), {"16 bytes to receive"});
  expect_words(fault(own.data(), own.data() + 1, 2), {"overlap, but not in place"});
  if (emulator::kWatched)
    expect_words(fault(nothing.data(), own.data(), 4), {"ncclAllReduce: sends what nobody has written"});
  EXPECT_EQ(fault(own.data(), nothing.data(), 4), "");
  EXPECT_EQ(nothing.values(), (std::vector<float>{1, 2, 3, 4})) << "what is received is written";
}

TEST_F(Emulator, CollectivesAreOrderedByEvents) {
  ncclComm_t comm = nullptr;
  NCCL_CHECK(ncclCommInitRank(&comm, 1, new_id(), 0));
  const Memory<float> a(std::vector<float>{1}), b(std::vector<float>{2});
  const TwoStreams streams;
  const auto fault = [&](const Memory<float>& second, bool with_event) {
    return fault_of([&] {
      NCCL_CHECK(ncclAllReduce(a.data(), a.data(), 1, ncclFloat, ncclSum, comm, streams.first));
      CUDA_CHECK(cudaEventRecord(streams.event, streams.first));
      if (with_event) CUDA_CHECK(cudaStreamWaitEvent(streams.second, streams.event));
      CUDA_CHECK(cudaMemsetAsync(second.data(), 0, 4, streams.second));
      NCCL_CHECK(ncclAllReduce(b.data(), b.data(), 1, ncclFloat, ncclSum, comm, streams.second));
      CUDA_CHECK(cudaDeviceSynchronize());
    });
  };
  EXPECT_EQ(fault(a, true), "");
  expect_words(fault(a, false),
               {"'cudaMemsetAsync', operation ", "and 'ncclAllReduce', operation ", "touch allocation"});
  expect_words(fault(b, false), {"'ncclAllReduce', operation ", "both touch communicator ", "no event orders them"});
  NCCL_CHECK(ncclCommDestroy(comm));
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
