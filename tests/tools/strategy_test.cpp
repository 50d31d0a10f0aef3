// Steps that train several subnets, and whole runs of each strategy.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/safetensors.h"
#include "nn/cost.h"
#include "tests/small_supernet.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/plan_step.h"
#include "tools/common/run_directory.h"
#include "tools/common/trainer.h"

namespace entangle {
namespace {

constexpr int64_t kBatch = 4;

SupernetConfig config_with_drop_path() {
  SupernetConfig config = small_config();
  config.drop_path = 0.5;
  return config;
}

StepPlan sandwich() {
  const Architecture large = small_config().full(), small = Architecture::uniform(1, 8, 1, 1);
  return {{large, 0.25}, {small, 0.25}, {mixed_architecture(), 0.5}};
}

ForwardOptions training_options() {
  ForwardOptions options;
  options.training = true;
  options.seed = 11;
  options.step = 3;
  return options;
}

std::vector<float> take_gradient(Supernet& net) {
  const ParameterArena& arena = net.parameters();
  const std::vector<float> gradient(arena.gradients(), arena.gradients() + arena.size());
  net.parameters().zero_gradients();
  return gradient;
}

// The gradient of one subnet on the targets, as a step of its own would have it.
std::vector<float> gradient_of(Supernet& net, const Architecture& a, const Tensor& images, const Tensor& targets,
                               const ForwardOptions& options, float* loss = nullptr) {
  Tape tape;
  const Tensor mean = cross_entropy(net.forward(images, a, options), targets);
  if (loss != nullptr) *loss = mean.item();
  tape.backward(mean);
  return take_gradient(net);
}

void expect_weighted_sum(const std::vector<float>& got, const StepPlan& plan,
                         const std::vector<std::vector<float>>& parts) {
  double largest = 0;
  for (size_t k = 0; k < got.size(); ++k) {
    double want = 0, scale = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
      want += plan[i].weight * static_cast<double>(parts[i][k]);
      scale += std::fabs(plan[i].weight * static_cast<double>(parts[i][k]));
    }
    largest = std::max(largest, scale);
    ASSERT_NEAR(static_cast<double>(got[k]), want, 1e-5 * scale + 1e-7) << k;
  }
  EXPECT_GT(largest, 1e-2);
}

TEST(PlanStep, TheGradientIsTheWeightedSumOfTheSubnets) {
  const SupernetConfig config = config_with_drop_path();
  Supernet net(config, 1);
  const Tensor images = random_images(config, kBatch), targets = one_hot(kBatch, config.num_classes);
  const StepPlan plan = sandwich();
  std::vector<float> losses(plan.size(), -1);
  backward_of_plan(net, plan, images, targets, training_options(), 1,
                   [&](size_t i, const Tensor& loss) { losses[i] = loss.item(); });
  const std::vector<float> all = take_gradient(net);
  std::vector<std::vector<float>> parts;
  for (size_t i = 0; i < plan.size(); ++i) {
    ForwardOptions options = training_options();
    options.seed = seed_of_subnet(options.seed, i);
    float loss = 0;
    parts.push_back(gradient_of(net, plan[i].architecture, images, targets, options, &loss));
    EXPECT_EQ(losses[i], loss);
  }
  expect_weighted_sum(all, plan, parts);
  EXPECT_EQ(seed_of_subnet(11, 0), 11u) << "one subnet drops what it would drop alone";
}

// Twice the same subnet: with drop-path keyed alike both losses would be equal.
TEST(PlanStep, EverySubnetDropsPathsOfItsOwn) {
  const SupernetConfig config = config_with_drop_path();
  Supernet net(config, 1);
  const StepPlan plan = {{config.full(), 0.5}, {config.full(), 0.5}};
  std::vector<float> losses;
  backward_of_plan(net, plan, random_images(config, kBatch), one_hot(kBatch, config.num_classes), training_options(), 1,
                   [&](size_t, const Tensor& loss) { losses.push_back(loss.item()); });
  EXPECT_NE(losses[0], losses[1]);
}

// A pupil learns the softmax that the teacher computed in this pass, as numbers: the gradient is that of fixed targets, so
// nothing flows into the teacher through them.
TEST(PlanStep, InPlaceTargetsAreTheTeachersSoftmaxWithoutAGradientThroughThem) {
  const SupernetConfig config = config_with_drop_path();
  Supernet net(config, 1);
  const Tensor images = random_images(config, kBatch), labels = one_hot(kBatch, config.num_classes);
  StepPlan plan = sandwich();
  for (size_t i = 1; i < plan.size(); ++i) plan[i].teacher = 0;
  backward_of_plan(net, plan, images, labels, training_options(), 1, [](size_t, const Tensor&) {});
  const std::vector<float> all = take_gradient(net);
  const std::vector<float> logits = net.forward(images, plan[0].architecture, training_options()).to_vector();
  std::vector<float> p(logits.size());
  for (size_t row = 0; row < p.size(); row += 5) {
    double sum = 0;
    for (size_t k = row; k < row + 5; ++k) sum += std::exp(static_cast<double>(logits[k]));
    for (size_t k = row; k < row + 5; ++k) {
      p[k] = static_cast<float>(std::exp(static_cast<double>(logits[k])) / sum);
    }
  }
  const Tensor soft = Tensor::from(labels.shape(), p);
  std::vector<std::vector<float>> parts;
  for (size_t i = 0; i < plan.size(); ++i) {
    ForwardOptions options = training_options();
    options.seed = seed_of_subnet(options.seed, i);
    parts.push_back(gradient_of(net, plan[i].architecture, images, i == 0 ? labels : soft, options));
  }
  expect_weighted_sum(all, plan, parts);
}

TEST(PlanStep, ATeacherComesBeforeItsPupils) {
  Supernet net(small_config(), 1);
  StepPlan plan = sandwich();
  plan[0].teacher = 1;
  expect_error(error_of([&] {
                 backward_of_plan(net, plan, random_images(small_config(), 1), one_hot(1, 5), {}, 1,
                                  [](size_t, const Tensor&) {});
               }),
               {"subnet 0 of a step learns from subnet 1"});
}

class Strategies : public Programs {
 protected:
  using Settings = std::vector<std::string>;
  static Settings with(Settings settings) {
    Settings arguments = {"--epochs", "2"};
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    return arguments;
  }
  // A run that is stopped on the way ends with the bits of one that is not.
  void expect_resumes_to_the_same_bits(const std::string& name, const Settings& settings) {
    expect_trains(name, with(settings));
    {
      Running running(dir.root(), train(name + "-cut", with(settings)));
      ASSERT_TRUE(wait_for_lines(dir.path(name + "-cut/log.jsonl"), kStepsPerEpoch / 2));
      running.signal(SIGINT);
      EXPECT_EQ(running.wait().status, 0);
    }
    const Outcome resumed = run({"train_supernet", "--resume", "--output", dir.path(name + "-cut")});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    EXPECT_TRUE(read_raw(checkpoint(name)) == read_raw(checkpoint(name + "-cut"))) << name;
    EXPECT_EQ(log_records(dir.path(name + "/log.jsonl")), log_records(dir.path(name + "-cut/log.jsonl"))) << name;
  }
};

TEST_F(Strategies, SandwichResumesToTheSameBitsAndLogsWhatItTrained) {
  expect_resumes_to_the_same_bits("taught", {"TRAIN.strategy=sandwich", "TRAIN.inplace_distillation=true"});
  const std::vector<nlohmann::json> records = log_records(dir.path("taught/log.jsonl"));
  ASSERT_EQ(records.size(), size_t{2} * kStepsPerEpoch);
  const Config config = load_config(dir.path("taught/config.yaml"));
  const Strategy strategy(config.train.strategy, config.space, 2 * kStepsPerEpoch, config.train.seed);
  for (size_t step = 0; step < records.size(); ++step) {
    const StepPlan plan = strategy.plan(static_cast<int64_t>(step));
    const nlohmann::json& subnets = records[step]["subnets"];
    ASSERT_EQ(subnets.size(), plan.size());
    double mean = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
      EXPECT_EQ(subnets[i]["architecture"].dump(), plan[i].architecture.to_json());
      EXPECT_EQ(subnets[i].value("teacher", -1), plan[i].teacher);
      mean += subnets[i]["loss"].get<double>() / static_cast<double>(plan.size());
    }
    EXPECT_NEAR(records[step]["loss"].get<double>(), mean, 1e-9);
    EXPECT_FALSE(records[step].contains("architecture"));
  }
}

TEST_F(Strategies, ProgressiveResumesToTheSameBitsAndBeginsWithTheLargest) {
  expect_resumes_to_the_same_bits("open", {"TRAIN.strategy=progressive"});
  const Config config = load_config(dir.path("open/config.yaml"));
  const std::vector<nlohmann::json> records = log_records(dir.path("open/log.jsonl"));
  EXPECT_EQ(records[0]["architecture"].dump(), config.space.largest().to_json());
  EXPECT_EQ(records[2]["architecture"].dump(), config.space.largest().to_json()) << "the first opens at 20 * 0.5 / 4";
}

TEST_F(Strategies, PartsOfABatchGiveTheSameStep) {
  const Settings sandwich = {"TRAIN.strategy=sandwich", "TRAIN.inplace_distillation=true", "TRAIN.batch_size=40"};
  Settings parts = sandwich;
  parts.push_back("TRAIN.accumulate=5");
  expect_trains("whole", with(sandwich));
  expect_trains("parts", with(parts));
  const auto whole = log_records(dir.path("whole/log.jsonl")), cut = log_records(dir.path("parts/log.jsonl"));
  ASSERT_EQ(whole.size(), cut.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_NEAR(whole[i]["loss"].get<double>(), cut[i]["loss"].get<double>(), 1e-4) << i;
    EXPECT_NEAR(whole[i]["subnets"][3]["loss"].get<double>(), cut[i]["subnets"][3]["loss"].get<double>(), 1e-4) << i;
  }
}

TEST_F(Strategies, WhatCannotWorkIsRefused) {
  expect_user_error(train("x", with({"TRAIN.strategy=sandwhich"})), {"TRAIN.strategy is sandwhich"});
  expect_user_error(train("x", with({"TRAIN.inplace_distillation=true"})), {"TRAIN.strategy=sandwich"});
}

}  // namespace
}  // namespace entangle
