#include "engine/launcher.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "engine/check.h"
#include "engine/hash.h"

namespace entangle {
namespace {

constexpr int kMost = 1 << 20;  // processes

// The names under which a launcher says one and the same; null where it does not.
struct Names {
  const char *launcher, *rank, *size, *local_rank, *local_size;
};
constexpr Names kOpenMpi = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                            "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kMpich = {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
constexpr Names kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
// Slurm sets SLURM_PROCID for a batch script as well, which is no rank: only a step of srun has this number of tasks.
constexpr Names kSlurm = {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"};

// Where the variable is set.
std::optional<int> number_in(const Environment& variable, const char* name, int least, int most) {
  const char* text = variable(name);
  if (text == nullptr) return {};
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  // Slurm's tasks on each machine: "2(x3),1".
  const bool whole = stop == end || (std::strcmp(name, kSlurm.local_size) == 0 && (*stop == '(' || *stop == ','));
  CHECK(error == std::errc() && whole && value >= least && value <= most, name, "=", text, " is not a number of ",
        least, " to ", most);
  return value;
}

// Null when the launcher was another one.
std::optional<Launched> launch_by(const Environment& variable, const Names& names) {
  if (variable(names.size) == nullptr && (&names != &kTorchrun || variable(names.rank) == nullptr)) return {};
  const auto both = [&](const char* set, const char* missing) {
    CHECK(variable(missing) != nullptr, set, "=", variable(set), " is set, but ", missing, " is not: ", names.launcher,
          " sets both; set it as well, or unset ", set);
  };
  both(variable(names.size) != nullptr ? names.size : names.rank,
       variable(names.size) != nullptr ? names.rank : names.size);
  Launched launch;
  launch.launcher = names.launcher;
  launch.size = *number_in(variable, names.size, 1, kMost);
  launch.rank = *number_in(variable, names.rank, 0, kMost);
  CHECK(launch.rank < launch.size, names.rank, "=", launch.rank, " is none of ", names.size, "=", launch.size,
        " processes, which are counted from 0");
  launch.local_size = number_in(variable, names.local_size, 1, kMost).value_or(1);
  launch.local_rank = number_in(variable, names.local_rank, 0, kMost).value_or(-1);
  const bool local_size_is_exact = &names != &kSlurm;  // Slurm's is of its first machine
  CHECK(variable(names.local_size) == nullptr || !local_size_is_exact || launch.local_rank < launch.local_size,
        names.local_rank, "=", launch.local_rank, " is none of ", names.local_size, "=", launch.local_size,
        " processes on this machine, which are counted from 0");
  CHECK(launch.local_rank < launch.size && launch.local_size <= launch.size, names.launcher, " says that of ",
        names.size, "=", launch.size, " processes ", launch.local_size, " are on this machine, and this one is number ",
        launch.local_rank, " there");
  return launch;
}

uint64_t hash_of(const char* text) {
  uint64_t hash = kEmptyHash;
  for (; text != nullptr && *text != '\0'; ++text) hash = hash_on(hash, static_cast<unsigned char>(*text));
  return hash;
}

// Where rank 0 waits.
void find_place(const Environment& variable, Launched& launch) {
  const char* host = variable("MASTER_ADDR");
  if (host != nullptr) launch.host = host;
  launch.port = number_in(variable, "MASTER_PORT", 1, 65535).value_or(0);
  if (launch.launcher == kTorchrun.launcher) {
    const char* agent = variable("TORCHELASTIC_USE_AGENT_STORE");
    launch.port_is_taken = agent != nullptr && std::strcmp(agent, "True") == 0;
    launch.job = hash_of(variable("TORCHELASTIC_RUN_ID"));
  }
  if (launch.launcher != kSlurm.launcher) return;
  const char *machines = variable("SLURM_STEP_NODELIST"), *job = variable("SLURM_JOB_ID"),
             *step = variable("SLURM_STEP_ID");
  launch.job = hash_of(concat(job == nullptr ? "" : job, ".", step == nullptr ? "" : step).c_str());
  if (launch.host.empty() && machines != nullptr) launch.host = first_host(machines);
  constexpr int kFirstPort = 20000, kPorts = 10000;  // below those that systems give out themselves
  if (launch.port == 0) launch.port = kFirstPort + static_cast<int>(launch.job % kPorts);
}

}  // namespace

std::string first_host(const std::string& list) {
  const size_t end = list.find_first_of("[,");
  std::string host = list.substr(0, end);
  if (end != std::string::npos && list[end] == '[') {
    const size_t digits = list.find_first_of("-,]", end);
    host += list.substr(end + 1, digits - end - 1);
  }
  return host;
}

Launched launch_in(const Environment& variable) {
  std::optional<Launched> by_mpirun = launch_by(variable, kOpenMpi);
  if (!by_mpirun) by_mpirun = launch_by(variable, kMpich);
  const std::optional<Launched> by_torchrun = launch_by(variable, kTorchrun);
  if (by_mpirun && by_torchrun) {
    CHECK(by_mpirun->rank == by_torchrun->rank && by_mpirun->size == by_torchrun->size,
          "mpirun says that this is rank ", by_mpirun->rank, " of ", by_mpirun->size, ", but RANK=", by_torchrun->rank,
          " and WORLD_SIZE=", by_torchrun->size, ": unset these two, or start without mpirun");
  }
  const std::optional<Launched> by_srun = by_mpirun || by_torchrun ? std::nullopt : launch_by(variable, kSlurm);
  Launched launch = by_mpirun ? *by_mpirun : by_torchrun ? *by_torchrun : by_srun.value_or(Launched());
  launch.mpi = by_mpirun || (by_srun && variable("PMIX_RANK") != nullptr);
  if (!launch.launcher.empty()) find_place(variable, launch);
  return launch;
}

int gpu_of(const Launched& launch, int visible) {
  if (launch.size == 1 || visible <= 1) return 0;
  CHECK(launch.local_rank >= 0, launch.launcher, " started ", launch.size,
        " processes, but did not say which one on its machine this is, and so which GPU is its own: set LOCAL_RANK, "
        "counted "
        "from 0 on each machine");
  CHECK(launch.local_rank < visible, "this is process number ", launch.local_rank,
        " of its machine, counted from 0, and ", visible,
        " GPUs are visible here: start as many processes on a machine as it has GPUs");
  return launch.local_rank;
}

Launched launched() {
  return launch_in([](const char* name) { return static_cast<const char*>(std::getenv(name)); });
}

}  // namespace entangle
