// How processes that no MPI joins find one another: rank 0 waits at the place that the launcher named; all others come
// there, say who they are, and are told where each is; then every two of them hold a connection.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/communicator.h"
#include "engine/launcher.h"
#include "engine/socket.h"

namespace entangle {

// What two ends of a new connection tell each other first.
struct Hello {
  static constexpr uint32_t kVersion = 1;  // of this and of what the communicator sends
  char magic[8] = {'e', 'n', 't', 'a', 'n', 'g', 'l', 'e'};
  uint32_t version = kVersion;
  uint32_t rank = 0, size = 0;
  uint32_t port = 0;  // where ranks that are higher will come to this one; 0 of rank 0
  uint64_t job = 0;
};

// A connection to each rank, at its place; this rank's own is not open. Throws Error that names the ranks that did not come
// in time, or the one that does not belong to them: of another version or number of processes, or a rank that is there
// already; and when nothing can listen, or answers, at the place.
std::vector<Socket> meet(const Launched& launch, const CommunicatorOptions& options);

}  // namespace entangle
