// Whole training steps of a small supernet on the CUDA device, against the published numbers and against the processor.
#if defined(ENTANGLE_CUDA)

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/launch_facts.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "nn/checkpoint.h"
#include "nn/supernet.h"
#include "tests/ops/harness.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"
#include "tools/common/parity.h"

namespace entangle {
namespace {

#define SKIP_WITHOUT_CUDA() \
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda()

TEST(CudaSupernet, EqualsThePublishedCode) {
  SKIP_WITHOUT_CUDA();
  for (const char* folder : {"tests/golden/supernet_small", "tests/golden/supernet_cls_token_clamped"}) {
    const std::vector<ParityRow> rows = check_parity(folder, DeviceKind::cuda);
    EXPECT_GE(rows.size(), 90u);
    for (const ParityRow& row : rows) {
      EXPECT_TRUE(row.ok()) << folder << ", " << row.what << ": " << row.difference << " > " << row.allowed;
    }
  }
}

SupernetConfig config_with_dropping() {
  SupernetConfig c = small_config();
  c.drop_path = 0.3;
  c.dropout = 0.1;
  c.attention_dropout = 0.1;
  return c;
}

constexpr int64_t kBatch = 6, kSteps = 3;
constexpr double kLearningRate = 1e-2;

// With eps far above the gradients' noise, an error of a gradient moves a weight by at most lr / eps times that.
AdamWOptions options() {
  AdamWOptions options;
  options.eps = 0.1f;
  options.clip_norm = 100;
  return options;
}

struct Step {
  float loss;
  double norm;
  std::vector<float> gradients, weights;
};

std::vector<Step> train(DeviceKind device, Precision precision = Precision::fp32) {
  SupernetConfig config = config_with_dropping();
  config.precision = precision;
  Supernet net(config, 3, device);
  ParameterArena& arena = net.parameters();
  Rng rng(7, Stream::synthetic);
  std::vector<float> images(static_cast<size_t>(kBatch * config.in_channels * config.image_size * config.image_size));
  std::generate(images.begin(), images.end(), [&] { return static_cast<float>(normal(rng)); });
  std::vector<float> targets(static_cast<size_t>(kBatch * config.num_classes));
  for (int64_t b = 0; b < kBatch; ++b)
    targets[static_cast<size_t>(b * config.num_classes + b % config.num_classes)] = 1;
  const Tensor x = Tensor::from({kBatch, config.in_channels, config.image_size, config.image_size}, images, device);
  const Tensor target = Tensor::from({kBatch, config.num_classes}, targets, device);
  const SearchSpace space{{1, 2, 3}, {16, 24}, {1, 2}, {1, 2, 3}};
  std::vector<Step> steps;
  for (int64_t step = 0; step < kSteps; ++step) {
    Rng draw(3, Stream::architecture, static_cast<uint64_t>(step));
    ForwardOptions forward;
    forward.training = true;
    forward.seed = 3;
    forward.step = static_cast<uint64_t>(step);
    Tape tape;
    const Tensor loss = cross_entropy(net.forward(x, space.sample(draw), forward), target);
    tape.backward(loss);
    Step done = {loss.item(), 0, arena.to_host(arena.gradients()), {}};
    adamw_step(arena, options(), step + 1, kLearningRate);
    done.norm = gradient_norm(arena);
    done.weights = arena.to_host(arena.values());
    steps.push_back(done);
  }
  return steps;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float value : values) most = std::max(most, std::fabs(static_cast<double>(value)));
  return most;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= most)) most = difference;  // a NaN stays
  }
  return most;
}

// Roundings on the way from a weight to the loss and back, to first order and as if all had one sign: in each of the
// blocks at most four sums over the width, two over the tokens and one over the hidden width, forward and backward; and
// one over the batch and its tokens for the weight's gradient.
double gradient_tolerance(const SupernetConfig& c, double scale) {
  const double width = static_cast<double>(c.embed_dim), tokens = static_cast<double>(c.tokens());
  const double per_block = 4 * width + 2 * tokens + c.mlp_ratio * width;
  const double additions = 2 * static_cast<double>(c.depth) * per_block + static_cast<double>(kBatch) * tokens;
  return additions * 0x1p-24 * scale;
}

TEST(CudaSupernet, TrainsAsTheProcessorDoes) {
  SKIP_WITHOUT_CUDA();
  const SettingsScope restore;
  const std::vector<Step> want = train(DeviceKind::cpu), got = train(DeviceKind::cuda);
  double weights = 0;  // what the weights may differ by
  for (size_t i = 0; i < want.size(); ++i) {
    const double gradients = gradient_tolerance(small_config(), largest(want[i].gradients)) + weights;
    EXPECT_NEAR(got[i].loss, want[i].loss, gradients) << "step " << i;
    EXPECT_LE(largest_difference(got[i].gradients, want[i].gradients), gradients) << "step " << i;
    EXPECT_GT(largest(want[i].gradients), 100 * gradients) << "the tolerance must be small against what it judges";
    EXPECT_NEAR(got[i].norm, want[i].norm, 1e-4 * want[i].norm);
    weights += kLearningRate / options().eps * gradients + 4 * 0x1p-24 * largest(want[i].weights);
    EXPECT_LE(largest_difference(got[i].weights, want[i].weights), weights) << "step " << i;
  }
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// Both round to 8 bits, in other places: 2^-9 each, of which hundreds add up like a walk.
TEST(CudaSupernet, TrainsInBf16AsTheProcessorDoes) {
  SKIP_WITHOUT_CUDA();
  const SettingsScope restore;
  const std::vector<Step> want = train(DeviceKind::cpu, Precision::bf16),
                          got = train(DeviceKind::cuda, Precision::bf16);
  const std::vector<Step> exact = train(DeviceKind::cpu);
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(got[i].loss, want[i].loss, 0.02 * want[i].loss) << "step " << i;
    const auto cosine = [&](const Step& a, const Step& b) {
      return dot(a.gradients, b.gradients) / std::sqrt(dot(a.gradients, a.gradients) * dot(b.gradients, b.gradients));
    };
    EXPECT_GT(cosine(got[i], want[i]), 0.999) << "step " << i;
    EXPECT_GT(cosine(got[i], exact[i]), 0.999) << "step " << i;
    EXPECT_NEAR(got[i].norm, want[i].norm, 0.02 * want[i].norm) << "step " << i;
  }
  EXPECT_NE(got[0].loss, exact[0].loss) << "bf16 was not used";
}

TEST(CudaSupernet, TrainingIsRepeatable) {
  SKIP_WITHOUT_CUDA();
  const SettingsScope restore;
  const std::vector<Variation> variations = variations_of(DeviceKind::cuda);
  variations[0].choose();
  const std::vector<Step> want = train(DeviceKind::cuda);
  for (const Variation& variation : variations) {
    variation.choose();
    const std::vector<Step> got = train(DeviceKind::cuda);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(same_bits(got[i].weights, want[i].weights)) << variation.name << ", step " << i;
    }
  }
}

// Kernels of a training step, those of libraries too.
int64_t launches_of_step(Precision precision, int64_t depth) {
  SupernetConfig config = small_config();
  config.precision = precision;
  config.depth = depth;
  Supernet net(config, 3, DeviceKind::cuda);
  const Tensor x = Tensor::zeros({2, config.in_channels, config.image_size, config.image_size}, DeviceKind::cuda);
  const Tensor target = Tensor::zeros({2, config.num_classes}, DeviceKind::cuda);
  ForwardOptions forward;
  forward.training = true;
  std::vector<LaunchFacts> launches;
  launch_facts = &launches;
  Tape tape;
  const Tensor loss = cross_entropy(net.forward(x, config.full(), forward), target);
  tape.backward(loss);
  adamw_step(net.parameters(), options(), 1, kLearningRate);
  launch_facts = nullptr;
  loss.item();
  return static_cast<int64_t>(launches.size());
}

TEST(CudaSupernet, AStepLaunchesFewKernels) {
  SKIP_WITHOUT_CUDA();
  for (const auto& [precision, per_block] : {std::pair(Precision::fp32, 23), std::pair(Precision::bf16, 27)}) {
    const int64_t one = launches_of_step(precision, 1), three = launches_of_step(precision, 3);
    EXPECT_EQ(three - one, 2 * per_block);
    EXPECT_EQ(one - per_block, precision == Precision::fp32 ? 21 : 23);
  }
}

TEST(CudaSupernet, CheckpointsMoveBetweenDevices) {
  SKIP_WITHOUT_CUDA();
  const TemporaryDirectory dir;
  const Supernet on_device(small_config(), 5, DeviceKind::cuda);
  save_checkpoint(dir.path("device.safetensors"), on_device, {});
  Supernet on_host(small_config(), 6), back(small_config(), 7, DeviceKind::cuda);
  load_checkpoint(dir.path("device.safetensors"), on_host, true);
  save_checkpoint(dir.path("host.safetensors"), on_host, {});
  load_checkpoint(dir.path("host.safetensors"), back, true);
  const auto values = [](const Supernet& net) { return net.parameters().to_host(net.parameters().values()); };
  EXPECT_EQ(values(on_host), values(on_device));
  EXPECT_EQ(values(back), values(on_device));
}

TEST(CudaSupernet, MemoryOfTheDeviceIsCounted) {
  SKIP_WITHOUT_CUDA();
  const int64_t before = memory_counters(DeviceKind::cuda).in_use, host = memory_counters().in_use;
  {
    const Tensor t = Tensor::zeros({1000}, DeviceKind::cuda);
    t.grad();
    EXPECT_GE(memory_counters(DeviceKind::cuda).in_use, before + 8000);
    EXPECT_EQ(memory_counters().in_use, host);
    reset_peak_memory(DeviceKind::cuda);
  }
  EXPECT_EQ(memory_counters(DeviceKind::cuda).in_use, before);
  EXPECT_GE(memory_counters(DeviceKind::cuda).peak, before + 8000);
}

TEST(CudaTensor, CopiesSlicesAndGradients) {
  SKIP_WITHOUT_CUDA();
  const Tensor whole = Tensor::from({3, 4}, {0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23}, DeviceKind::cuda);
  const Tensor part = whole.slice(0, 1, 2).slice(1, 1, 2);
  EXPECT_EQ(part.to_vector(), (std::vector<float>{11, 12, 21, 22}));
  EXPECT_EQ(part.to(DeviceKind::cpu).to_vector(), (std::vector<float>{11, 12, 21, 22}));
  EXPECT_EQ(Tensor::from({1}, {5}).to(DeviceKind::cuda).item(), 5);
  EXPECT_EQ(part.grad_to_vector(), std::vector<float>(4, 0.0f));
  const Tensor a = Tensor::zeros({2}, DeviceKind::cuda), b = Tensor::zeros({2}, DeviceKind::cuda);
  fill_floats(2, 3, b.grad(), DeviceKind::cuda);
  a.adopt_grad(b);
  EXPECT_FALSE(b.has_grad());
  fill_floats(2, 4, b.grad(), DeviceKind::cuda);
  a.adopt_grad(b);
  EXPECT_EQ(a.grad_to_vector(), (std::vector<float>{7, 7}));
}

TEST(CudaTensor, DevicesAreNotMixed) {
  SKIP_WITHOUT_CUDA();
  const Tensor on_host = Tensor::zeros({2, 3}), on_device = Tensor::zeros({4, 3}, DeviceKind::cuda);
  std::string message;
  try {
    linear(on_host, on_device, Tensor());
  } catch (const std::exception& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("linear: a tensor of shape [2, 3] is on cpu, one of shape [4, 3] on cuda"), std::string::npos)
      << message;
}

}  // namespace
}  // namespace entangle

#endif  // ENTANGLE_CUDA
