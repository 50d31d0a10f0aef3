// What a rank of a training does with wrong messages, and without any.
#include <algorithm>
#include <vector>

#include "engine/check.h"
#include "engine/parallel.h"
#include "tests/expect_error.h"
#include "tests/fake_ranks.h"
#include "tests/thread_ranks.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/config.h"
#include "tools/common/run_directory.h"
#include "tools/common/trainer.h"

namespace entangle {
namespace {

// Without a launcher: the other ranks are made up, or threads of this process.
class MadeUpRanks : public Programs {
 protected:
  void SetUp() override {
    Programs::SetUp();
    set_threads(1);
  }
  void TearDown() override { set_threads(0); }
  Config config() const {
    return load_config(dir.path("tiny.yaml"), {"DATA.spec=fashion-mnist:" + dir.path("data"), "TRAIN.batch_size=16"});
  }
};

TEST_F(MadeUpRanks, AnotherArchitectureStopsTheStepAndNamesTheRank) {
  FakeRanks ranks(0, 3, [](int64_t index, int rank, void* message, size_t) {
    // After the start, each step asks what was drawn, and then tells its loss.
    if (index == 3 && rank == 2) *static_cast<uint64_t*>(message) ^= 1;
  });
  Config config = this->config();
  config.train.batch_size = 24;
  const RunDirectory run(dir.path("run"));
  Trainer trainer(config, run, false, DeviceKind::cpu, ranks);
  expect_error([&] { trainer.train(); },
               {"step 2: ", "rank 2 is at another step or architecture than rank 0", "checkpoint"});
}

// A rank that ends before call `calls` of it.
struct Lost {};
class LosingRank : public Communicator {
 public:
  LosingRank(Communicator& ranks, size_t calls)
      : Communicator(ranks.rank(), ranks.size()), ranks_(ranks), left_(calls) {}
  using Communicator::gather;
  void gather(const void* own, size_t bytes, void* all) override {
    count();
    ranks_.gather(own, bytes, all);
  }
  void start_sum(float* values, int64_t count) override { ranks_.start_sum(values, count); }
  void finish_sums() override {
    count();
    ranks_.finish_sums();
  }
  void swap(int other, const float* own, float* others, int64_t count) override {
    ranks_.swap(other, own, others, count);
  }

 private:
  void count() {
    if (left_-- == 0) throw Lost();
  }
  Communicator& ranks_;
  size_t left_;
};

// A call in which ranks wait for one another, and what either knows of in it: the epoch of the last checkpoint; 0: none.
struct Moment {
  int step, written, heard;
};
constexpr int kEpochSteps = 5;

std::vector<Moment> moments_of_a_run(int epochs) {
  std::vector<Moment> all = {{0, 0, 0}};  // is the other's start the same?
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const int first = kEpochSteps * epoch;
    for (int step = first + 1; step <= first + kEpochSteps; ++step) {
      all.push_back({step, epoch, step == first + 1 ? std::max(0, epoch - 1) : epoch});  // is its step?
      all.insert(all.end(), 2, {step, epoch, epoch});                                    // its loss; its gradient
    }
    all.insert(all.end(), 3 + 8,
               {first + kEpochSteps, epoch, epoch});  // held-out images: landmarks, two a size quarter
  }
  const int steps = kEpochSteps * epochs;
  all.push_back({steps, epochs, epochs - 1});         // was it asked to stop?
  all.insert(all.end(), 5, {steps, epochs, epochs});  // the test of three subnets, and the same question between
  return all;
}

// Whenever a rank is lost, the other's error names the step and the last checkpoint that it knows of.
TEST_F(MadeUpRanks, ARankLostAtAnyMomentIsReportedWithTheCheckpoint) {
  Config config = this->config();
  config.train.epochs = 2;
  const std::vector<Moment> moments = moments_of_a_run(2);
  for (size_t calls = 0; calls <= moments.size(); ++calls) {
    for (const int lost : {0, 1}) {
      SCOPED_TRACE(testing::Message() << "rank " << lost << " is lost before call " << calls);
      const std::string output = dir.path(concat("run", lost, "-", calls));
      ThreadRanks::run(2, [&](Communicator& thread) {
        LosingRank rank(thread, thread.rank() == lost ? calls : moments.size());
        const RunDirectory run(output, rank.first() ? RunDirectory::Access::write : RunDirectory::Access::read);
        const auto train = [&] {
          Trainer trainer(config, run, false, DeviceKind::cpu, rank);
          trainer.train();
          trainer.report_test();
        };
        if (calls == moments.size()) {
          EXPECT_NO_THROW(train());
        } else if (rank.rank() == lost) {
          EXPECT_THROW(train(), Lost);
        } else {
          const Moment& at = moments[calls];
          const int epoch = rank.first() ? at.written : at.heard;
          const std::string checkpoint = epoch == 0 ? "there is no checkpoint yet"
                                                    : concat("the last good checkpoint is ", run.checkpoint_file(),
                                                             " of step ", kEpochSteps * epoch);
          expect_error(train, {concat("step ", at.step, ": rank ", lost, " is lost; ", checkpoint)});
        }
      });
    }
  }
}

TEST_F(MadeUpRanks, OtherWeightsAreRefused) {
  FakeRanks ranks(0, 2, [](int64_t, int, void* message, size_t bytes) {
    static_cast<char*>(message)[bytes - 1] ^= 1;  // of the norm of the weights
  });
  const RunDirectory run(dir.path("run"));
  expect_error([&] { Trainer(config(), run, false, DeviceKind::cpu, ranks); }, {"rank 1 begins with other weights"});
}

}  // namespace
}  // namespace entangle
