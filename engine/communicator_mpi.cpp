#include "engine/communicator_mpi.h"

#include "engine/check.h"

#if defined(ENTANGLE_MPI)

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "engine/patience.h"

namespace entangle {
namespace {

#define MPI_CHECK(call)                                                         \
  do {                                                                          \
    const int mpi_result_ = (call);                                             \
    CHECK(mpi_result_ == MPI_SUCCESS, "MPI: ", #call, ": ", text(mpi_result_)); \
  } while (false)

std::string text(int error) {
  char message[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(error, message, &length);
  return message;
}

int world_rank() {
  int rank = 0;
  MPI_CHECK(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  return rank;
}
int world_size() {
  int size = 0;
  MPI_CHECK(MPI_Comm_size(MPI_COMM_WORLD, &size));
  return size;
}

// A sum of bf16 numbers. MPI knows none, and its reductions would round after every addition; so each rank gets one share of
// the numbers from all others, adds them and gives all the sums: a number travels twice, as in a ring of fp32 sums.
class Bf16Sum {
 public:
  // Numbers travel under the first tag, sums under the second.
  Bf16Sum(uint16_t* values, int64_t count, int rank, int size, int tag, int sums_tag)
      : values_(values), count_(count), rank_(rank), size_(size), sums_tag_(sums_tag) {
    const int own = length(rank_);
    all_.resize(static_cast<size_t>(own) * static_cast<size_t>(size_));
    std::copy_n(share(rank_), own, all_.data() + rank_ * own);
    for (int other = 0; other < size_; ++other) {
      if (other == rank_) continue;
      receive(all_.data() + other * own, own, other, tag);
      send(share(other), length(other), other, tag);
    }
  }

  std::vector<MPI_Request>& requests() { return requests_; }

  // When all requests are done: asks for the next ones; false when there are none.
  bool go_on() {
    if (sums_travel_) return false;
    sums_travel_ = true;
    const int own = length(rank_);
    sum_bf16(all_.data(), size_, own, own, share(rank_));
    for (int other = 0; other < size_; ++other) {
      if (other == rank_) continue;
      receive(share(other), length(other), other, sums_tag_);
      send(share(rank_), own, other, sums_tag_);
    }
    return true;
  }

 private:
  int64_t first(int rank) const { return count_ * rank / size_; }
  int length(int rank) const { return static_cast<int>(first(rank + 1) - first(rank)); }
  uint16_t* share(int rank) const { return values_ + first(rank); }
  void receive(uint16_t* to, int count, int other, int tag) {
    requests_.push_back(MPI_REQUEST_NULL);
    MPI_CHECK(MPI_Irecv(to, count, MPI_UINT16_T, other, tag, MPI_COMM_WORLD, &requests_.back()));
  }
  void send(const uint16_t* from, int count, int other, int tag) {
    requests_.push_back(MPI_REQUEST_NULL);
    MPI_CHECK(MPI_Isend(from, count, MPI_UINT16_T, other, tag, MPI_COMM_WORLD, &requests_.back()));
  }

  uint16_t* const values_;
  const int64_t count_;
  const int rank_, size_, sums_tag_;
  std::vector<uint16_t> all_;  // [size, own share]
  std::vector<MPI_Request> requests_;
  bool sums_travel_ = false;
};

class MpiCommunicator : public Communicator {
 public:
  explicit MpiCommunicator(const CommunicatorOptions& options)
      : Communicator(world_rank(), world_size()), options_(options) {}

  // After a failure the others may wait for us in vain: then the process ends without MPI's own farewell.
  ~MpiCommunicator() override {
    if (!failed_ && std::uncaught_exceptions() == 0) MPI_Finalize();
  }

  // A message to and from each rank: whoever does not send is known by name.
  void gather(const void* own, size_t bytes, void* all) override {
    CHECK(bytes <= INT_MAX, "a message of ", bytes, " bytes is too long");
    const int length = static_cast<int>(bytes), tag = next_tag();
    std::vector<MPI_Request> from(static_cast<size_t>(size()), MPI_REQUEST_NULL), to = from;
    for (int other = 0; other < size(); ++other) {
      char* place = static_cast<char*>(all) + static_cast<size_t>(other) * bytes;
      if (other == rank()) {
        std::memcpy(place, own, bytes);
        continue;
      }
      MPI_CHECK(MPI_Irecv(place, length, MPI_BYTE, other, tag, MPI_COMM_WORLD, &from[static_cast<size_t>(other)]));
      MPI_CHECK(MPI_Isend(own, length, MPI_BYTE, other, tag, MPI_COMM_WORLD, &to[static_cast<size_t>(other)]));
    }
    wait(from, "");
    wait(to, "");
  }

  void start_sum(float* values, int64_t count) override {
    CHECK(count >= 0 && count <= INT_MAX, "a sum over ", count, " numbers is too long");
    sums_.push_back(MPI_REQUEST_NULL);
    MPI_CHECK(MPI_Iallreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD,
                             &sums_.back()));
  }

  void start_sum(uint16_t* values, int64_t count) override {
    CHECK(count >= 0 && count <= INT_MAX, "a sum over ", count, " numbers is too long");
    const int tag = next_tag(), sums_tag = next_tag();
    bf16_sums_.emplace_back(values, count, rank(), size(), tag, sums_tag);
  }

  void finish_sums() override {
    const char* const what = "a rank is lost or hangs in the sum of the gradients";
    std::vector<MPI_Request> all = std::move(sums_);
    sums_.clear();
    wait(all, what);
    Patience patience(options_);
    while (!go_on_with_bf16()) {
      if (patience.over()) give_up(all, what);
      patience.rest();
    }
    bf16_sums_.clear();
  }

  void progress() override {
    if (!sums_.empty()) test(sums_);
    go_on_with_bf16();
  }

  void swap(int other, const float* own, float* others, int64_t count) override {
    CHECK(count >= 0 && count <= INT_MAX, "a message of ", count, " numbers is too long");
    const int length = static_cast<int>(count), tag = next_tag();
    std::vector<MPI_Request> both(2, MPI_REQUEST_NULL);
    MPI_CHECK(MPI_Irecv(others, length, MPI_FLOAT, other, tag, MPI_COMM_WORLD, &both[0]));
    MPI_CHECK(MPI_Isend(own, length, MPI_FLOAT, other, tag, MPI_COMM_WORLD, &both[1]));
    wait(both, concat("rank ", other, " is lost or hangs"));
  }

 private:
  // `what` to say on a time-out; empty: request i is of rank i, which is named.
  void wait(std::vector<MPI_Request>& requests, const std::string& what) {
    Patience patience(options_);
    while (!test(requests)) {
      if (patience.over()) return give_up(requests, what);
      patience.rest();
    }
  }

  // Whether all are done; lets them go on.
  bool test(std::vector<MPI_Request>& requests) {
    int done = 0;
    const int result = MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
    failed_ = failed_ || result != MPI_SUCCESS;
    CHECK(result == MPI_SUCCESS, "MPI: a rank is lost: ", text(result));
    return done != 0;
  }

  // Whether all those sums are done.
  bool go_on_with_bf16() {
    bool all_done = true;
    for (Bf16Sum& sum : bf16_sums_) {
      bool done = test(sum.requests());
      while (done && sum.go_on()) done = test(sum.requests());
      all_done = all_done && done;
    }
    return all_done;
  }

  void give_up(std::vector<MPI_Request>& requests, const std::string& what) {
    failed_ = true;
    const std::string within = no_answer_within(options_);
    if (!what.empty()) RAISE(what, within);
    std::vector<int> missing;
    for (size_t other = 0; other < requests.size(); ++other) {
      int done = 0;
      MPI_Test(&requests[other], &done, MPI_STATUS_IGNORE);
      if (!done) missing.push_back(static_cast<int>(other));
    }
    RAISE(name_ranks(missing, size()), " is lost or hangs", within);
  }

  int next_tag() { return tag_ = (tag_ + 1) % 32767; }  // every MPI has as many

  const CommunicatorOptions options_;
  std::vector<MPI_Request> sums_;
  std::deque<Bf16Sum> bf16_sums_;
  int tag_ = 0;
  bool failed_ = false;
};

}  // namespace

bool has_mpi() { return true; }

std::unique_ptr<Communicator> join_mpi(const Launched& launch, const CommunicatorOptions& options) {
  int given = MPI_THREAD_SINGLE;
  CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given) == MPI_SUCCESS, "MPI cannot be initialised");
  MPI_CHECK(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  CHECK(world_size() == launch.size, launch.launcher, " started ", launch.size, " processes, of which MPI sees ",
        world_size(), ": it is the launcher of another MPI than that of this build");
  return std::make_unique<MpiCommunicator>(options);
}

}  // namespace entangle

#else

namespace entangle {

bool has_mpi() { return false; }

std::unique_ptr<Communicator> join_mpi(const Launched&, const CommunicatorOptions&) { RAISE("this build has no MPI"); }

}  // namespace entangle

#endif  // ENTANGLE_MPI
