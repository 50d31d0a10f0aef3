// What a training run leaves on the disk and goes on from.
#include <optional>

#include "data/split_list.h"
#include "engine/check.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"
#include "tools/common/cli.h"
#include "tools/common/models.h"
#include "tools/common/trainer.h"

namespace entangle {

// A resumed run keeps what it held out, whatever became of the list.
Split Trainer::split_of_run() const {
  DataConfig data = config_.data;
  if (resume_) {
    const auto metadata = read_checkpoint_metadata(run_.checkpoint_file());
    const auto record = metadata.find(kSplitRecord);
    if (record != metadata.end()) data.recorded_split = record->second;
  }
  return training_split(data, *source_.train);
}

void Trainer::resume_from_checkpoint() {
  const auto metadata = load_checkpoint(run_.checkpoint_file(), supernet_, true);
  const auto found = metadata.find("step");
  CHECK(found != metadata.end(), run_.checkpoint_file(), " does not say its step: it is no training checkpoint");
  const auto carried = metadata.find("config");
  CHECK(carried != metadata.end(), run_.checkpoint_file(), " carries no configuration: it is no training checkpoint");
  const std::string difference = first_difference(parse_config(carried->second, run_.checkpoint_file()), config_);
  CHECK(difference.empty(), run_.checkpoint_file(), " is of another run: ", difference);
  if (average_ != nullptr) average_->set_values(load_average(run_.checkpoint_file(), supernet_));
  step_ = parse_number(found->second);
  CHECK(step_ >= 0 && step_ <= total_steps(), run_.checkpoint_file(), " is at step ", step_, ", the run has ",
        total_steps());
  checkpoint_step_ = step_;
}

void Trainer::start_from(const std::function<void(Supernet&)>& initialise) {
  CHECK(step_ == 0 && checkpoint_step_ < 0, "this run is at step ", step_, ": its weights are not replaced");
  initialise(supernet_);
  if (average_ != nullptr) average_ = std::make_unique<WeightAverage>(supernet_, config_.train.average_decay);
  at_step(0, [&] {
    check_together();
    save(config_.largest());
  });
}

void Trainer::at_step(int64_t step, const std::function<void()>& work) const {
  try {
    work();
  } catch (const Error& error) {
    const std::string kept = checkpoint_step_ < 0 ? "there is no checkpoint yet"
                                                  : concat("the last good checkpoint is ", run_.checkpoint_file(),
                                                           " of step ", checkpoint_step_);
    RAISE("step ", step, ": ", error.what(), "; ", kept);
  }
}

// The other ranks hear of the first one's checkpoint in the next step, when it is certain that there is one.
void Trainer::save(const Architecture& last) {
  if (checkpoint_step_ == step_) return;
  check_weights(last);
  if (!ranks_.first()) return;
  write_checkpoint();
  checkpoint_step_ = step_;
}

void Trainer::write_checkpoint() {
  log_->sync();
  CheckpointContent content;
  content.metadata = {{"step", std::to_string(step_)},
                      {"epoch", std::to_string(step_ / steps_per_epoch_)},
                      {"seed", std::to_string(config_.train.seed)},
                      {kSplitRecord, split_record_},
                      {"config", config_.to_yaml()},
                      {kDescriptionKey, description_of(config_, &source_)}};
  // The average first: a run that is killed between the two goes back to the checkpoint before, and writes both again.
  if (average_ != nullptr) {
    const auto in_place = averaged();
    CheckpointContent average = content;
    average.optimizer = false;
    save_checkpoint(run_.file("average.safetensors"), supernet_, average);
    content.average = &average_->values();
  }
  save_checkpoint(run_.checkpoint_file(), supernet_, content);
}

}  // namespace entangle
