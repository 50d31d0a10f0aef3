// Processes that train together as torchrun and srun start them: with variables alone, and without MPI.
#include <signal.h>
#include <unistd.h>

#include "tests/tools/tcp_ranks_fixture.h"

namespace entangle {
namespace {

TEST_F(TcpRanks, TrainAsOneProcessDoesUnderTorchrunsVariables) {
  // Three share a batch in groups of eight.
  ASSERT_EQ(run(in_batches(48, "one", "8")).status, 0);
  for (const int size : {2, 3}) {
    const int port = free_port();
    const std::string name = "of" + std::to_string(size);
    const auto outcomes = run_all(
        size, [&](int rank) { return as_torchrun(rank, size, port); }, in_batches(48, name, "8"));
    for (const Outcome& outcome : outcomes) ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcomes[0].out.find("shared by " + std::to_string(size) + " processes"), std::string::npos);
    for (size_t rank = 1; rank < outcomes.size(); ++rank) EXPECT_EQ(outcomes[rank].out, "") << "only the first talks";
    expect_same_training(name, "one");
    EXPECT_GT(log_records(dir.path(name + "/log.jsonl"))[0]["sent"].get<int64_t>(), 0);
  }
}

TEST_F(TcpRanks, TrainAsOneProcessDoesUnderSlurmsVariables) {
  ASSERT_EQ(run(small_batches("one", "1")).status, 0);
  const int port = free_port();
  const auto variables = [&](int rank) {
    return std::vector<std::string>{"SLURM_PROCID=" + std::to_string(rank),
                                    "SLURM_STEP_NUM_TASKS=2",
                                    "SLURM_LOCALID=" + std::to_string(rank),
                                    "SLURM_STEP_TASKS_PER_NODE=2",
                                    "SLURM_STEP_NODELIST=localhost",
                                    "SLURM_JOB_ID=" + std::to_string(getpid()),
                                    "SLURM_STEP_ID=0",
                                    "MASTER_PORT=" + std::to_string(port)};
  };
  for (const Outcome& outcome : run_all(2, variables, small_batches("slurm", "1"))) {
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  expect_same_training("slurm", "one");
}

TEST_F(TcpRanks, ADeterministicReductionHasTheSameBitsAsOneProcess) {
  std::vector<std::string> words = small_batches("one", "1", {"--deterministic-reduce"});
  ASSERT_EQ(run(words).status, 0);
  words[6] = dir.path("two");
  const int port = free_port();
  for (const Outcome& outcome : run_all(
           2, [&](int rank) { return as_torchrun(rank, 2, port); }, words)) {
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  EXPECT_EQ(read_raw(checkpoint("two")), read_raw(checkpoint("one")));
}

TEST_F(TcpRanks, AnInterruptOfOneStopsAllAndOneProcessGoesOn) {
  ASSERT_EQ(run(small_batches("whole", "6")).status, 0);
  const int port = free_port();
  std::vector<std::unique_ptr<Running>> running;
  for (int rank = 0; rank < 2; ++rank) {
    running.push_back(start(rank, as_torchrun(rank, 2, port), small_batches("run", "6")));
  }
  ASSERT_TRUE(wait_for_lines(dir.path("run/log.jsonl"), 3));
  running[1]->signal(SIGTERM);
  for (const auto& one : running) {
    const Outcome outcome = one->wait();
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  EXPECT_LT(log_records(dir.path("run/log.jsonl")).size(), log_records(dir.path("whole/log.jsonl")).size());
  ASSERT_EQ(run(small_batches("run", "6", {"--resume"})).status, 0);
  expect_same_training("run", "whole");
}

TEST_F(TcpRanks, ADeadOrHangingRankIsNamed) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    const std::string name = "run" + std::to_string(signal);
    const int port = free_port();
    std::vector<std::unique_ptr<Running>> running;
    for (int rank = 0; rank < 2; ++rank) {
      running.push_back(start(rank, as_torchrun(rank, 2, port), small_batches(name, "500", {"--rank-timeout", "5"})));
    }
    ASSERT_TRUE(wait_for_lines(dir.path(name + "/log.jsonl"), 7));
    running[1]->signal(signal);
    const std::vector<std::string> closed = {"rank 1 of 0 .. 1 is lost", "was closed"}, hangs = {"is lost or hangs"};
    check_user_error(running[0]->wait(), signal == SIGKILL ? closed : hangs);
  }
}

TEST_F(TcpRanks, WhatIsMissingOrDoesNotFitIsNamed) {
  const auto fails = [&](const std::vector<std::string>& variables, const std::vector<std::string>& parts) {
    check_user_error(start(0, variables, small_batches("run", "1", {"--rank-timeout", "0.2"}))->wait(), parts);
  };
  fails(as_torchrun(0, 2, free_port()), {"rank 1 of 0 .. 1 did not come to rank 0 at 127.0.0.1:"});
  fails(as_torchrun(1, 2, free_port()), {"rank 1 does not find rank 0 at 127.0.0.1:"});
  fails({"RANK=0", "WORLD_SIZE=2"}, {"torchrun started 2 processes, but not where rank 0 waits", "MASTER_ADDR"});
  fails({"RANK=2", "WORLD_SIZE=2"}, {"RANK=2 is none of WORLD_SIZE=2 processes"});
  fails({"WORLD_SIZE=2"}, {"WORLD_SIZE=2 is set, but RANK is not"});
  const int port = free_port();
  std::vector<std::string> other = small_batches("run", "1");
  auto first = start(0, as_torchrun(0, 2, port), other);
  other.insert(other.end(), {"--seed", "5"});
  auto second = start(1, as_torchrun(1, 2, port), other);
  check_user_error(first->wait(), {"rank 1 has another configuration than rank 0"});
  check_user_error(second->wait(), {"rank 1 has another configuration than rank 0"});
}

}  // namespace
}  // namespace entangle
