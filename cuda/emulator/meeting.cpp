#include "cuda/emulator/meeting.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/check.h"

namespace entangle::emulator {

Meeting::Meeting(const std::string& name, int ranks, int rank, std::string& fault)
    : name_(name), ranks_(ranks), rank_(rank) {
  constexpr size_t kHeader = (sizeof(Shared) + 4095) / 4096 * 4096;
  const size_t count = static_cast<size_t>(ranks);
  const size_t bytes =
      kHeader + count * kSlotBytes + count * count * sizeof(Mailbox);  // pages that nobody touches are none
  const int file = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);     // zeros, for whoever is first
  void* memory = MAP_FAILED;
  if (file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0) {
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  const int error = errno;
  if (file >= 0) close(file);
  if (memory == MAP_FAILED) {
    fault = concat("cannot share ", bytes, " bytes as ", name, ": ", std::strerror(error));
    return;
  }
  bytes_ = bytes;
  shared_ = static_cast<Shared*>(memory);
  slots_ = static_cast<char*>(memory) + kHeader;
  mailboxes_ = reinterpret_cast<Mailbox*>(slots_ + count * kSlotBytes);
  int32_t size = 0;
  if (!shared_->size.compare_exchange_strong(size, ranks) && size != ranks) {
    fault = concat("rank ", rank, " says that there are ", ranks, " ranks, another one ", size);
  } else if (shared_->ranks[rank].joined.exchange(1) != 0) {
    fault = concat("rank ", rank, " of ", ranks, " joins twice");
  } else {
    joined_ = true;
    if (missing() < 0) shm_unlink(name.c_str());  // it lives as long as it is mapped
  }
}

Meeting::~Meeting() {
  if (shared_ == nullptr) return;
  if (joined_ && missing() >= 0) shm_unlink(name_.c_str());
  munmap(shared_, bytes_);
}

int Meeting::missing() const {
  for (int rank = 0; rank < ranks_; ++rank) {
    if (shared_->ranks[rank].joined.load() == 0) return rank;
  }
  return -1;
}

int Meeting::post_waits_for() const {
  const int64_t own = shared_->ranks[rank_].posted.load();
  for (int rank = 0; rank < ranks_; ++rank) {
    if (shared_->ranks[rank].taken.load(std::memory_order_acquire) < own) return rank;
  }
  return -1;
}

int Meeting::take_waits_for() const {
  const int64_t own = shared_->ranks[rank_].taken.load();
  for (int rank = 0; rank < ranks_; ++rank) {
    if (shared_->ranks[rank].posted.load(std::memory_order_acquire) <= own) return rank;
  }
  return -1;
}

void Meeting::post(const Call& call) {
  shared_->ranks[rank_].call = call;
  shared_->ranks[rank_].posted.fetch_add(1, std::memory_order_release);
}

void Meeting::taken() { shared_->ranks[rank_].taken.fetch_add(1, std::memory_order_release); }

}  // namespace entangle::emulator
