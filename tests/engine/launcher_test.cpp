#include "engine/launcher.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/expect_error.h"

namespace entangle {
namespace {

using Variables = std::map<std::string, std::string>;

Launched launch_of(const Variables& variables) {
  return launch_in([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

Variables torchrun() {
  return {{"RANK", "3"},           {"WORLD_SIZE", "4"},     {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "gpu1"}, {"MASTER_PORT", "29500"}};
}

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(Launcher, NoneIsAProcessAlone) {
  const Launched alone = launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}});  // a batch script
  EXPECT_EQ(alone.launcher, "");
  EXPECT_EQ(alone.size, 1);
  EXPECT_EQ(alone.rank, 0);
  EXPECT_FALSE(alone.mpi);
}

TEST(Launcher, Torchrun) {
  const Launched launch = launch_of(torchrun());
  EXPECT_EQ(launch.launcher, "torchrun");
  EXPECT_FALSE(launch.mpi);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.size, 4);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_size, 2);
  EXPECT_EQ(launch.host, "gpu1");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_FALSE(launch.port_is_taken);
  const Launched agent =
      launch_of(with(torchrun(), {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"TORCHELASTIC_RUN_ID", "a"}}));
  EXPECT_TRUE(agent.port_is_taken);
  EXPECT_NE(agent.job, launch_of(with(torchrun(), {{"TORCHELASTIC_RUN_ID", "b"}})).job);
  EXPECT_EQ(launch_of(without(torchrun(), "LOCAL_RANK")).local_rank, -1);
}

TEST(Launcher, Mpirun) {
  const Variables open_mpi = {{"OMPI_COMM_WORLD_RANK", "2"},
                              {"OMPI_COMM_WORLD_SIZE", "3"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}};
  const Launched launch = launch_of(open_mpi);
  EXPECT_EQ(launch.launcher, "mpirun");
  EXPECT_TRUE(launch.mpi);
  EXPECT_EQ(launch.rank, 2);
  EXPECT_EQ(launch.local_rank, 0);
  const Launched mpich = launch_of({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}});
  EXPECT_TRUE(mpich.mpi);
  EXPECT_EQ(mpich.local_rank, 1);
  // A script that also sets what torchrun does, and one that sets something else.
  EXPECT_TRUE(launch_of(with(open_mpi, {{"RANK", "2"}, {"WORLD_SIZE", "3"}})).mpi);
  expect_error(
      [&] {
        launch_of(with(open_mpi, {{"RANK", "1"}, {"WORLD_SIZE", "3"}}));
      },
      {"mpirun says that this is rank 2 of 3, but RANK=1 and WORLD_SIZE=3"});
}

TEST(Launcher, Srun) {
  const Variables step = {{"SLURM_PROCID", "5"},
                          {"SLURM_STEP_NUM_TASKS", "6"},
                          {"SLURM_LOCALID", "1"},
                          {"SLURM_STEP_TASKS_PER_NODE", "4(x1),2"},
                          {"SLURM_STEP_NODELIST", "gpu[003-004],cpu1"},
                          {"SLURM_JOB_ID", "1234"},
                          {"SLURM_STEP_ID", "0"}};
  const Launched launch = launch_of(step);
  EXPECT_EQ(launch.launcher, "srun");
  EXPECT_FALSE(launch.mpi);
  EXPECT_EQ(launch.rank, 5);
  EXPECT_EQ(launch.size, 6);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_size, 4);
  EXPECT_EQ(launch.host, "gpu003");
  EXPECT_GE(launch.port, 20000);
  EXPECT_LT(launch.port, 30000);
  EXPECT_NE(launch.port, launch_of(with(step, {{"SLURM_STEP_ID", "1"}})).port);
  EXPECT_EQ(launch_of(with(step, {{"MASTER_ADDR", "x"}, {"MASTER_PORT", "7"}})).host, "x");
  EXPECT_EQ(launch_of(with(step, {{"MASTER_PORT", "7"}})).port, 7);
  EXPECT_TRUE(launch_of(with(step, {{"PMIX_RANK", "5"}})).mpi);
  // torchrun as the only task of a machine's.
  EXPECT_EQ(launch_of(with(step, torchrun())).launcher, "torchrun");
  EXPECT_EQ(first_host("cpu1,cpu2"), "cpu1");
  EXPECT_EQ(first_host("gpu[7,9-10]"), "gpu7");
  EXPECT_EQ(first_host("one"), "one");
}

TEST(Launcher, EachProcessOfAMachineHasAGpuOfItsOwn) {
  const Launched launch = launch_of(torchrun());
  EXPECT_EQ(gpu_of(launch, 2), 1);
  EXPECT_EQ(gpu_of(launch, 8), 1);
  EXPECT_EQ(gpu_of(launch, 1), 0) << "the only one that it was given";
  EXPECT_EQ(gpu_of(Launched(), 8), 0);
  const Launched third = launch_of(with(torchrun(), {{"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "4"}}));
  expect_error([&] { gpu_of(third, 2); }, {"process number 2 of its machine", "2 GPUs are visible"});
  expect_error([&] { gpu_of(launch_of(without(torchrun(), "LOCAL_RANK")), 2); }, {"set LOCAL_RANK"});
}

TEST(Launcher, WhatDoesNotFitIsNamed) {
  const auto expect = [](const Variables& variables, const std::vector<std::string>& parts) {
    expect_error([&] { launch_of(variables); }, parts);
  };
  expect(without(torchrun(), "RANK"), {"WORLD_SIZE=4 is set, but RANK is not", "unset WORLD_SIZE"});
  expect(without(torchrun(), "WORLD_SIZE"), {"RANK=3 is set, but WORLD_SIZE is not"});
  expect(with(torchrun(), {{"RANK", "4"}}), {"RANK=4 is none of WORLD_SIZE=4 processes"});
  expect(with(torchrun(), {{"LOCAL_RANK", "2"}}), {"LOCAL_RANK=2 is none of LOCAL_WORLD_SIZE=2"});
  expect(with(torchrun(), {{"LOCAL_WORLD_SIZE", "5"}}), {"of WORLD_SIZE=4 processes 5 are on this machine"});
  expect(with(torchrun(), {{"RANK", "first"}}), {"RANK=first is not a number of 0 to"});
  expect(with(torchrun(), {{"RANK", ""}}), {"RANK= is not a number"});
  expect(with(torchrun(), {{"WORLD_SIZE", "0"}}), {"WORLD_SIZE=0 is not a number of 1 to"});
  expect(with(torchrun(), {{"WORLD_SIZE", "2(x3)"}}), {"WORLD_SIZE=2(x3) is not a number"});
  expect(with(torchrun(), {{"MASTER_PORT", "70000"}}), {"MASTER_PORT=70000 is not a number of 1 to 65535"});
  expect({{"OMPI_COMM_WORLD_SIZE", "2"}}, {"OMPI_COMM_WORLD_SIZE=2 is set, but OMPI_COMM_WORLD_RANK is not"});
}

}  // namespace
}  // namespace entangle
