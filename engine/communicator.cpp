#include "engine/communicator.h"

#include <cstring>
#include <utility>

#include "engine/bf16.h"
#include "engine/check.h"
#include "engine/communicator_mpi.h"
#include "engine/communicator_nccl.h"
#include "engine/communicator_tcp.h"
#include "engine/device.h"
#include "engine/launcher.h"

namespace entangle {

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

namespace {

std::unique_ptr<Communicator> join_hosts(const CommunicatorOptions& options) {
  const Launched launch = launched();
  if (launch.mpi && has_mpi()) return join_mpi(launch, options);
  if (launch.size == 1) return std::make_unique<SingleProcess>();
  CHECK(!launch.mpi || (!launch.host.empty() && launch.port > 0), launch.launcher, " started ", launch.size,
        " processes, but this build has no MPI to join them: install OpenMPI (libopenmpi-dev) and build again; or set "
        "MASTER_ADDR and MASTER_PORT to where rank 0 waits for the others, to join them over TCP");
  return join_tcp(launch, options);
}

}  // namespace

std::unique_ptr<Communicator> join_processes(const CommunicatorOptions& options, DeviceKind device) {
  std::unique_ptr<Communicator> hosts = join_hosts(options);
  if (device == DeviceKind::cpu || hosts->size() == 1) return hosts;
  return join_gpus(std::move(hosts), options);
}

#if !defined(ENTANGLE_CUDA)

std::unique_ptr<Communicator> join_gpus(std::unique_ptr<Communicator>, const CommunicatorOptions&) {
  RAISE(why_no_cuda());
}

#endif

}  // namespace entangle
