// Training a supernet: every step draws one architecture, or as many as the strategy says (search/strategy.h), and the
// gradient lands in the shared weights. Of weights of one architecture (MODEL.subnet) every step trains that one.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/batch_feed.h"
#include "engine/communicator.h"
#include "engine/device.h"
#include "engine/gradient_exchange.h"
#include "engine/optimizer.h"
#include "nn/schedule.h"
#include "nn/supernet.h"
#include "search/strategy.h"
#include "tools/common/config.h"
#include "tools/common/distillation.h"
#include "tools/common/evaluate.h"
#include "tools/common/health.h"
#include "tools/common/progress.h"
#include "tools/common/run_directory.h"
#include "tools/common/weight_average.h"

namespace entangle {

// The images of one forward pass of each process. Throws Error when the batch cannot be cut so.
int64_t part_of_batch(const TrainConfig& train, int ranks);

// Several processes share every batch: they draw the same subnets and samples as one process does, and hold the same weights
// after every step. The first of them writes the run's files and talks.
//
// A process may compute its share of a batch in parts (TRAIN.accumulate), whose gradients add up to that of the whole. With
// TRAIN.shards the parts are as many whatever the number of processes, and so are the sums.
//
// Step s (0, 1, ...) is a function of the state after step s-1 and of (configuration, s) alone: its batch, its
// architecture and its drop-path are drawn from the seed and s. So a resumed run computes what the uninterrupted one
// does, bit for bit, from any step on. In the log, in checkpoints and in messages, step s+1 means "after step s".
class Trainer {
 public:
  // With `resume`, continues from the run's checkpoint; without a checkpoint (the run ended before its first one) from
  // the start. Throws Error when data or checkpoint do not fit the configuration, or the ranks are not at the same step of
  // the same configuration.
  Trainer(const Config& config, const RunDirectory& run, bool resume, DeviceKind device, Communicator& ranks);

  // Gives a run that has not begun other weights than those drawn from the seed, and writes the checkpoint of step 0, from
  // which a resume starts.
  void start_from(const std::function<void(Supernet&)>& initialise);

  // Trains until every epoch is done: true; or until an interrupt of any rank: false, after a checkpoint. Throws Error, naming
  // step and last good checkpoint: when a loss, a gradient or a weight is not finite, with the architecture; when a rank is
  // lost; when images cannot be read or files not be written.
  bool train();

  // Prints the test accuracy of the smallest, middle and largest subnet, or of the only one. False when interrupted. Throws
  // Error as train().
  bool report_test();

  int64_t step() const { return step_; }
  const Supernet& supernet() const { return supernet_; }
  // Null on all ranks but the first.
  RunLog* log() { return log_.get(); }

 private:
  using Clock = std::chrono::steady_clock;
  // A step from its launch until its loss and its gradient's norm have come back from the device.
  struct Step {
    int64_t number = 0;  // 1, 2, ...
    StepPlan plan;
    double lr = 0;
    int64_t images = 0, memory = 0, sent = 0;  // of all ranks; bytes
    std::vector<double> losses;                // of each subnet, the mean over the ranks, where there are several
    double waited = 0;                         // seconds for the others
    bool stop = false;                         // a rank was asked to
    Clock::time_point start;
    std::shared_ptr<Readback> numbers;
  };

  Split split_of_run() const;
  void resume_from_checkpoint();
  Step launch_step();
  void forward_backward(const DeviceBatch& batch, Step& step);
  std::vector<double> losses_of(const unsigned char* numbers) const;
  void check_same_step(const Step& step);
  void join_notes(Step& step);
  void check_together() const;
  // Does what belongs to step `step`; its Error gets the step and the last good checkpoint added.
  void at_step(int64_t step, const std::function<void()>& work) const;
  bool any_interrupted();
  // Waits for a step's numbers, checks them and writes its line; at an epoch's end also held-out accuracy and a
  // checkpoint. A device runs the next step meanwhile, unless something needs the weights as this step left them.
  void settle(const Step& step, Progress* progress);
  void check_finite(double value, const char* what, const Architecture& architecture) const;
  void check_weights(const Architecture& architecture) const;
  StepPlan plan(int64_t step) const;
  int64_t subnets() const { return config_.subnet ? 1 : strategy_.subnets(); }
  void save(const Architecture& last);
  void write_checkpoint();
  HealthRecord look_at_health();
  // The average of the weights, where there is one, in the network's place while the result lives.
  std::unique_ptr<WeightAverage::InPlace> averaged();
  int64_t total_steps() const { return config_.train.epochs * steps_per_epoch_; }

  Config config_;
  const RunDirectory& run_;
  DeviceKind device_;
  Communicator& ranks_;
  GradientExchange exchange_;
  std::optional<GradientTree> tree_;  // in the exchange's place where the batch is cut into shards
  int64_t parts_;                     // of a process's share of a batch
  bool resume_;                       // from a checkpoint
  DataSource source_;
  Split split_;
  std::string split_record_;
  Supernet supernet_;
  BatchFeed feed_;
  int64_t steps_per_epoch_ = 0;
  Schedule schedule_;
  Strategy strategy_;
  AdamWOptions adamw_;
  std::vector<float> lr_scales_;  // of the parameters; empty: all 1
  std::unique_ptr<Teacher> teacher_;
  std::unique_ptr<WeightAverage> average_;
  std::unique_ptr<SupernetHealth> health_;
  // One is launched while the one before is not settled. Pinned memory is not asked for in a step: that stops the GPU.
  static constexpr int kStepsUnderWay = 2;
  std::shared_ptr<Readback> numbers_[kStepsUnderWay];
  std::unique_ptr<RunLog> log_;   // of the first rank
  Clock::time_point settled_;     // when the last step was
  int64_t step_ = 0;              // steps launched
  int64_t checkpoint_step_ = -1;  // of the newest checkpoint that this rank knows of; -1: there is none
};

}  // namespace entangle
