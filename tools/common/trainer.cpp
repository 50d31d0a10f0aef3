#include "tools/common/trainer.h"

#include <algorithm>
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
#include "engine/trace.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tools/common/cli.h"
#include "tools/common/models.h"
#include "tools/common/plan_step.h"

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
int64_t layer_of(const std::string& parameter, int64_t depth) {
  const std::string name = name_without_choice(parameter);
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
    const bool frozen = train.linear_probe && name_without_choice(parameter.name).rfind("head.", 0) != 0;
    scales.push_back(frozen ? 0 : static_cast<float>(std::pow(train.layer_decay, static_cast<double>(below_top))));
  }
  return scales;
}

LoaderOptions loader_options(const Config& config, const Communicator& ranks) {
  LoaderOptions options;
  options.batch_size = config.train.batch_size;
  options.share = {ranks.size(), ranks.rank()};
  options.workers = std::max(1, threads() / 4);
  options.seed = config.train.seed;
  options.augmentation = config.data.augmentation;
  options.sampler = {config.data.repeated_augmentation, config.data.published_order};
  return options;
}

// Where a step's numbers lie in its readback: behind the gradient's squares the losses, of each subnet one for each part of
// the batch.
constexpr size_t kSquaresAt = 0;
constexpr size_t loss_at(int64_t number) { return sizeof(double) + static_cast<size_t>(number) * sizeof(float); }

nlohmann::ordered_json subnet_record(const PlannedSubnet& subnet, double loss) {
  nlohmann::ordered_json record = {{"architecture", nlohmann::ordered_json::parse(subnet.architecture.to_json())},
                                   {"loss", loss}};
  if (subnet.teacher >= 0) record["teacher"] = subnet.teacher;
  return record;
}

template <class T>
double number_at(const unsigned char* bytes, size_t offset) {
  T number;
  std::memcpy(&number, bytes + offset, sizeof number);
  return static_cast<double>(number);
}

}  // namespace

int64_t part_of_batch(const TrainConfig& train, int ranks) {
  CHECK(train.shards == 0 || train.accumulate == 1, "TRAIN.shards=", train.shards,
        " and TRAIN.accumulate=", train.accumulate, " both cut the batch: set one of them");
  const int64_t parts = train.shards > 0 ? train.shards : ranks * train.accumulate;
  CHECK(train.batch_size % parts == 0, "TRAIN.batch_size is ", train.batch_size, ": make it a multiple of ", parts,
        train.shards > 0
            ? concat(", for TRAIN.shards=", parts)
            : concat(", for ", ranks, " processes with TRAIN.accumulate=", train.accumulate, " parts each"));
  return train.batch_size / parts;
}

Trainer::Trainer(const Config& config, const RunDirectory& run, bool resume, DeviceKind device, Communicator& ranks)
    : config_(config),
      run_(run),
      device_(device),
      ranks_(ranks),
      exchange_(ranks, config.train.wire),
      parts_(config.train.batch_size / (ranks.size() * part_of_batch(config.train, ranks.size()))),
      resume_(resume && run.has("checkpoint.safetensors")),
      source_(open_data_for(config)),
      split_(split_of_run()),
      split_record_(write_split_record(*source_.train, split_.held_out)),
      supernet_(config.model, config.train.seed, device),
      feed_(source_, split_.train, loader_options(config, ranks), device),
      steps_per_epoch_(feed_.steps_per_epoch()),
      schedule_(config.train.schedule(steps_per_epoch_)),
      strategy_(config.train.strategy, config.space, config.train.epochs * steps_per_epoch_, config.train.seed),
      adamw_(adamw_options(config.train)),
      lr_scales_(lr_scales(config.train, supernet_.parameters(), config.model.depth)) {
  CHECK(ranks.size() == 1 || ranks.device() == device, "training is on ", name_of(device),
        ", where these processes add up nothing");
  if (config.train.shards > 0) tree_.emplace(ranks, config.train.shards);
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
  const int64_t part = part_of_batch(config.train, ranks.size());
  int64_t step_bytes = cost_of(config.model, config.largest(), part).step_bytes;
  if (config.train.strategy.inplace_distillation) {  // what the largest predicted lives beside the others' passes
    step_bytes += part * config.model.num_classes * static_cast<int64_t>(sizeof(float));
  }
  if (tree_) step_bytes += tree_->memory(cost_of(config.model, config.largest(), part).params);
  reserve_memory(static_cast<size_t>(step_bytes), device);
  if (!split_.held_out.empty() && config.train.health_images > 0) {
    health_ = std::make_unique<SupernetHealth>(
        config_, EvaluationSet(source_.train, source_, spread(split_.held_out, config.train.health_images),
                               config.model.image_size, EvaluationSet::Keep::yes));
  }
  for (auto& numbers : numbers_) numbers = std::make_shared<Readback>(loss_at(parts_ * subnets()), device);
  at_step(step_, [&] { check_together(); });
  if (ranks.first()) log_ = std::make_unique<RunLog>(run_.file("log.jsonl"), step_);
}

void Trainer::forward_backward(const DeviceBatch& batch, Step& step) {
  check_same_step(step);
  const bool collects = tree_ || ranks_.size() > 1;
  std::vector<TapedView> views, used;  // of the plan; of one subnet's pass
  ForwardOptions options;
  options.training = true;
  options.seed = config_.train.seed;
  options.step = static_cast<uint64_t>(step_);
  options.views = collects ? &used : nullptr;
  const int64_t count = batch.images.size(0) / parts_;
  for (int64_t part = 0; part < parts_; ++part) {
    const DeviceBatch some = {batch.images.slice(0, part * count, count), batch.targets.slice(0, part * count, count)};
    options.first_sample = ranks_.rank() * batch.images.size(0) + part * count;
    const Tensor targets = teacher_ != nullptr ? teacher_->targets(some) : some.targets;
    views.clear();  // the same ones in every part
    const bool sends = collects && !tree_ && part + 1 == parts_;
    const auto on_loss = [&](size_t subnet, const Tensor& loss) {
      step.numbers->start(loss.data(), sizeof(float), loss_at(static_cast<int64_t>(subnet) * parts_ + part));
      views = joined_views(views, std::move(used));
      used.clear();
      if (sends && subnet + 1 == step.plan.size()) exchange_.begin(views);
    };
    std::function<void(size_t)> advance;
    if (sends)
      advance = [&](size_t left) { exchange_.advance(left); };  // before the last subnet there is nothing to send
    const float share = tree_ ? 1.0f : 1.0f / static_cast<float>(parts_);  // the tree takes the mean itself
    backward_of_plan(supernet_, step.plan, some.images, targets, options, share, on_loss, advance);
    if (tree_) tree_->add(views);
  }
  step.stop = interrupted();
  const Clock::time_point begin = Clock::now();
  if (ranks_.size() > 1) join_notes(step);  // first: a rank that is lost is named here
  if (tree_) tree_->finish(views);
  if (!tree_ && ranks_.size() > 1) exchange_.finish();
  step.waited = std::chrono::duration<double>(Clock::now() - begin).count();
  step.sent = tree_ ? tree_->bytes() : exchange_.bytes();
}

// Of each subnet, the mean over the parts.
std::vector<double> Trainer::losses_of(const unsigned char* numbers) const {
  std::vector<double> losses;
  for (int64_t subnet = 0; subnet < subnets(); ++subnet) {
    double sum = 0;
    for (int64_t part = 0; part < parts_; ++part) sum += number_at<float>(numbers, loss_at(subnet * parts_ + part));
    losses.push_back(sum / static_cast<double>(parts_));
  }
  return losses;
}

void Trainer::check_finite(double value, const char* what, const Architecture& architecture) const {
  CHECK(std::isfinite(value), what, " is not finite with architecture ", architecture.to_json(),
        "; lower TRAIN.lr or set TRAIN.clip_norm");
}

void Trainer::check_weights(const Architecture& architecture) const {
  check_finite(weight_norm(supernet_.parameters()), "a weight", architecture);
}

StepPlan Trainer::plan(int64_t step) const {
  if (config_.subnet) return {{config_.model.dense}};
  return strategy_.plan(step);
}

Trainer::Step Trainer::launch_step() {
  const TraceSpan span("step", "step");
  Step step;
  step.start = Clock::now();
  step.number = step_ + 1;
  step.numbers = numbers_[step_ % kStepsUnderWay];
  step.plan = plan(step_);
  step.lr = schedule_.at(step_);
  reset_peak_memory(device_);
  step.images = config_.train.batch_size;
  const DeviceBatch batch = feed_.next();
  forward_backward(batch, step);
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

HealthRecord Trainer::look_at_health() {
  const auto in_place = averaged();
  return health_->look(supernet_, ranks_);
}

void Trainer::settle(const Step& step, Progress* progress) {
  const TraceSpan span("settle", "settle");
  const unsigned char* numbers = step.numbers->wait();
  const std::vector<double> losses = ranks_.size() == 1 ? losses_of(numbers) : step.losses;
  double loss = 0;  // what the step minimises
  for (size_t i = 0; i < step.plan.size(); ++i) {
    check_finite(losses[i], "the loss", step.plan[i].architecture);
    loss += step.plan[i].weight * losses[i];
  }
  const Architecture& first = step.plan[0].architecture;
  check_finite(number_at<double>(numbers, kSquaresAt), "the gradient", first);
  const Clock::time_point now = Clock::now();
  const double img_per_s =
      static_cast<double>(step.images) / std::chrono::duration<double>(now - std::max(step.start, settled_)).count();
  settled_ = now;
  const int64_t epoch = (step.number - 1) / steps_per_epoch_ + 1;
  const std::string state = format("epoch %lld/%lld  loss %.4f  %.0f img/s", static_cast<long long>(epoch),
                                   static_cast<long long>(config_.train.epochs), loss, img_per_s);
  nlohmann::ordered_json record = {{"step", step.number}, {"epoch", epoch}, {"loss", loss}, {"lr", step.lr}};
  if (step.plan.size() == 1) {
    record["architecture"] = nlohmann::ordered_json::parse(first.to_json());
  } else {
    for (size_t i = 0; i < step.plan.size(); ++i) {
      record["subnets"].push_back(subnet_record(step.plan[i], losses[i]));
    }
  }
  record["img_per_s"] = img_per_s;
  record["memory"] = step.memory;
  if (ranks_.size() > 1) {
    record["sent"] = step.sent;
    record["waited"] = step.waited;
  }
  const bool epoch_ends = step.number % steps_per_epoch_ == 0;
  HealthRecord health;
  if (epoch_ends) check_weights(first);
  if (epoch_ends && health_ != nullptr) {
    health = look_at_health();
    record["held_out"] = health.held_out;
  }
  if (progress != nullptr) {
    log_->append(record.dump());
    progress->update(step.number, state);
    if (epoch_ends) progress->line(state + (health.words.empty() ? "" : "  held-out:" + health.words));
    if (!health.warning.empty()) progress->line(health.warning);
  }
  if (epoch_ends) save(first);
}

bool Trainer::train() {
  if (step_ == total_steps()) return true;
  feed_.start(step_ / steps_per_epoch_, step_ % steps_per_epoch_);
  std::optional<Progress> shown;
  if (ranks_.first()) shown.emplace(total_steps(), step_);
  Progress* const progress = shown ? &*shown : nullptr;
  std::optional<Step> running;  // launched, not settled
  while (step_ < total_steps()) {
    Step next;
    at_step(step_ + 1, [&] { next = launch_step(); });
    if (running) at_step(running->number, [&] { settle(*running, progress); });
    running = std::move(next);
    const bool stop = running->stop;
    if (device_ != DeviceKind::cpu && !stop && step_ % steps_per_epoch_ != 0) continue;
    at_step(running->number, [&] {
      ranks_.settle_sums();
      settle(*running, progress);
      if (stop) save(running->plan[0].architecture);
    });
    if (stop) return false;
    running.reset();
  }
  return true;
}

bool Trainer::report_test() {
  const auto in_place = averaged();
  const EvaluationSet test(source_.test, source_, all_indices(*source_.test), config_.model.image_size,
                           EvaluationSet::Keep::no);
  bool stopped = false;
  at_step(step_, [&] {
    for (const auto& [name, architecture] : landmarks(config_)) {
      if ((stopped = any_interrupted())) return;
      const Evaluation evaluation = evaluate(supernet_, architecture, test, kEvaluationBatch, &ranks_);
      if (ranks_.first()) std::printf("test  %-8s  %s\n", name, evaluation.str().c_str());
      std::fflush(stdout);
    }
  });
  return !stopped;
}

}  // namespace entangle
