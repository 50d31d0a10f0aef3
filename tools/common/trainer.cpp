#include "tools/common/trainer.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/parallel.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tools/common/cli.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

AdamWOptions adamw_options(const TrainConfig& train) {
  AdamWOptions options;
  options.beta1 = static_cast<float>(train.beta1);
  options.beta2 = static_cast<float>(train.beta2);
  options.eps = static_cast<float>(train.eps);
  options.weight_decay = static_cast<float>(train.weight_decay);
  options.clip_norm = static_cast<float>(train.clip_norm);
  return options;
}

LoaderOptions loader_options(const Config& config) {
  LoaderOptions options;
  options.batch_size = config.train.batch_size;
  options.workers = std::max(1, threads() / 4);
  options.seed = config.train.seed;
  options.augmentation = config.data.augmentation;
  return options;
}

// The three subnets that stand for the space, with the keys they have in the log.
std::vector<std::pair<const char*, Architecture>> landmarks(const SearchSpace& space) {
  return {{"smallest", space.smallest()}, {"middle", space.middle()}, {"largest", space.largest()}};
}

// Where a step's numbers lie in its readback.
constexpr size_t kLossAt = sizeof(double), kSquaresAt = 0, kNumbers = sizeof(double) + sizeof(float);

template <class T>
double number_at(const unsigned char* bytes, size_t offset) {
  T number;
  std::memcpy(&number, bytes + offset, sizeof number);
  return static_cast<double>(number);
}

}  // namespace

Trainer::Trainer(const Config& config, const RunDirectory& run, bool resume, DeviceKind device)
    : config_(config),
      run_(run),
      device_(device),
      source_(open_data_for(config)),
      split_(make_split(*source_.train, config.data.held_out, config.data.split_seed)),
      supernet_(config.model, config.train.seed, device),
      feed_(source_, split_.train, loader_options(config), device),
      steps_per_epoch_(feed_.steps_per_epoch()),
      schedule_(config.train.schedule(steps_per_epoch_)),
      adamw_(adamw_options(config.train)) {
  if (resume && run_.has("checkpoint.safetensors")) resume_from_checkpoint();
  // Of the largest subnet: whatever is drawn, no step asks the system for memory.
  const int64_t step_bytes = cost_of(config.model, config.space.largest(), config.train.batch_size).step_bytes;
  reserve_memory(static_cast<size_t>(step_bytes), device);
  if (!split_.held_out.empty() && config.train.health_images > 0) {
    health_ =
        std::make_unique<EvaluationSet>(source_.train, source_, spread(split_.held_out, config.train.health_images),
                                        config.model.image_size, EvaluationSet::Keep::yes);
  }
  for (auto& numbers : numbers_) numbers = std::make_shared<Readback>(kNumbers, device);
  log_ = std::make_unique<RunLog>(run_.file("log.jsonl"), step_);
}

void Trainer::resume_from_checkpoint() {
  const auto metadata = load_checkpoint(run_.checkpoint_file(), supernet_, true);
  const auto found = metadata.find("step");
  CHECK(found != metadata.end(), run_.checkpoint_file(), " does not say its step: it is no training checkpoint");
  const auto carried = metadata.find("config");
  CHECK(carried != metadata.end(), run_.checkpoint_file(), " carries no configuration: it is no training checkpoint");
  const std::string difference = first_difference(parse_config(carried->second, run_.checkpoint_file()), config_);
  CHECK(difference.empty(), run_.checkpoint_file(), " is of another run: ", difference);
  step_ = parse_number(found->second);
  CHECK(step_ >= 0 && step_ <= total_steps(), run_.checkpoint_file(), " is at step ", step_, ", the run has ",
        total_steps());
  checkpoint_step_ = step_;
}

void Trainer::forward_backward(const DeviceBatch& batch, Step& step) {
  ForwardOptions options;
  options.training = true;
  options.seed = config_.train.seed;
  options.step = static_cast<uint64_t>(step_);
  Tape tape;
  const Tensor loss = cross_entropy(supernet_.forward(batch.images, step.architecture, options), batch.targets);
  step.numbers->start(loss.data(), sizeof(float), kLossAt);
  tape.backward(loss);
}

void Trainer::check_finite(double value, const char* what, int64_t step, const Architecture& architecture) const {
  if (std::isfinite(value)) return;
  const std::string checkpoint = checkpoint_step_ < 0 ? std::string("there is no checkpoint yet")
                                                      : concat("the last good checkpoint is ", run_.checkpoint_file(),
                                                               " of step ", checkpoint_step_);
  RAISE(what, " is not finite at step ", step, " with architecture ", architecture.to_json(), "; ", checkpoint,
        "; lower TRAIN.lr or set TRAIN.clip_norm");
}

void Trainer::check_weights(const Architecture& architecture) const {
  check_finite(weight_norm(supernet_.parameters()), "a weight", step_, architecture);
}

Trainer::Step Trainer::launch_step() {
  Step step;
  step.start = Clock::now();
  step.number = step_ + 1;
  step.numbers = numbers_[step_ % kStepsUnderWay];
  Rng rng(config_.train.seed, Stream::architecture, static_cast<uint64_t>(step_));
  step.architecture = config_.space.sample(rng);
  step.lr = schedule_.at(step_);
  reset_peak_memory(device_);
  step.images = config_.train.batch_size;
  forward_backward(feed_.next(), step);
  adamw_step(supernet_.parameters(), adamw_, step.number, step.lr);
  step.numbers->start(supernet_.parameters().gradient_squares(), sizeof(double), kSquaresAt);
  step.memory = memory_counters(device_).peak;
  ++step_;
  return step;
}

// Held-out accuracy of the landmarks, as JSON for the log and as words for people.
std::string Trainer::health_report(std::string& summary) const {
  nlohmann::ordered_json json;
  for (const auto& [name, architecture] : landmarks(config_.space)) {
    const Evaluation evaluation = evaluate(supernet_, architecture, *health_);
    json[name] = evaluation.accuracy();
    summary += format("  %s %.1f %%", name, 100 * evaluation.accuracy());
  }
  return json.dump();
}

void Trainer::settle(const Step& step, Progress& progress) {
  const unsigned char* numbers = step.numbers->wait();
  const double loss = number_at<float>(numbers, kLossAt);
  check_finite(loss, "the loss", step.number, step.architecture);
  check_finite(number_at<double>(numbers, kSquaresAt), "the gradient", step.number, step.architecture);
  const Clock::time_point now = Clock::now();
  const double img_per_s =
      static_cast<double>(step.images) / std::chrono::duration<double>(now - std::max(step.start, settled_)).count();
  settled_ = now;
  const int64_t epoch = (step.number - 1) / steps_per_epoch_ + 1;
  const std::string state = format("epoch %lld/%lld  loss %.4f  %.0f img/s", static_cast<long long>(epoch),
                                   static_cast<long long>(config_.train.epochs), loss, img_per_s);
  nlohmann::ordered_json record = {{"step", step.number},
                                   {"epoch", epoch},
                                   {"loss", loss},
                                   {"lr", step.lr},
                                   {"architecture", nlohmann::ordered_json::parse(step.architecture.to_json())},
                                   {"img_per_s", img_per_s},
                                   {"memory", step.memory}};
  const bool epoch_ends = step.number % steps_per_epoch_ == 0;
  std::string health;
  if (epoch_ends) check_weights(step.architecture);
  if (epoch_ends && health_ != nullptr) record["held_out"] = nlohmann::ordered_json::parse(health_report(health));
  log_->append(record.dump());
  progress.update(step.number, state);
  if (epoch_ends) {
    progress.line(state + (health.empty() ? "" : "  held-out:" + health));
    save(step.architecture);
  }
}

void Trainer::save(const Architecture& last) {
  if (checkpoint_step_ == step_) return;
  check_weights(last);
  log_->sync();
  CheckpointContent content;
  content.metadata = {{"step", std::to_string(step_)},
                      {"epoch", std::to_string(step_ / steps_per_epoch_)},
                      {"seed", std::to_string(config_.train.seed)},
                      {"config", config_.to_yaml()}};
  save_checkpoint(run_.checkpoint_file(), supernet_, content);
  checkpoint_step_ = step_;
}

bool Trainer::train() {
  if (step_ == total_steps()) return true;
  feed_.start(step_ / steps_per_epoch_, step_ % steps_per_epoch_);
  Progress progress(total_steps(), step_);
  std::optional<Step> running;  // launched, not settled
  while (step_ < total_steps()) {
    Step next = launch_step();
    if (running) settle(*running, progress);
    running = std::move(next);
    const bool stop = interrupted();
    if (device_ != DeviceKind::cpu && !stop && step_ % steps_per_epoch_ != 0) continue;
    settle(*running, progress);
    if (stop) {
      save(running->architecture);
      return false;
    }
    running.reset();
  }
  return true;
}

bool Trainer::report_test() const {
  const EvaluationSet test(source_.test, source_, all_indices(*source_.test), config_.model.image_size,
                           EvaluationSet::Keep::no);
  for (const auto& [name, architecture] : landmarks(config_.space)) {
    if (interrupted()) return false;
    std::printf("test  %-8s  %s\n", name, evaluate(supernet_, architecture, test).str().c_str());
    std::fflush(stdout);
  }
  return true;
}

}  // namespace entangle
