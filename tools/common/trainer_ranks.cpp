// What the processes of a training tell one another beside the gradient.
#include <algorithm>
#include <vector>

#include "engine/check.h"
#include "engine/optimizer.h"
#include "engine/trace.h"
#include "tools/common/cli.h"
#include "tools/common/trainer.h"

namespace entangle {
namespace {

// What a step begins with.
struct DrawnNote {
  uint64_t hash;       // of step and architectures
  int64_t checkpoint;  // the step of the newest one, as far as the rank knows
};

// Before each evaluation of the test.
struct TestNote {
  int64_t checkpoint;
  bool stop;
};

uint64_t drawn_at(int64_t step, const StepPlan& plan) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15ull;
  uint64_t hash = static_cast<uint64_t>(step) * kOdd;
  for (const PlannedSubnet& subnet : plan) hash = (hash ^ subnet.architecture.hash()) * kOdd;
  return hash;
}

// The first rank whose value differs from rank 0's; 0 when none does.
template <class T, class Member>
int first_other(const std::vector<T>& notes, Member member) {
  for (size_t rank = 1; rank < notes.size(); ++rank) {
    if (notes[rank].*member != notes[0].*member) return static_cast<int>(rank);
  }
  return 0;
}

}  // namespace

// One that was started with other arguments, or reads another directory, would train something else.
void Trainer::check_together() const {
  struct Start {
    uint64_t config;
    int64_t step;
    double weights;
  };
  const std::string text = config_.to_yaml();
  const auto starts = ranks_.gather(Start{std::hash<std::string>()(text), step_, weight_norm(supernet_.parameters())});
  int other = first_other(starts, &Start::config);
  CHECK(other == 0, "rank ", other, " has another configuration than rank 0");
  other = first_other(starts, &Start::step);
  CHECK(other == 0, "rank ", other, " begins after step ", starts[static_cast<size_t>(other)].step,
        ", rank 0 after step ", starts[0].step, ": every rank must see the same ", run_.path());
  other = first_other(starts, &Start::weights);
  CHECK(other == 0, "rank ", other, " begins with other weights than rank 0: every rank must see the same ",
        run_.path());
}

bool Trainer::any_interrupted() {
  const auto notes = ranks_.gather(TestNote{checkpoint_step_, interrupted()});
  checkpoint_step_ = notes[0].checkpoint;
  return std::any_of(notes.begin(), notes.end(), [](const TestNote& note) { return note.stop; });
}

void Trainer::check_same_step(const Step& step) {
  const TraceSpan span("communication", "compare steps");
  const auto notes = ranks_.gather(DrawnNote{drawn_at(step.number, step.plan), checkpoint_step_});
  const int other = first_other(notes, &DrawnNote::hash);
  CHECK(other == 0, "rank ", other, " is at another step or architecture than rank 0");
  checkpoint_step_ = notes[0].checkpoint;
}

// What each rank knows of the step is known to all: the loss of each subnet, and whether to stop.
void Trainer::join_notes(Step& step) {
  const TraceSpan span("communication", "join notes");
  ranks_.settle_sums();  // of the step before, behind which the loss was launched
  std::vector<double> own = losses_of(step.numbers->wait());
  const size_t subnets = own.size(), ranks = static_cast<size_t>(ranks_.size());
  own.push_back(step.stop);
  std::vector<double> all(ranks * own.size());
  ranks_.gather(own.data(), own.size() * sizeof(double), all.data());
  step.losses.assign(subnets, 0);
  for (auto note = all.begin(); note != all.end(); note += static_cast<std::ptrdiff_t>(own.size())) {
    for (size_t i = 0; i < subnets; ++i)
      step.losses[i] += note[static_cast<std::ptrdiff_t>(i)] / static_cast<double>(ranks);
    step.stop = step.stop || note[static_cast<std::ptrdiff_t>(subnets)] != 0;
  }
}

}  // namespace entangle
