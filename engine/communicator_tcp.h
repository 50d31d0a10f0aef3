// The communicator over TCP, for launchers that bring no MPI: every two ranks hold a connection (engine/rendezvous.h).
#pragma once

#include <memory>

#include "engine/communicator.h"
#include "engine/launcher.h"

namespace entangle {

// Of the launch's processes. Throws Error as meet() does.
std::unique_ptr<Communicator> join_tcp(const Launched& launch, const CommunicatorOptions& options);

}  // namespace entangle
