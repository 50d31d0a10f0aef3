// The processes that train one supernet together, and what they tell one another.
//
// A launcher starts them: `mpirun -n 4 ./train_supernet`, torchrun, or Slurm's srun (engine/launcher.h). Every process runs
// the same program; they differ in their rank alone. All calls below are collective: every rank makes the same ones in the
// same order. A rank that does not answer ends every call that waits for it with an Error, never a wait without end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/kernel.h"

namespace entangle {

// When a rank counts as lost.
struct CommunicatorOptions {
  double timeout = 60;  // seconds without an answer after which a rank counts as lost
  // Launchers ask the ranks that are left to stop when one has died: from then on the others have to answer soon.
  std::function<bool()> asked_to_stop;
  double timeout_when_asked = 10;  // seconds
};

// What a process sees of all that train together, itself included.
class Communicator {
 public:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }  // the one that writes files and talks to the user

  // Every rank's `bytes` bytes, in the order of the ranks: all [size, bytes]. Throws Error naming the ranks that did not
  // answer in time.
  virtual void gather(const void* own, size_t bytes, void* all) = 0;
  template <class T>
  std::vector<T> gather(const T& own) {
    std::vector<T> all(static_cast<size_t>(size_));
    gather(&own, sizeof(T), all.data());
    return all;
  }

  // Where the numbers of sums and swaps lie.
  virtual DeviceKind device() const { return DeviceKind::cpu; }

  // Begins to replace values[0 .. count) by their sums over all ranks, the same bits on each; the memory belongs to the sum
  // until finish_sums(), which waits for all that began; on a GPU, what is launched from then on does.
  virtual void start_sum(float* values, int64_t count) = 0;
  // The same of bf16 numbers (engine/bf16.h): on processors all ranks' are added in fp32, in the order of the ranks, and the
  // sum is rounded once; on GPUs every addition may be rounded, in any order. Where a communicator has nothing better, it is
  // done before the call returns.
  virtual void start_sum(uint16_t* values, int64_t count);
  virtual void finish_sums() = 0;
  // Waits until the sums of the last finish_sums() are there, on a GPU as well: to be called before the host waits for
  // anything that was launched behind them, since a rank that is lost is noticed here.
  virtual void settle_sums() {}
  // Lets the sums under way go on, without waiting: to be called now and then between other work.
  virtual void progress() {}

  // Gives `count` numbers to rank `other` and takes as many from it, which calls the same with this rank; on a GPU, what is
  // launched from then on finds them.
  virtual void swap(int other, const float* own, float* others, int64_t count) = 0;

 private:
  const int rank_, size_;
};

// A process alone.
class SingleProcess : public Communicator {
 public:
  SingleProcess() : Communicator(0, 1) {}
  using Communicator::gather;
  void gather(const void* own, size_t bytes, void* all) override;
  void start_sum(float*, int64_t) override {}
  void start_sum(uint16_t*, int64_t) override {}
  void finish_sums() override {}
  void swap(int other, const float* own, float* others, int64_t count) override;
};

// sums[i] = the sum of all[r * stride + i] over r = 0 .. ranks - 1 in this order, bf16 numbers added in fp32 and rounded once.
// `sums` may be a part of `all`.
void sum_bf16(const uint16_t* all, int ranks, int64_t stride, int64_t count, uint16_t* sums);

// The processes of the launcher that started this one, over MPI under mpirun, else over TCP; a process alone when none did.
// Several that sum numbers on `device` cuda do so over NCCL. Once for each process. Throws Error when they cannot be joined.
std::unique_ptr<Communicator> join_processes(const CommunicatorOptions& options = {},
                                             DeviceKind device = DeviceKind::cpu);

}  // namespace entangle
