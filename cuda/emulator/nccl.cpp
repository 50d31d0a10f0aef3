// The emulated NCCL: groups, communicators, and how a collective gets onto a stream: as a sequence of pieces; for each, a
// step that posts and a step that takes.
#include "cuda/emulator/nccl.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "cuda/emulator/collective.h"
#include "cuda/emulator/emulator.h"
#include "cuda/emulator/memory.h"
#include "cuda/emulator/point.h"
#include "cuda/emulator/streams.h"
#include "engine/check.h"

struct ncclComm {
  std::shared_ptr<entangle::emulator::Communicator> communicator;
};

namespace entangle::emulator {

namespace {

struct Group {
  int depth = 0;
  std::vector<std::function<ncclResult_t()>> calls;  // to be done at its end
  std::map<cudaStream_t, std::vector<Point>> points;
};
Group group;
std::vector<ncclComm*> communicators;
int64_t next_id = 1;

// Reads and writes the communicator, too: two streams that use it are to be ordered.
std::vector<Access> accesses_of(const Collective& c) {
  std::vector<Access> accesses = {{-c.communicator->id, true}, {find_allocation(c.receive)->id, true}};
  if (c.sends()) accesses.push_back({find_allocation(c.send)->id, false});
  return accesses;
}

ncclResult_t enqueue_collective(const Collective& c, cudaStream_t stream) {
  const std::string fault = c.fault();
  if (!fault.empty()) {
    report_fault(fault);
    return ncclUnhandledCudaError;
  }
  const size_t whole = std::max(c.send_bytes(), size_t{1});
  Operation operation = {name_of_kind(c.call.kind), accesses_of(c), {}};
  for (size_t offset = 0; offset < whole; offset += Meeting::kSlotBytes) {
    const size_t bytes = std::min(Meeting::kSlotBytes, c.send_bytes() - offset);
    const auto unless_aborted = [c](const std::function<std::string()>& run) {
      return [c, run] { return c.communicator->aborted ? std::string() : run(); };
    };
    operation.steps.push_back({unless_aborted([=] { return c.post(offset, bytes); }),
                               [=] { return c.communicator->aborted || c.meeting().post_waits_for() < 0; },
                               [=] { return c.waits(c.meeting().post_waits_for()); }});
    operation.steps.push_back({unless_aborted([=] { return c.take(offset, bytes); }),
                               [=] { return c.communicator->aborted || c.meeting().take_waits_for() < 0; },
                               [=] { return c.waits(c.meeting().take_waits_for()); }});
  }
  return enqueue(stream, std::move(operation)) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t now_or_at_the_end(std::function<ncclResult_t()> call) {
  if (group.depth == 0) return call();
  group.calls.push_back(std::move(call));
  return ncclSuccess;
}

// Whether the process drives another rank of the same communicator.
bool has_sibling(const Communicator& communicator) {
  return std::count_if(communicators.begin(), communicators.end(),
                       [&](const ncclComm* comm) { return comm->communicator->name == communicator.name; }) > 1;
}

bool is_communicator(ncclComm_t comm) {
  return std::find(communicators.begin(), communicators.end(), comm) != communicators.end();
}

ncclResult_t collective(const Call& call, const void* send, void* receive, ncclComm_t comm, cudaStream_t stream) {
  if (has_fault()) return ncclUnhandledCudaError;
  if (!is_communicator(comm)) return ncclInvalidArgument;
  const Collective c = {comm->communicator, call, static_cast<const char*>(send), static_cast<char*>(receive)};
  const bool valid = size_of(call.type) > 0 && call.op >= ncclSum && call.op <= ncclAvg && call.root >= 0 &&
                     call.root < c.meeting().ranks();
  if (!valid) return ncclInvalidArgument;
  if (call.count == 0) return ncclSuccess;
  if (group.depth == 0 && has_sibling(*c.communicator)) {
    report_fault(
        concat(name_of_kind(call.kind),
               ": one process calls for several ranks; put the calls between ncclGroupStart and ncclGroupEnd"));
    return ncclInvalidUsage;
  }
  return now_or_at_the_end([c, stream] { return enqueue_collective(c, stream); });
}

ncclResult_t point(bool sends, const void* memory, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                   cudaStream_t stream) {
  if (has_fault()) return ncclUnhandledCudaError;
  if (!is_communicator(comm)) return ncclInvalidArgument;
  const Point p = {comm->communicator, sends, peer, type, count, static_cast<char*>(const_cast<void*>(memory))};
  if (size_of(type) == 0 || peer < 0 || peer >= comm->communicator->meeting.ranks()) return ncclInvalidArgument;
  if (group.depth == 0) return enqueue_points({p}, stream);
  group.points[stream].push_back(p);
  return ncclSuccess;
}

ncclResult_t wait_for_ranks(const std::shared_ptr<Communicator>& communicator) {
  const auto start = std::chrono::steady_clock::now();
  while (communicator->meeting.missing() >= 0) {
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > device_model().patience) {
      report_fault(concat("ncclCommInitRank: rank ", communicator->meeting.rank(), " of ",
                          communicator->meeting.ranks(), " waits for rank ", communicator->meeting.missing(),
                          ", which did not come in ", device_model().patience, " s"));
      return ncclSystemError;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return ncclSuccess;
}

}  // namespace
}  // namespace entangle::emulator

using namespace entangle::emulator;

const char* ncclGetErrorString(ncclResult_t result) {
  if (result != ncclSuccess && has_fault()) return cudaGetErrorString(cudaErrorLaunchFailure);
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int number = 0;
  const auto time = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::string name = entangle::concat("/entangle-", getpid(), "-", time, "-", number++);
  std::memset(id->internal, 0, sizeof id->internal);
  std::memcpy(id->internal, name.data(), std::min(name.size(), sizeof id->internal - 1));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  return ncclCommInitRankConfig(comm, ranks, id, rank, &config);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  *comm = nullptr;
  if (has_fault()) return ncclUnhandledCudaError;
  if (ranks < 1 || ranks > Meeting::kMostRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  if (id.internal[0] != '/' || id.internal[sizeof id.internal - 1] != '\0') return ncclInvalidArgument;
  std::string fault;
  const auto communicator = std::make_shared<Communicator>(id.internal, ranks, rank, next_id++, fault);
  if (!fault.empty()) {
    report_fault("ncclCommInitRank: " + fault);
    return ncclSystemError;
  }
  *comm = new ncclComm{communicator};
  communicators.push_back(*comm);
  if (config->blocking == 0) return communicator->meeting.missing() < 0 ? ncclSuccess : ncclInProgress;
  return now_or_at_the_end([communicator] { return wait_for_ranks(communicator); });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = has_fault()                                  ? ncclUnhandledCudaError
           : comm->communicator->meeting.missing() >= 0 ? ncclInProgress
                                                        : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!is_communicator(comm)) return ncclInvalidArgument;
  comm->communicator->aborted = true;
  return ncclCommDestroy(comm);
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return has_fault() ? ncclUnhandledCudaError : ncclSuccess; }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const auto found = std::find(communicators.begin(), communicators.end(), comm);
  if (found == communicators.end()) return ncclInvalidArgument;
  communicators.erase(found);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  *count = comm->communicator->meeting.ranks();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  *rank = comm->communicator->meeting.rank();
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0) return ncclSuccess;
  std::vector<std::function<ncclResult_t()>> calls;
  calls.swap(group.calls);
  ncclResult_t first = ncclSuccess;
  for (const auto& call : calls) {
    const ncclResult_t result = call();
    if (first == ncclSuccess) first = result;
  }
  std::map<cudaStream_t, std::vector<Point>> points;
  points.swap(group.points);
  for (const auto& [stream, of_stream] : points) {
    const ncclResult_t result = enqueue_points(of_stream, stream);
    if (first == ncclSuccess) first = result;
  }
  return first;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective({all_reduce, type, op, 0, count}, send, receive, comm, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective({broadcast, type, 0, root, count}, send, receive, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return collective({all_gather, type, 0, 0, count}, send, receive, comm, stream);
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return point(true, send, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return point(false, receive, count, type, peer, comm, stream);
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return collective({reduce_scatter, type, op, 0, count}, send, receive, comm, stream);
}
