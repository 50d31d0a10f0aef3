// The communicator of processes that have a GPU each: sums are of numbers on the GPUs, over NCCL
// (cuda/communicator_nccl.cu); everything else goes over the communicator that joins the processes.
#pragma once

#include <memory>

#include "engine/communicator.h"

namespace entangle {

// `host` joins the processes. Sums begin after what was launched before start_sum(), beside what is launched later; what is
// launched after finish_sums() finds them. Throws Error when this build has no NCCL, or when two ranks use one GPU.
std::unique_ptr<Communicator> join_gpus(std::unique_ptr<Communicator> host, const CommunicatorOptions& options);

}  // namespace entangle
