#include "engine/communicator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "engine/bf16.h"
#include "engine/check.h"
#include "engine/communicator_mpi.h"

namespace entangle {
namespace {

// 0 when the variable is not set or no count.
int count_in(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::max(0, std::atoi(text));
}

}  // namespace

void sum_bf16(const uint16_t* all, int ranks, int64_t stride, int64_t count, uint16_t* sums) {
  for (int64_t i = 0; i < count; ++i) {
    float sum = from_bf16(all[i]);
    for (int rank = 1; rank < ranks; ++rank) sum += from_bf16(all[rank * stride + i]);
    sums[i] = to_bf16(sum);
  }
}

void Communicator::start_sum(uint16_t* values, int64_t count) {
  std::vector<uint16_t> all(static_cast<size_t>(size_ * count));
  gather(values, static_cast<size_t>(count) * sizeof(uint16_t), all.data());
  sum_bf16(all.data(), size_, count, count, values);
}

void SingleProcess::gather(const void* own, size_t bytes, void* all) { std::memcpy(all, own, bytes); }

void SingleProcess::swap(int, const float*, float*, int64_t) { RAISE("a process alone has no other to swap with"); }

Launched launched() {
  struct Known {
    const char *launcher, *size, *local_size;
  };
  // Slurm sets its variables for a batch script as well, which is no rank: only a step of srun has a PMI.
  const bool slurm_step = std::getenv("PMIX_RANK") != nullptr || std::getenv("PMI_RANK") != nullptr;
  for (const Known& known : {Known{"mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"},
                             Known{"mpirun", "PMI_SIZE", "MPI_LOCALNRANKS"},
                             Known{"srun", slurm_step ? "SLURM_NTASKS" : "", "SLURM_NTASKS_PER_NODE"},
                             Known{"torchrun", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}}) {
    const int size = count_in(known.size);
    if (size > 0) return {size, std::max(1, count_in(known.local_size)), known.launcher};
  }
  return {};
}

std::unique_ptr<Communicator> join_processes(const CommunicatorOptions& options) {
  const Launched by = launched();
  if (by.launcher == nullptr) return std::make_unique<SingleProcess>();
  CHECK(std::strcmp(by.launcher, "torchrun") != 0 || by.size == 1, "torchrun started ", by.size,
        " processes, but between processors these talk over MPI: start them with mpirun -n ", by.size);
  if (std::strcmp(by.launcher, "torchrun") == 0) return std::make_unique<SingleProcess>();
  return join_mpi(options);
}

}  // namespace entangle
