#include "engine/rendezvous.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "engine/check.h"
#include "engine/patience.h"

namespace entangle {
namespace {

constexpr int kPortsBehind = 16;     // that are tried where the launcher itself has the one it names
constexpr double kHelloSeconds = 5;  // a stranger that says nothing keeps nobody longer
constexpr int kLookMs = 20;

// Where a rank waits for those that are higher than it.
struct Place {
  char host[64] = {};
  uint32_t port = 0;
};

bool is_loopback(const std::string& address) {
  return address.rfind("127.", 0) == 0 || address == "::1" || address.rfind("::ffff:127.", 0) == 0;
}

class Rendezvous {
 public:
  Rendezvous(const Launched& launch, const CommunicatorOptions& options)
      : launch_(launch),
        options_(options),
        patience_(options_),
        alone_(launch.host == "localhost" || is_loopback(launch.host)),
        where_(concat(launch.host, ":", launch.port)),
        sockets_(static_cast<size_t>(launch.size)) {}

  std::vector<Socket> meet() {
    if (launch_.rank == 0) {
      wait_for_all();
    } else {
      go_to_first();
      meet_the_others();
    }
    return std::move(sockets_);
  }

 private:
  Socket& socket(uint32_t rank) { return sockets_[rank]; }
  uint32_t size() const { return static_cast<uint32_t>(launch_.size); }
  uint32_t rank() const { return static_cast<uint32_t>(launch_.rank); }
  int first_port() const { return launch_.port + (launch_.port_is_taken ? 1 : 0); }
  int ports() const { return launch_.port_is_taken ? kPortsBehind : 1; }

  Hello own_hello(int port) const {
    Hello hello;
    hello.rank = rank();
    hello.size = size();
    hello.port = static_cast<uint32_t>(port);
    hello.job = launch_.job;
    return hello;
  }

  // Whether it came from a process of the same launch; that it fits is checked here.
  bool take_hello(const Socket& from, Hello& hello) {
    CommunicatorOptions brief = options_;
    brief.timeout = std::min(options_.timeout, kHelloSeconds);
    Patience patience(brief);
    if (!from.receive_all(&hello, sizeof hello, patience)) return false;
    const Hello own = own_hello(0);
    if (std::memcmp(hello.magic, own.magic, sizeof own.magic) != 0) return false;
    CHECK(hello.version == own.version, "a process at ", from.peer(), " is of another version of this program (",
          hello.version, ", not ", own.version, "): all must run the same build");
    if (hello.job != own.job) return false;
    CHECK(hello.size == own.size, "rank ", hello.rank, " at ", from.peer(), " was started as one of ", hello.size,
          " processes, rank ", rank(), " as one of ", own.size, ": start all alike");
    return true;
  }

  // Accepts until the ranks from `first` on are here.
  void accept_from_rank(uint32_t first, const Socket& listener, std::vector<Hello>* hellos) {
    for (uint32_t here = first; here < size();) {
      Socket next = accept_from(listener);
      if (!next.open()) {
        if (patience_.over()) give_up(first);
        wait_for_input(listener, kLookMs);
        continue;
      }
      Hello hello;
      const Hello own = own_hello(0);
      if (!next.send_all(&own, sizeof own, patience_) || !take_hello(next, hello)) continue;
      CHECK(hello.rank >= first && hello.rank < size(), "a process at ", next.peer(), " says that it is rank ",
            hello.rank, ", but rank ", rank(), " waits for ranks ", first, " .. ", size() - 1);
      CHECK(!socket(hello.rank).open(), "two processes say that they are rank ", hello.rank, ", at ",
            socket(hello.rank).peer(), " and at ", next.peer());
      socket(hello.rank) = std::move(next);
      if (hellos != nullptr) (*hellos)[hello.rank] = hello;
      ++here;
    }
  }

  [[noreturn]] void give_up(uint32_t first) {
    std::vector<int> missing;
    for (uint32_t other = first; other < size(); ++other) {
      if (!socket(other).open()) missing.push_back(static_cast<int>(other));
    }
    RAISE(name_ranks(missing, launch_.size), " did not come to rank ", rank(), rank() == 0 ? " at " + where_ : "",
          no_answer_within(options_));
  }

  void wait_for_all() {
    Socket listener;
    for (int i = 0; i < ports() && !listener.open(); ++i) listener = listen_at(first_port() + i, alone_);
    CHECK(listener.open(), "rank 0 cannot wait for the others at port ", first_port(),
          ports() > 1 ? concat(" or the ", ports() - 1, " behind it") : "", ": ", std::strerror(errno),
          "; set MASTER_PORT to a free one");
    std::vector<Hello> hellos(size());
    accept_from_rank(1, listener, &hellos);
    std::vector<Place> places(size());
    for (uint32_t other = 1; other < size(); ++other) {
      const std::string address = socket(other).peer();
      std::strncpy(places[other].host, address.c_str(), sizeof places[other].host - 1);
      places[other].port = hellos[other].port;
    }
    for (uint32_t other = 1; other < size(); ++other) {
      CHECK(socket(other).send_all(places.data(), places.size() * sizeof(Place), patience_), "rank ", other,
            " came, and is lost again");
    }
  }

  // Tries again until rank 0 is there: it may come later than we do.
  void go_to_first() {
    listener_ = listen_at(0, alone_);
    CHECK(listener_.open(), "rank ", rank(), " cannot listen at any port: ", std::strerror(errno));
    const Hello own = own_hello(listener_.port());
    std::string reason = "nothing answers";
    for (int i = 0; !socket(0).open(); i = (i + 1) % ports()) {
      Socket first = connect_to(launch_.host, first_port() + i, reason);
      Hello hello;
      if (first.open() && first.send_all(&own, sizeof own, patience_)) {
        reason = "what answers there is no rank 0 of this training";
        if (take_hello(first, hello) && hello.rank == 0) socket(0) = std::move(first);
      }
      if (socket(0).open()) break;
      CHECK(!patience_.over(), "rank ", rank(), " does not find rank 0 at ", where_, ": ", reason,
            no_answer_within(options_));
      std::this_thread::sleep_for(std::chrono::milliseconds(kLookMs));
    }
  }

  // Goes to the lower ones, whom rank 0 knows, and waits for the higher ones.
  void meet_the_others() {
    std::vector<Place> places(size());
    CHECK(socket(0).receive_all(places.data(), places.size() * sizeof(Place), patience_), "rank 0 at ", where_,
          patience_.over() ? " has not said that all have come" + no_answer_within(options_)
                           : " has given up; its own message says why");
    for (uint32_t other = 1; other < rank(); ++other) {
      // Whoever came to rank 0 over its own machine's loopback is where rank 0 is.
      const std::string host = is_loopback(places[other].host) ? socket(0).peer() : places[other].host;
      const int port = static_cast<int>(places[other].port);
      std::string reason;
      const Hello own = own_hello(0);
      Hello hello;
      Socket to = connect_to(host, port, reason);
      const bool answers =
          to.open() && to.send_all(&own, sizeof own, patience_) && to.receive_all(&hello, sizeof hello, patience_);
      CHECK(answers && hello.rank == other, "rank ", rank(), " does not reach rank ", other, " at ", host, ":", port,
            reason.empty() ? "" : ": ", reason);
      socket(other) = std::move(to);
    }
    accept_from_rank(rank() + 1, listener_, nullptr);
  }

  const Launched launch_;
  const CommunicatorOptions options_;
  Patience patience_;
  const bool alone_;  // on this machine
  const std::string where_;
  std::vector<Socket> sockets_;
  Socket listener_;  // of all but rank 0
};

}  // namespace

std::vector<Socket> meet(const Launched& launch, const CommunicatorOptions& options) {
  CHECK(!launch.host.empty() && launch.port > 0, launch.launcher, " started ", launch.size,
        " processes, but not where rank 0 waits for the others: set MASTER_ADDR to its machine, such as 127.0.0.1, and "
        "MASTER_PORT to a free port there");
  return Rendezvous(launch, options).meet();
}

}  // namespace entangle
