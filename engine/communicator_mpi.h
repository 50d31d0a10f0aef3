// The communicator over MPI (engine/communicator_mpi.cpp), for processors; make MPI=1.
#pragma once

#include <memory>

#include "engine/communicator.h"
#include "engine/launcher.h"

namespace entangle {

bool has_mpi();  // whether this build does

// Of MPI_COMM_WORLD. Once for each process. Throws Error when this build has none, or when MPI sees other processes than the
// launcher said: those of another MPI's mpirun.
std::unique_ptr<Communicator> join_mpi(const Launched& launch, const CommunicatorOptions& options);

}  // namespace entangle
