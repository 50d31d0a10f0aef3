// Processes that train together on a GPU each: on emulated ones, or on real ones where there are two.
#include <signal.h>

#include <algorithm>
#include <cmath>

#include "engine/device.h"
#include "tests/tools/ranks_fixture.h"
#include "tests/tools/tcp_ranks_fixture.h"

namespace entangle {
namespace {

struct UnderMpirun : Ranks {
  using Ranks::prepare_environment;
};

class GpuRanks : public TcpRanks {
 protected:
  void SetUp() override {
    if (visible_gpus() < 2) GTEST_SKIP() << "no two GPUs";
    TcpRanks::SetUp();
  }

  std::vector<std::string> on_gpu(const std::string& run, const std::string& epochs,
                                  const std::vector<std::string>& more = {}, int batch = 16) const {
    std::vector<std::string> words = in_batches(batch, run, epochs, {"--device", "cuda"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // Emulated steps take long.
  static bool wait_long(const std::string& log, int64_t lines) {
    for (int i = 0; i < 12; ++i) {
      if (wait_for_lines(log, lines)) return true;
    }
    return false;
  }
  void expect_trained(int size, const std::vector<std::string>& command) {
    const int port = free_port();
    for (const Outcome& outcome : run_all(
             size, [&](int rank) { return as_torchrun(rank, size, port); }, command)) {
      ASSERT_EQ(outcome.status, 0) << outcome.err;
    }
  }
};

TEST_F(GpuRanks, TrainAsOneGpuDoes) {
  ASSERT_EQ(run(on_gpu("one", "3", {}, 48)).status, 0);
  for (const int size : {2, 3}) {
    if (size > visible_gpus()) break;
    const std::string name = "of" + std::to_string(size);
    expect_trained(size, on_gpu(name, "3", {}, 48));
    expect_same_training(name, "one", 1e-3);
    EXPECT_GT(log_records(dir.path(name + "/log.jsonl"))[0]["sent"].get<int64_t>(), 0);
  }
}

// Of masks and sums, too.
TEST_F(GpuRanks, ADeterministicReductionHasTheSameBitsForAnyNumber) {
  const std::vector<std::string> more = {"--deterministic-reduce", "--set", "TRAIN.dropout=0.1", "--set",
                                         "TRAIN.attention_dropout=0.1"};
  ASSERT_EQ(run(on_gpu("one", "1", more, 32)).status, 0);
  const auto want = log_records(dir.path("one/log.jsonl"));
  for (const int size : {2, 4}) {
    if (size > visible_gpus()) break;
    const std::string name = "of" + std::to_string(size);
    expect_trained(size, on_gpu(name, "1", more, 32));
    const auto got = log_records(dir.path(name + "/log.jsonl"));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i]["loss"], want[i]["loss"]) << size << " step " << i + 1;
    EXPECT_EQ(read_raw(checkpoint(name)), read_raw(checkpoint("one"))) << size;
  }
}

TEST_F(GpuRanks, ABf16WireSendsHalfTheBytes) {
  expect_trained(2, on_gpu("fp32", "1"));
  expect_trained(2, on_gpu("bf16", "1", {"--set", "TRAIN.wire=bf16"}));
  expect_same_training("bf16", "fp32", 1e-2);
  const auto want = log_records(dir.path("fp32/log.jsonl")), got = log_records(dir.path("bf16/log.jsonl"));
  double largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(2 * got[i]["sent"].get<int64_t>(), want[i]["sent"].get<int64_t>());
    largest = std::max(largest, std::fabs(got[i]["loss"].get<double>() - want[i]["loss"].get<double>()));
  }
  EXPECT_GT(largest, 0) << "something is rounded";
}

TEST_F(GpuRanks, TrainUnderMpirun) {
  if (!has_mpi() || mpirun().empty()) GTEST_SKIP() << "no MPI";
  UnderMpirun::prepare_environment();
  if (run({mpirun(), "-n", "2", "/bin/true"}).status != 0) GTEST_SKIP() << "mpirun starts no processes here";
  ASSERT_EQ(run(on_gpu("one", "1")).status, 0);
  std::vector<std::string> words = on_gpu("mpi", "1");
  words[0] = program_path(words[0]);
  words.insert(words.begin(), {mpirun(), "-n", "2"});
  const Outcome outcome = run(words);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  expect_same_training("mpi", "one", 1e-3);
}

TEST_F(GpuRanks, AnInterruptOfOneStopsAllAndAnyNumberGoesOn) {
  ASSERT_EQ(run(on_gpu("whole", "2")).status, 0);
  const int port = free_port();
  std::vector<std::unique_ptr<Running>> running;
  for (int rank = 0; rank < 2; ++rank) running.push_back(start(rank, as_torchrun(rank, 2, port), on_gpu("run", "2")));
  ASSERT_TRUE(wait_long(dir.path("run/log.jsonl"), 3));
  running[1]->signal(SIGTERM);
  for (const auto& one : running) {
    const Outcome outcome = one->wait();
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  EXPECT_LT(log_records(dir.path("run/log.jsonl")).size(), log_records(dir.path("whole/log.jsonl")).size());
  expect_trained(2, on_gpu("run", "2", {"--resume"}));
  expect_same_training("run", "whole", 1e-3);
}

TEST_F(GpuRanks, ADeadOrHangingRankEndsTheOther) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    const std::string name = "run" + std::to_string(signal);
    const int port = free_port();
    std::vector<std::unique_ptr<Running>> running;
    for (int rank = 0; rank < 2; ++rank) {
      running.push_back(start(rank, as_torchrun(rank, 2, port), on_gpu(name, "500", {"--rank-timeout", "5"})));
    }
    ASSERT_TRUE(wait_long(dir.path(name + "/log.jsonl"), 3));
    running[1]->signal(signal);
    check_user_error(running[0]->wait(), {"rank"});
  }
}

TEST_F(GpuRanks, OneGpuForTwoAndAnotherConfigurationAreRefused) {
  const int port = free_port();
  std::vector<std::string> words = on_gpu("run", "1");
  words.back() = "cuda:1";
  for (const Outcome& outcome : run_all(
           2, [&](int rank) { return as_torchrun(rank, 2, port); }, words)) {
    check_user_error(outcome, {"ranks 0 and 1 use the same GPU", "as many processes on a machine as it has GPUs"});
  }
  const int next = free_port();
  const auto first = start(0, as_torchrun(0, 2, next), on_gpu("run", "1"));
  const auto second = start(1, as_torchrun(1, 2, next), on_gpu("run", "1", {"--seed", "5"}));
  check_user_error(first->wait(), {"rank 1 has another configuration than rank 0"});
  check_user_error(second->wait(), {"rank 1 has another configuration than rank 0"});
}

}  // namespace
}  // namespace entangle
