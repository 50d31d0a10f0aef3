#include "tools/common/trainer.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "data/split_list.h"
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

// Block i of d is in layer i + 1 of 0 .. d + 1: the embeddings are below the first block, the last norm and the head above
// the last.
int64_t layer_of(const std::string& name, int64_t depth) {
  const std::string block = "blocks.";
  if (name.rfind(block, 0) == 0) return std::stoll(name.substr(block.size())) + 1;
  const bool above = name.rfind("norm.", 0) == 0 || name.rfind("head.", 0) == 0;
  return above ? depth + 1 : 0;
}

// The learning rate of each parameter, as a multiple: see TrainConfig. Empty when all are 1.
std::vector<float> lr_scales(const TrainConfig& train, const ParameterArena& arena, int64_t depth) {
  if (train.layer_decay == 1 && !train.linear_probe) return {};
  std::vector<float> scales;
  for (const Parameter& parameter : arena.all()) {
    const int64_t below_top = depth + 1 - layer_of(parameter.name, depth);
    const bool frozen = train.linear_probe && parameter.name.rfind("head.", 0) != 0;
    scales.push_back(frozen ? 0 : static_cast<float>(std::pow(train.layer_decay, static_cast<double>(below_top))));
  }
  return scales;
}

LoaderOptions loader_options(const Config& config) {
  LoaderOptions options;
  options.batch_size = config.train.batch_size;
  options.workers = std::max(1, threads() / 4);
  options.seed = config.train.seed;
  options.augmentation = config.data.augmentation;
  options.sampler.repeats = config.data.repeated_augmentation;
  return options;
}

// The three subnets that stand for the space, with the keys they have in the log; or the only one.
std::vector<std::pair<const char*, Architecture>> landmarks(const Config& config) {
  if (config.subnet) return {{"subnet", config.model.dense}};
  const SearchSpace& space = config.space;
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
      resume_(resume && run.has("checkpoint.safetensors")),
      source_(open_data_for(config)),
      split_(split_of_run()),
      split_record_(write_split_record(*source_.train, split_.held_out)),
      supernet_(config.model, config.train.seed, device),
      feed_(source_, split_.train, loader_options(config), device),
      steps_per_epoch_(feed_.steps_per_epoch()),
      schedule_(config.train.schedule(steps_per_epoch_)),
      adamw_(adamw_options(config.train)),
      lr_scales_(lr_scales(config.train, supernet_.parameters(), config.model.depth)) {
  // What is not trained needs no gradient, so a linear probe's backward pass ends below the head.
  for (size_t i = 0; i < lr_scales_.size(); ++i) {
    supernet_.parameters()[static_cast<int>(i)].tensor.set_requires_grad(lr_scales_[i] > 0);
  }
  if (!config.train.teacher.empty()) teacher_ = std::make_unique<Teacher>(config, device);
  if (config.train.average_decay > 0) {
    average_ = std::make_unique<WeightAverage>(supernet_, config.train.average_decay);
  }
  if (resume_) resume_from_checkpoint();
  // Of the largest subnet: whatever is drawn, no step asks the system for memory.
  const int64_t step_bytes = cost_of(config.model, config.largest(), config.train.batch_size).step_bytes;
  reserve_memory(static_cast<size_t>(step_bytes), device);
  if (!split_.held_out.empty() && config.train.health_images > 0) {
    health_ =
        std::make_unique<EvaluationSet>(source_.train, source_, spread(split_.held_out, config.train.health_images),
                                        config.model.image_size, EvaluationSet::Keep::yes);
  }
  for (auto& numbers : numbers_) numbers = std::make_shared<Readback>(kNumbers, device);
  log_ = std::make_unique<RunLog>(run_.file("log.jsonl"), step_);
}

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
  save(config_.largest());
}

void Trainer::forward_backward(const DeviceBatch& batch, Step& step) {
  ForwardOptions options;
  options.training = true;
  options.seed = config_.train.seed;
  options.step = static_cast<uint64_t>(step_);
  const Tensor targets = teacher_ != nullptr ? teacher_->targets(batch) : batch.targets;
  Tape tape;
  const Tensor loss = cross_entropy(supernet_.forward(batch.images, step.architecture, options), targets);
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

Architecture Trainer::draw(int64_t step) const {
  if (config_.subnet) return config_.model.dense;
  Rng rng(config_.train.seed, Stream::architecture, static_cast<uint64_t>(step));
  return config_.space.sample(rng);
}

Trainer::Step Trainer::launch_step() {
  Step step;
  step.start = Clock::now();
  step.number = step_ + 1;
  step.numbers = numbers_[step_ % kStepsUnderWay];
  step.architecture = draw(step_);
  step.lr = schedule_.at(step_);
  reset_peak_memory(device_);
  step.images = config_.train.batch_size;
  forward_backward(feed_.next(), step);
  adamw_step(supernet_.parameters(), adamw_, step.number, step.lr, lr_scales_);
  if (average_ != nullptr) average_->update(supernet_);
  step.numbers->start(supernet_.parameters().gradient_squares(), sizeof(double), kSquaresAt);
  step.memory = memory_counters(device_).peak;
  ++step_;
  return step;
}

std::unique_ptr<WeightAverage::InPlace> Trainer::averaged() {
  return average_ == nullptr ? nullptr : std::make_unique<WeightAverage::InPlace>(supernet_, *average_);
}

// Held-out accuracy of the landmarks, as JSON for the log and as words for people.
std::string Trainer::health_report(std::string& summary) {
  const auto in_place = averaged();
  nlohmann::ordered_json json;
  for (const auto& [name, architecture] : landmarks(config_)) {
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
                      {kSplitRecord, split_record_},
                      {"config", config_.to_yaml()}};
  // The average first: a run that is killed between the two goes back to the checkpoint before, and writes both again.
  if (average_ != nullptr) {
    const auto in_place = averaged();
    CheckpointContent average = content;
    average.optimizer = false;
    save_checkpoint(run_.file("average.safetensors"), supernet_, average);
    content.average = &average_->values();
  }
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

bool Trainer::report_test() {
  const auto in_place = averaged();
  const EvaluationSet test(source_.test, source_, all_indices(*source_.test), config_.model.image_size,
                           EvaluationSet::Keep::no);
  for (const auto& [name, architecture] : landmarks(config_)) {
    if (interrupted()) return false;
    std::printf("test  %-8s  %s\n", name, evaluate(supernet_, architecture, test).str().c_str());
    std::fflush(stdout);
  }
  return true;
}

}  // namespace entangle
