#include "engine/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "engine/check.h"

namespace entangle {
namespace {

constexpr int kLookMs = 20;  // how often whoever waits looks whether it was asked to stop
constexpr int kConnectMs = 2000;

#if defined(MSG_NOSIGNAL)
constexpr int kNoSignal = MSG_NOSIGNAL;  // a connection that is gone is an error of the call, and ends nobody
#else
constexpr int kNoSignal = 0;
#endif

// Never waits, and is no child's.
Socket prepared(int file) {
  Socket socket(file);
  if (socket.open()) {
    fcntl(file, F_SETFD, FD_CLOEXEC);
    fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK);
  }
  return socket;
}

void set(int file, int level, int option, int value) { setsockopt(file, level, option, &value, sizeof value); }

bool poll_one(int file, short events, int milliseconds) {
  pollfd one = {file, events, 0};
  return poll(&one, 1, milliseconds) > 0;
}

// What an unfinished call returned: bytes, 0 to try again, -1 for a lost connection.
ptrdiff_t result_of(ptrdiff_t moved) {
  if (moved > 0) return moved;
  return moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : -1;
}

// Calls move(done) for what is left, waiting in between.
template <class Move>
bool move_all(int file, short event, size_t bytes, Patience& patience, const Move& move) {
  for (size_t done = 0; done < bytes;) {
    const ptrdiff_t moved = move(done);
    if (moved < 0 || (moved == 0 && patience.over())) return false;
    if (moved == 0) poll_one(file, event, kLookMs);
    done += static_cast<size_t>(moved);
  }
  return true;
}

// Of IPv6, and IPv4 with it where the system allows that; else of IPv4.
Socket listen_at(int port, bool this_machine_alone, int family) {
  Socket socket = prepared(::socket(family, SOCK_STREAM, 0));
  if (!socket.open()) return socket;
  set(socket.file(), SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_storage place = {};
  socklen_t length = 0;
  if (family == AF_INET6) {
    set(socket.file(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    auto* any = reinterpret_cast<sockaddr_in6*>(&place);
    any->sin6_family = AF_INET6;
    any->sin6_port = htons(static_cast<uint16_t>(port));
    length = sizeof *any;
  } else {
    auto* any = reinterpret_cast<sockaddr_in*>(&place);
    any->sin_family = AF_INET;
    any->sin_addr.s_addr = htonl(this_machine_alone ? INADDR_LOOPBACK : INADDR_ANY);
    any->sin_port = htons(static_cast<uint16_t>(port));
    length = sizeof *any;
  }
  if (bind(socket.file(), reinterpret_cast<sockaddr*>(&place), length) != 0 || listen(socket.file(), 1024) != 0) {
    const int error = errno;
    socket.close();
    errno = error;
  }
  return socket;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    std::swap(file_, other.file_);
  }
  return *this;
}

void Socket::close() {
  if (file_ >= 0) ::close(file_);
  file_ = -1;
}

ptrdiff_t Socket::send_some(const void* from, size_t bytes) const {
  return result_of(::send(file_, from, bytes, kNoSignal));
}

ptrdiff_t Socket::receive_some(void* to, size_t bytes) const { return result_of(::recv(file_, to, bytes, 0)); }

bool Socket::send_all(const void* from, size_t bytes, Patience& patience) const {
  return move_all(file_, POLLOUT, bytes, patience,
                  [&](size_t done) { return send_some(static_cast<const char*>(from) + done, bytes - done); });
}

bool Socket::receive_all(void* to, size_t bytes, Patience& patience) const {
  return move_all(file_, POLLIN, bytes, patience,
                  [&](size_t done) { return receive_some(static_cast<char*>(to) + done, bytes - done); });
}

std::string Socket::peer() const {
  sockaddr_storage place = {};
  socklen_t length = sizeof place;
  char name[NI_MAXHOST] = {};
  if (getpeername(file_, reinterpret_cast<sockaddr*>(&place), &length) != 0) return "";
  getnameinfo(reinterpret_cast<sockaddr*>(&place), length, name, sizeof name, nullptr, 0, NI_NUMERICHOST);
  return name;
}

int Socket::port() const {
  sockaddr_storage place = {};
  socklen_t length = sizeof place;
  if (getsockname(file_, reinterpret_cast<sockaddr*>(&place), &length) != 0) return 0;
  return ntohs(place.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&place)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&place)->sin_port);
}

Socket listen_at(int port, bool this_machine_alone) {
  if (this_machine_alone) return listen_at(port, true, AF_INET);
  Socket both = listen_at(port, false, AF_INET6);
  return both.open() || errno == EADDRINUSE ? std::move(both) : listen_at(port, false, AF_INET);
}

Socket accept_from(const Socket& listener) {
  Socket socket = prepared(accept(listener.file(), nullptr, nullptr));
  if (socket.open()) set(socket.file(), IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

Socket connect_to(const std::string& host, int port, std::string& reason) {
  addrinfo wanted = {};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int unknown = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &list);
  if (unknown != 0) {
    reason = gai_strerror(unknown);
    return {};
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);
  for (const addrinfo* place = list; place != nullptr; place = place->ai_next) {
    Socket socket = prepared(::socket(place->ai_family, SOCK_STREAM, 0));
    int error = 0;
    if (!socket.open() || connect(socket.file(), place->ai_addr, place->ai_addrlen) != 0) error = errno;
    if (error == EINPROGRESS) {
      socklen_t length = sizeof error;
      if (!poll_one(socket.file(), POLLOUT, kConnectMs)) {
        error = ETIMEDOUT;
      } else if (getsockopt(socket.file(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
        error = errno;
      }
    }
    if (error == 0) {
      set(socket.file(), IPPROTO_TCP, TCP_NODELAY, 1);
      return socket;
    }
    reason = std::strerror(error);
  }
  return {};
}

void wait_for_input(const Socket& socket, int milliseconds) { poll_one(socket.file(), POLLIN, milliseconds); }

}  // namespace entangle
