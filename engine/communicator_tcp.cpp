// Sums go round a ring: of n parts of the numbers, rank r sends part r to r + 1, adds to what it has what comes from r - 1,
// and sends that on. After n - 1 such steps each rank has the sum of one part, which goes round in n - 1 more. So all get the
// same bits, and each number passes a connection 2 (n - 1) / n times. Sums that have begun are under way side by side.
#include "engine/communicator_tcp.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <string>
#include <utility>

#include "engine/check.h"
#include "engine/patience.h"
#include "engine/rendezvous.h"

namespace entangle {
namespace {

constexpr int kLookMs = 20;  // how often whoever waits looks whether it was asked to stop

// What precedes bytes on a connection.
struct Frame {
  enum Kind : uint32_t { kMessage, kSum };
  uint32_t kind = kMessage;
  uint32_t step = 0;   // of a sum: 0 .. 2 (n - 1) - 1
  uint64_t sum = 0;    // its number
  uint64_t bytes = 0;  // that follow
};

// Bytes that go out behind their frame; they stay where they are until then.
struct Outgoing {
  Frame frame;
  const char* bytes = nullptr;
  size_t sent = 0;  // of both
};

// A message that is waited for.
struct Wanted {
  char* to = nullptr;
  size_t bytes = 0;
};

// The other end of a connection.
struct Peer {
  Socket socket;
  std::deque<Outgoing> out;
  size_t unsent = 0;          // messages of those; the others are parts of sums
  std::deque<Wanted> wanted;  // messages, in the order in which they come
  Frame frame;                // that is being read, or whose bytes are
  size_t received = 0;        // of both
  char* to = nullptr;         // where the bytes go; null: not known yet
  bool waits = false;         // the frame is of a call that this rank has not come to
  bool lost = false;
};

struct Sum {
  float* values = nullptr;
  int64_t count = 0;
  uint32_t step = 0;  // the next that comes
  std::vector<float> part;
};

class TcpCommunicator : public Communicator {
 public:
  TcpCommunicator(const Launched& launch, const CommunicatorOptions& options)
      : Communicator(launch.rank, launch.size), options_(options), peers_(static_cast<size_t>(launch.size)) {
    std::vector<Socket> sockets = meet(launch, options);
    for (size_t i = 0; i < sockets.size(); ++i) peers_[i].socket = std::move(sockets[i]);
  }

  // A last word, so that nobody who still waits for others finds this connection closed. Whoever has failed says none.
  ~TcpCommunicator() override {
    if (failed_ || std::uncaught_exceptions() > 0) return;
    try {
      Communicator::gather(0);
    } catch (const Error&) {
      // Nothing is waited for any more.
    }
  }

  void gather(const void* own, size_t bytes, void* all) override {
    for (int other = 0; other < size(); ++other) {
      char* place = static_cast<char*>(all) + static_cast<size_t>(other) * bytes;
      if (other == rank()) {
        std::memcpy(place, own, bytes);
      } else {
        exchange(other, own, place, bytes);
      }
    }
    wait(told, "");
  }

  void start_sum(float* values, int64_t count) override {
    CHECK(count >= 0, "a sum over ", count, " numbers");
    if (count == 0) return;
    sums_.push_back({values, count, 0, std::vector<float>(static_cast<size_t>(part_begin(count, 1)) + 1)});
    send_part(sums_.back(), next_sum_++);
    turn(0);
  }

  void finish_sums() override {
    const auto done = [this](const Peer& peer) {
      return peer.out.empty() && (&peer != &left() || std::all_of(sums_.begin(), sums_.end(), [this](const Sum& sum) {
               return sum.step == steps();
             }));
    };
    wait(done, "a rank is lost or hangs in the sum of the gradients");
    sums_.clear();
  }

  void progress() override {
    if (!sums_.empty()) turn(0);
  }

  void swap(int other, const float* own, float* others, int64_t count) override {
    if (count == 0) return;
    exchange(other, own, others, static_cast<size_t>(count) * sizeof(float));
    wait([this, other](const Peer& peer) { return &peer != &this->peer(other) || told(peer); },
         concat("rank ", other, " is lost or hangs"));
  }

 private:
  // No message to it, or from it, is under way.
  static bool told(const Peer& peer) { return peer.wanted.empty() && peer.unsent == 0; }
  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }
  Peer& left() { return peer((rank() + size() - 1) % size()); }
  uint32_t steps() const { return 2 * static_cast<uint32_t>(size() - 1); }
  int64_t part_begin(int64_t count, int64_t part) const { return (count * part + size() - 1) / size(); }
  // The part that goes out in a step is the one that came in the step before.
  float* part_of(const Sum& sum, int64_t part, size_t& bytes) const {
    const int64_t number = (part % size() + size()) % size(), begin = part_begin(sum.count, number);
    bytes = static_cast<size_t>(part_begin(sum.count, number + 1) - begin) * sizeof(float);
    return sum.values + begin;
  }

  void exchange(int other, const void* own, void* others, size_t bytes) {
    peer(other).wanted.push_back({static_cast<char*>(others), bytes});
    Frame frame;
    frame.bytes = bytes;
    ++peer(other).unsent;
    send(peer(other), frame, own);
  }

  void send_part(const Sum& sum, uint64_t number) {
    size_t bytes = 0;
    const float* part = part_of(sum, rank() - static_cast<int64_t>(sum.step), bytes);
    send(peer((rank() + 1) % size()), {Frame::kSum, sum.step, number, bytes}, part);
  }

  void send(Peer& to, const Frame& frame, const void* bytes) {
    to.out.push_back({frame, static_cast<const char*>(bytes), 0});
    write(to);
  }

  // What can go out now.
  void write(Peer& to) {
    while (!to.out.empty() && !to.lost) {
      Outgoing& first = to.out.front();
      const size_t head = sizeof(Frame), whole = head + first.frame.bytes;
      const bool in_frame = first.sent < head;
      const char* from =
          in_frame ? reinterpret_cast<const char*>(&first.frame) + first.sent : first.bytes + first.sent - head;
      const ptrdiff_t moved = to.socket.send_some(from, (in_frame ? head : whole) - first.sent);
      if (moved < 0) to.lost = true;
      if (moved <= 0) return;
      first.sent += static_cast<size_t>(moved);
      if (first.sent < whole) continue;
      if (first.frame.kind == Frame::kMessage) --to.unsent;
      to.out.pop_front();
    }
  }

  // What has come, as far as its place is known.
  void read(Peer& from) {
    const size_t head = sizeof(Frame);
    while (!from.lost) {
      if (from.received < head) {
        if (!receive(from, reinterpret_cast<char*>(&from.frame) + from.received, head - from.received)) return;
        if (from.received < head) continue;
      }
      if (from.to == nullptr) from.to = place_of(from);
      from.waits = from.to == nullptr;
      if (from.waits) return;
      const size_t whole = head + from.frame.bytes;
      if (from.received < whole && !receive(from, from.to + from.received - head, whole - from.received)) return;
      if (from.received == whole) finish_frame(from);
    }
  }

  bool receive(Peer& from, char* to, size_t bytes) {
    const ptrdiff_t moved = from.socket.receive_some(to, bytes);
    from.lost = moved < 0;
    if (moved > 0) from.received += static_cast<size_t>(moved);
    return moved > 0;
  }

  // Where the bytes of the frame go; null when this rank has not come to the call that it belongs to.
  char* place_of(Peer& from) {
    size_t bytes = 0;
    char* place = nullptr;
    if (from.frame.kind == Frame::kMessage) {
      if (from.wanted.empty()) return nullptr;
      bytes = from.wanted.front().bytes;
      place = from.wanted.front().to;
    } else {
      if (from.frame.sum >= next_sum_) return nullptr;
      Sum& sum = sums_[sum_index(from)];
      float* part = part_of(sum, rank() - static_cast<int64_t>(sum.step) - 1, bytes);
      place = reinterpret_cast<char*>(adds(sum) ? sum.part.data() : part);
    }
    failed_ = failed_ || bytes != from.frame.bytes;
    CHECK(bytes == from.frame.bytes, "rank ", &from - peers_.data(), " sends ", from.frame.bytes, " bytes where ",
          bytes, " are expected: it does something else than rank ", rank());
    return place;
  }

  bool adds(const Sum& sum) const { return sum.step < steps() / 2; }

  size_t sum_index(const Peer& from) const {
    const uint64_t first = next_sum_ - sums_.size();
    CHECK(from.frame.sum >= first && sums_[from.frame.sum - first].step == from.frame.step, "rank ",
          &from - peers_.data(), " is at another step of a sum than rank ", rank());
    return static_cast<size_t>(from.frame.sum - first);
  }

  void finish_frame(Peer& from) {
    if (from.frame.kind == Frame::kMessage) {
      from.wanted.pop_front();
    } else {
      Sum& sum = sums_[sum_index(from)];
      if (adds(sum)) {
        size_t bytes = 0;
        float* part = part_of(sum, rank() - static_cast<int64_t>(sum.step) - 1, bytes);
        for (size_t i = 0; i < bytes / sizeof(float); ++i) part[i] += sum.part[i];
      }
      if (++sum.step < steps()) send_part(sum, from.frame.sum);
    }
    from.received = 0;
    from.to = nullptr;
  }

  // Moves what can move, after waiting for that so long at most.
  void turn(int milliseconds) {
    for (Peer& peer : peers_) {
      if (peer.waits) read(peer);  // this rank may have come to that call
    }
    std::vector<pollfd> files;
    std::vector<Peer*> of;
    for (Peer& peer : peers_) {
      if (!peer.socket.open() || peer.lost) continue;
      const int events = (peer.waits ? 0 : POLLIN) | (peer.out.empty() ? 0 : POLLOUT);
      files.push_back({peer.socket.file(), static_cast<short>(events), 0});
      of.push_back(&peer);
    }
    if (poll(files.data(), files.size(), milliseconds) <= 0) return;
    for (size_t i = 0; i < files.size(); ++i) {
      if ((files[i].revents & POLLOUT) != 0) write(*of[i]);
      if ((files[i].revents & ~POLLOUT) != 0) read(*of[i]);
    }
  }

  // Until `done` says so of every other rank. `what` to say on a time-out; empty: the ranks that are not done are named.
  template <class Done>
  void wait(const Done& done, const std::string& what) {
    Patience patience(options_);
    while (true) {
      turn(0);
      std::vector<int> missing, lost;
      for (int other = 0; other < size(); ++other) {
        if (other == rank() || (done(peer(other)) && (sums_.empty() || !peer(other).lost))) continue;
        missing.push_back(other);
        if (peer(other).lost) lost.push_back(other);
      }
      if (missing.empty()) return;
      failed_ = !lost.empty() || patience.over();
      CHECK(lost.empty(), name_ranks(lost, size()), " is lost: its connection was closed");
      CHECK(!failed_, what.empty() ? name_ranks(missing, size()) + " is lost or hangs" : what,
            no_answer_within(options_));
      turn(kLookMs);
    }
  }

  const CommunicatorOptions options_;
  std::vector<Peer> peers_;
  std::deque<Sum> sums_;  // those that began after the last finish_sums()
  uint64_t next_sum_ = 0;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<Communicator> join_tcp(const Launched& launch, const CommunicatorOptions& options) {
  return std::make_unique<TcpCommunicator>(launch, options);
}

}  // namespace entangle
