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

// The three subnets that stand for the space, with the keys they have in the log; or the only one.
std::vector<std::pair<const char*, Architecture>> landmarks(const Config& config) {
  if (config.subnet) return {{"subnet", config.model.dense}};
  const SearchSpace& space = config.space;
  return {{"smallest", space.smallest()}, {"middle", space.middle()}, {"largest", space.largest()}};
}

// What the ranks tell one another in every step.
struct StepNote {
  double loss;
  bool stop;
};

// Tells steps and architectures apart.
struct DrawnNote {
  uint64_t hash;
};

uint64_t drawn_at(int64_t step, const Architecture& architecture) {
  return (architecture.hash() ^ static_cast<uint64_t>(step)) * 0x9e3779b97f4a7c15ull;
}

// The first rank whose value differs from rank 0's; 0 when none does.
template <class T, class Member>
int first_other(const std::vector<T>& notes, Member member) {
  for (size_t rank = 1; rank < notes.size(); ++rank) {
    if (notes[rank].*member != notes[0].*member) return static_cast<int>(rank);
  }
  return 0;
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
  CHECK(ranks.size() == 1 || device == DeviceKind::cpu,
        "several processes train on processors alone: use --device cpu");
  // Its numbers are those of the elements of one forward pass, so ranks and parts would drop the same ones.
  const bool whole = ranks.size() == 1 && parts_ == 1;
  CHECK(whole || (config.model.dropout == 0 && config.model.attention_dropout == 0),
        "dropout needs a batch in one piece: train with one process and TRAIN.accumulate=1, or set TRAIN.dropout and "
        "TRAIN.attention_dropout to 0 (drop_path may stay)");
  if (config.train.shards > 0) {
    CHECK(device == DeviceKind::cpu, "TRAIN.shards is for processors: use --device cpu");
    tree_.emplace(ranks, config.train.shards);
  }
  // The exchange and the tree take the views of one subnet, which do not overlap.
  CHECK((ranks.size() == 1 && config.train.shards == 0) || subnets() == 1,
        "several processes, and TRAIN.shards, train one subnet a step, and TRAIN.strategy=", config.train.strategy.name,
        " trains ", subnets(), ": use one process, or TRAIN.strategy uniform or progressive");
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
  reserve_memory(static_cast<size_t>(step_bytes), device);
  if (!split_.held_out.empty() && config.train.health_images > 0) {
    health_ =
        std::make_unique<EvaluationSet>(source_.train, source_, spread(split_.held_out, config.train.health_images),
                                        config.model.image_size, EvaluationSet::Keep::yes);
  }
  for (auto& numbers : numbers_) numbers = std::make_shared<Readback>(loss_at(parts_ * subnets()), device);
  check_together();
  if (ranks.first()) log_ = std::make_unique<RunLog>(run_.file("log.jsonl"), step_);
}

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

bool Trainer::any_interrupted() const {
  const std::vector<int> all = ranks_.gather(static_cast<int>(interrupted()));
  return std::any_of(all.begin(), all.end(), [](int one) { return one != 0; });
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
  check_same_step(step);
  std::vector<TapedView> views;
  ForwardOptions options;
  options.training = true;
  options.seed = config_.train.seed;
  options.step = static_cast<uint64_t>(step_);
  options.views = tree_ || ranks_.size() > 1 ? &views : nullptr;
  const int64_t count = batch.images.size(0) / parts_;
  for (int64_t part = 0; part < parts_; ++part) {
    const DeviceBatch some = {batch.images.slice(0, part * count, count), batch.targets.slice(0, part * count, count)};
    options.first_sample = ranks_.rank() * batch.images.size(0) + part * count;
    const Tensor targets = teacher_ != nullptr ? teacher_->targets(some) : some.targets;
    views.clear();  // the same ones in every part
    const bool sends = !tree_ && ranks_.size() > 1 && part + 1 == parts_;
    const auto on_loss = [&](size_t subnet, const Tensor& loss) {
      step.numbers->start(loss.data(), sizeof(float), loss_at(static_cast<int64_t>(subnet) * parts_ + part));
      if (sends) exchange_.begin(views);
    };
    std::function<void(size_t)> advance;
    if (sends) advance = [&](size_t left) { exchange_.advance(left); };
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

// The mean over the parts.
double Trainer::loss_of(const unsigned char* numbers, size_t subnet) const {
  const int64_t first = static_cast<int64_t>(subnet) * parts_;
  double sum = 0;
  for (int64_t part = 0; part < parts_; ++part) sum += number_at<float>(numbers, loss_at(first + part));
  return sum / static_cast<double>(parts_);
}

// What the step minimises.
double Trainer::loss_of(const unsigned char* numbers, const StepPlan& plan) const {
  double sum = 0;
  for (size_t i = 0; i < plan.size(); ++i) sum += plan[i].weight * loss_of(numbers, i);
  return sum;
}

void Trainer::check_same_step(const Step& step) const {
  const TraceSpan span("communication", "compare steps");
  const uint64_t drawn = drawn_at(step.number, step.plan[0].architecture);
  const int other = first_other(ranks_.gather(DrawnNote{drawn}), &DrawnNote::hash);
  CHECK(other == 0, "rank ", other, " is at another step or architecture than rank 0");
}

// What each rank knows of the step is known to all.
void Trainer::join_notes(Step& step) {
  const TraceSpan span("communication", "join notes");
  const auto notes = ranks_.gather(StepNote{loss_of(step.numbers->wait(), step.plan), step.stop});
  for (const StepNote& note : notes) {
    step.mean_loss += note.loss / static_cast<double>(notes.size());
    step.stop = step.stop || note.stop;
  }
}

std::string Trainer::last_checkpoint() const {
  if (checkpoint_step_ < 0) return "there is no checkpoint yet";
  return concat("the last good checkpoint is ", run_.checkpoint_file(), " of step ", checkpoint_step_);
}

void Trainer::check_finite(double value, const char* what, int64_t step, const Architecture& architecture) const {
  if (std::isfinite(value)) return;
  RAISE(what, " is not finite at step ", step, " with architecture ", architecture.to_json(), "; ", last_checkpoint(),
        "; lower TRAIN.lr or set TRAIN.clip_norm");
}

void Trainer::check_weights(const Architecture& architecture) const {
  check_finite(weight_norm(supernet_.parameters()), "a weight", step_, architecture);
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
  try {
    forward_backward(batch, step);
  } catch (const Error& error) {
    if (ranks_.size() == 1) throw;
    RAISE("step ", step.number, ": ", error.what(), "; ", last_checkpoint());
  }
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
    const Evaluation evaluation = evaluate(supernet_, architecture, *health_, kEvaluationBatch, &ranks_);
    json[name] = evaluation.accuracy();
    summary += format("  %s %.1f %%", name, 100 * evaluation.accuracy());
  }
  return json.dump();
}

void Trainer::settle(const Step& step, Progress* progress) {
  const TraceSpan span("settle", "settle");
  const unsigned char* numbers = step.numbers->wait();
  const double loss = ranks_.size() == 1 ? loss_of(numbers, step.plan) : step.mean_loss;
  for (size_t i = 0; i < step.plan.size(); ++i) {
    const double own = step.plan.size() == 1 ? loss : loss_of(numbers, i);
    check_finite(own, "the loss", step.number, step.plan[i].architecture);
  }
  const Architecture& first = step.plan[0].architecture;
  check_finite(number_at<double>(numbers, kSquaresAt), "the gradient", step.number, first);
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
      record["subnets"].push_back(subnet_record(step.plan[i], loss_of(numbers, i)));
    }
  }
  record["img_per_s"] = img_per_s;
  record["memory"] = step.memory;
  if (ranks_.size() > 1) {
    record["sent"] = step.sent;
    record["waited"] = step.waited;
  }
  const bool epoch_ends = step.number % steps_per_epoch_ == 0;
  std::string health;
  if (epoch_ends) check_weights(first);
  if (epoch_ends && health_ != nullptr) record["held_out"] = nlohmann::ordered_json::parse(health_report(health));
  if (progress != nullptr) {
    log_->append(record.dump());
    progress->update(step.number, state);
    if (epoch_ends) progress->line(state + (health.empty() ? "" : "  held-out:" + health));
  }
  if (epoch_ends) save(first);
}

void Trainer::save(const Architecture& last) {
  if (checkpoint_step_ == step_) return;
  check_weights(last);
  if (ranks_.first()) write_checkpoint();
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

bool Trainer::train() {
  if (step_ == total_steps()) return true;
  feed_.start(step_ / steps_per_epoch_, step_ % steps_per_epoch_);
  std::optional<Progress> shown;
  if (ranks_.first()) shown.emplace(total_steps(), step_);
  Progress* const progress = shown ? &*shown : nullptr;
  std::optional<Step> running;  // launched, not settled
  while (step_ < total_steps()) {
    Step next = launch_step();
    if (running) settle(*running, progress);
    running = std::move(next);
    const bool stop = running->stop;
    if (device_ != DeviceKind::cpu && !stop && step_ % steps_per_epoch_ != 0) continue;
    settle(*running, progress);
    if (stop) {
      save(running->plan[0].architecture);
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
    if (any_interrupted()) return false;
    const Evaluation evaluation = evaluate(supernet_, architecture, test, kEvaluationBatch, &ranks_);
    if (ranks_.first()) std::printf("test  %-8s  %s\n", name, evaluation.str().c_str());
    std::fflush(stdout);
  }
  return true;
}

}  // namespace entangle
