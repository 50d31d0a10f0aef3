// Which process of how many this one is: what a launcher says in the environment.
//
//   mpirun      OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE (Open MPI); PMI_RANK, PMI_SIZE, MPI_LOCALRANKID,
//               MPI_LOCALNRANKS (MPICH)
//   torchrun    RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE; MASTER_ADDR and MASTER_PORT, where rank 0 waits. Set by
//               hand, they do as well
//   srun        SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_TASKS_PER_NODE; rank 0 waits on the step's first
//               machine (SLURM_STEP_NODELIST) at a port made from SLURM_JOB_ID and SLURM_STEP_ID, unless MASTER_ADDR and
//               MASTER_PORT say otherwise
//
// Where several have left their variables, the one that started the processes last counts: mpirun before torchrun (which must
// say the same, if anything), torchrun before srun, of whose step it may be the only task.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace entangle {

// What the launcher of a process said; without one, a process alone.
struct Launched {
  std::string launcher;  // "mpirun", "torchrun", "srun"; empty: none
  bool mpi = false;      // whether it started them to talk over MPI
  int rank = 0, size = 1;
  int local_rank = -1, local_size = 1;  // of the processes on this machine; -1: it was not said
  // Where rank 0 waits for the others when they do not talk over MPI. Empty, 0: it was not said.
  std::string host;
  int port = 0;
  bool port_is_taken = false;  // by the launcher itself; then rank 0 waits at one of the next ports
  uint64_t job = 0;            // tells the processes of this launch from others that may come to the same port
};

// The value of a variable, or null.
using Environment = std::function<const char*(const char* variable)>;

// Throws Error naming the variables when they contradict one another, when one that belongs to others is missing, or when one
// is no number in its range.
Launched launch_in(const Environment& variable);
Launched launched();  // in this process's environment

// Which of the `visible` GPUs of this machine is this process's: the one of its number among the machine's processes. Where one
// is visible it is that one: launchers may show each process a GPU of its own. Throws Error when there are too few.
int gpu_of(const Launched& launch, int visible);

// The first name of Slurm's list of machines: "gpu[003-010,12],cpu1" begins with "gpu003".
std::string first_host(const std::string& list);

}  // namespace entangle
