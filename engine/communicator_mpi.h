// The communicator over MPI (engine/communicator_mpi.cpp), for processors; make MPI=1.
#pragma once

#include <memory>

#include "engine/communicator.h"

namespace entangle {

bool has_mpi();  // whether this build does

// Of MPI_COMM_WORLD. Once for each process. Throws Error when this build has no MPI and there is more than one process.
std::unique_ptr<Communicator> join_mpi(const CommunicatorOptions& options);

}  // namespace entangle
