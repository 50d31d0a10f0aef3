#include "cuda/emulator/point.h"

#include <algorithm>
#include <cstring>

#include "cuda/emulator/memory.h"
#include "cuda/emulator/streams.h"
#include "engine/check.h"

namespace entangle::emulator {

namespace {

constexpr size_t kPiece = Meeting::kMailBytes;

// A step that works once `ready`, or at once when the communicator was aborted, and then does nothing.
Step step_of(const Point& p, const std::function<std::string()>& run, const std::function<bool()>& ready) {
  const auto aborted = [communicator = p.communicator] { return communicator->aborted; };
  return {[=] { return aborted() ? std::string() : run(); }, [=] { return aborted() || ready(); },
          [p] { return concat("rank ", p.communicator->meeting.rank(), " waits in ", p.text()); }};
}

// Appends the steps of piece `offset`: posts, takings, and last the waiting of senders until theirs were taken.
void add_steps(const std::vector<Point>& points, size_t offset, std::vector<Step>& steps) {
  const auto for_each = [&](bool sends, const auto& add) {
    for (const Point& p : points) {
      if (p.sends == sends && offset < p.bytes()) add(p);
    }
  };
  const auto is_empty = [](const Point& p) { return p.mailbox().taken.load() == p.mailbox().posted.load(); };
  for_each(true, [&](const Point& p) {
    steps.push_back(step_of(
        p, [=] { return p.post(offset); }, [=] { return is_empty(p); }));
  });
  for_each(false, [&](const Point& p) {
    steps.push_back(step_of(
        p, [=] { return p.take(offset); }, [=] { return !is_empty(p); }));
  });
  for_each(true, [&](const Point& p) {
    steps.push_back(step_of(
        p, [] { return std::string(); }, [=] { return is_empty(p); }));
  });
}

}  // namespace

std::string Point::text() const {
  return concat(name(), " of ", count, " ", name_of_type(type), sends ? " to" : " from", " rank ", peer);
}

Meeting::Mailbox& Point::mailbox() const {
  const Meeting& meeting = communicator->meeting;
  return sends ? meeting.mailbox(meeting.rank(), peer) : meeting.mailbox(peer, meeting.rank());
}

std::string Point::fault() const {
  if (is_device_memory(memory, bytes())) return "";
  return concat(name(), ": ", bytes(), " bytes are no device memory, or leave it");
}

std::string Point::post(size_t offset) const {
  const size_t piece = std::min(kPiece, bytes() - offset);
  if (!is_written(memory + offset, piece)) {
    return concat(name(), ": sends what nobody has written, in bytes ", offset, " to ", offset + piece, " of ",
                  bytes());
  }
  mailbox().call = {0, type, 0, 0, count};
  std::memcpy(mailbox().bytes, memory + offset, piece);
  mailbox().posted.fetch_add(1, std::memory_order_release);
  return "";
}

std::string Point::take(size_t offset) const {
  const Call& sent = mailbox().call;
  if (sent.type != type || sent.count != count) {
    return concat("rank ", communicator->meeting.rank(), " calls ", text(), ", which sends ", sent.count, " ",
                  name_of_type(sent.type));
  }
  const size_t piece = std::min(kPiece, bytes() - offset);
  std::memcpy(memory + offset, mailbox().bytes, piece);
  note_written(memory + offset, piece);
  mailbox().taken.fetch_add(1, std::memory_order_release);
  return "";
}

ncclResult_t enqueue_points(const std::vector<Point>& points, cudaStream_t stream) {
  Operation operation;
  size_t most = 0;
  for (const Point& p : points) {
    if (p.count == 0) continue;
    const std::string fault = p.fault();
    if (!fault.empty()) {
      report_fault(fault);
      return ncclUnhandledCudaError;
    }
    operation.name += concat(operation.name.empty() ? "" : " and ", p.name());
    operation.accesses.push_back({-p.communicator->id, true});
    operation.accesses.push_back({find_allocation(p.memory)->id, !p.sends});
    most = std::max(most, p.bytes());
  }
  for (size_t offset = 0; offset < most; offset += kPiece) add_steps(points, offset, operation.steps);
  if (operation.steps.empty()) return ncclSuccess;
  return enqueue(stream, std::move(operation)) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

}  // namespace entangle::emulator
