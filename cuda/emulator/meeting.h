// Where the ranks of a communicator meet: memory of the system that their processes share.
//
// Each rank has a slot. A rank posts: it says what it was called for and puts a piece of its data into its slot. When
// all have posted, each takes what it needs from all slots. When all have taken, the next piece may be posted.
// From each rank to each there is a mailbox besides, for one piece at a time that is for one rank alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace entangle::emulator {

// What a rank was called for; all must say the same.
struct Call {
  int32_t kind, type, op, root;
  uint64_t count;
};
inline bool same(const Call& a, const Call& b) {
  return a.kind == b.kind && a.type == b.type && a.op == b.op && a.root == b.root && a.count == b.count;
}

class Meeting {
 public:
  static constexpr int kMostRanks = 64;
  static constexpr size_t kSlotBytes = size_t{1} << 18, kMailBytes = size_t{1} << 16;

  // Joins by a name that the ranks agreed on. `fault` says why it cannot be.
  Meeting(const std::string& name, int ranks, int rank, std::string& fault);
  ~Meeting();
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  int ranks() const { return ranks_; }
  int rank() const { return rank_; }
  // The first rank that has not joined, or -1.
  int missing() const;

  // Whether this rank may post, or take; else the first rank that it waits for.
  int post_waits_for() const;
  int take_waits_for() const;
  char* own_slot() { return slot(rank_); }
  void post(const Call& call);
  const Call& call(int rank) const { return shared_->ranks[rank].call; }
  char* slot(int rank) const { return slots_ + static_cast<size_t>(rank) * kSlotBytes; }
  void taken();

  // Of one rank to another; `call` and `bytes` belong to the piece in it.
  struct Mailbox {
    std::atomic<int64_t> posted, taken;  // pieces so far
    Call call;
    char bytes[kMailBytes];
  };
  Mailbox& mailbox(int from, int to) const { return mailboxes_[from * ranks_ + to]; }

 private:
  struct Rank {
    std::atomic<int32_t> joined;
    std::atomic<int64_t> posted, taken;  // pieces so far
    Call call;
  };
  struct Shared {
    std::atomic<int32_t> size;  // ranks
    Rank ranks[kMostRanks];
  };

  std::string name_;
  int ranks_, rank_;
  bool joined_ = false;
  size_t bytes_ = 0;
  Shared* shared_ = nullptr;
  char* slots_ = nullptr;
  Mailbox* mailboxes_ = nullptr;  // [from, to]
};

}  // namespace entangle::emulator
