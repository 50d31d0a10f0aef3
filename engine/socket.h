// TCP connections between the processes of a training. They never block by themselves: whoever waits says how long.
#pragma once

#include <cstddef>
#include <string>

#include "engine/patience.h"

namespace entangle {

// A connection, or a port that is listened at; closed when it goes out of scope.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int file) : file_(file) {}
  Socket(Socket&& other) noexcept : file_(other.file_) { other.file_ = -1; }
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { close(); }

  bool open() const { return file_ >= 0; }
  int file() const { return file_; }
  void close();

  // What goes out, or came in, of `bytes` now: 0 when nothing can; -1 when the connection is lost or was closed.
  ptrdiff_t send_some(const void* from, size_t bytes) const;
  ptrdiff_t receive_some(void* to, size_t bytes) const;
  // All of it: false when the connection is lost or patience is over.
  bool send_all(const void* from, size_t bytes, Patience& patience) const;
  bool receive_all(void* to, size_t bytes, Patience& patience) const;

  std::string peer() const;  // the other end's address, in digits
  int port() const;          // of this end

 private:
  int file_ = -1;
};

// Listens at a port, or for 0 at any free one; for this machine alone, or for all. Not open when that is refused; then
// errno says why.
Socket listen_at(int port, bool this_machine_alone);
// The next connection that has come; not open when none has.
Socket accept_from(const Socket& listener);
// Not open when nobody answers there at once, or within two seconds; `reason` then says so.
Socket connect_to(const std::string& host, int port, std::string& reason);
// Waits until something can be read, but no longer than that.
void wait_for_input(const Socket& socket, int milliseconds);

}  // namespace entangle
