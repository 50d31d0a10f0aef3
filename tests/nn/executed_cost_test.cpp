// The cost model against what is executed: products, parameters, activations, and the memory of whole steps.
#include <gtest/gtest.h>

#include "engine/memory.h"
#include "engine/ops.h"
#include "nn/architecture.h"
#include "nn/cost.h"
#include "nn/supernet.h"
#include "tests/small_supernet.h"
#include "tools/common/config.h"

namespace entangle {
namespace {

// Of a batch of which drop-path leaves out nothing.
void expect_costs(SupernetConfig config, const Architecture& a, int64_t batch) {
  config.drop_path = 0;
  const Supernet net(config, 1);
  const Cost cost = cost_of(config, a, batch);
  const Tensor images = random_images(config, batch), targets = one_hot(batch, config.num_classes);
  std::vector<TapedView> views;
  ForwardOptions options;
  options.training = true;
  options.views = &views;
  reset_counted_macs();
  const int64_t before = memory_counters().in_use;
  const Tape tape;
  const Tensor loss = cross_entropy(net.forward(images, a, options), targets);
  // Each tensor is rounded up to 64 bytes, and the tape's own records take blocks of 64 KiB.
  const int64_t alive = memory_counters().in_use - before;
  const int64_t tensors = static_cast<int64_t>(tape.size()) * 4 + 8;
  EXPECT_GE(alive, cost.activation_bytes);
  EXPECT_LE(alive, cost.activation_bytes + 64 * tensors + (int64_t{64} << 10) * (1 + tensors / 256));
  EXPECT_EQ(counted_macs(), cost.macs * batch);
  int64_t params = 0;
  for (const TapedView& taped : views) params += taped.view.count();
  EXPECT_EQ(params, cost.params);
}

TEST(Cost, IsWhatIsExecuted) {
  SupernetConfig config = small_config();
  expect_costs(config, config.full(), 2);
  expect_costs(config, mixed_architecture(), 3);
  config.global_pool = false;
  config.relative_position = false;
  config.absolute_position = false;
  expect_costs(config, mixed_architecture(), 1);
  config.dropout = 0.1;
  config.attention_dropout = 0.1;
  expect_costs(config, mixed_architecture(), 5);
}

TEST(Cost, IsWhatIsExecutedInThePublishedSpaces) {
  for (const char* name : {"T", "fashion-mnist"}) {
    const Config config = load_config(name);
    expect_costs(config.model, config.space.smallest(), 1);
  }
}

void expect_peak(SupernetConfig config, const Architecture& a, int64_t batch) {
  config.drop_path = 0;
  const Supernet net(config, 1);
  const int64_t before = memory_counters().in_use;
  const Tensor images = random_images(config, batch);
  ForwardOptions options;
  options.training = true;
  reset_peak_memory();
  run_step(net, a, images, options);
  const int64_t peak = memory_counters().peak - before, bound = cost_of(config, a, batch).step_bytes;
  EXPECT_LE(peak, bound + (int64_t{128} << 10)) << "the tape's records and rounding aside";
  EXPECT_GE(1.15 * static_cast<double>(peak), static_cast<double>(bound));
}

TEST(Cost, StepBytesAreThePeak) {
  SupernetConfig config = load_config("fashion-mnist").model;
  const Architecture largest = load_config("fashion-mnist").space.largest();
  const Architecture narrow = Architecture::uniform(3, 64, 4, 1), wide = Architecture::uniform(2, 96, 1, 4);
  for (const bool recompute : {false, true}) {
    config.recompute = recompute;
    for (const Architecture& a : {largest, narrow, wide}) expect_peak(config, a, 32);
  }
  config.dropout = 0.1;
  config.recompute = false;
  for (const Architecture& a : {largest, narrow, wide}) expect_peak(config, a, 32);
  expect_peak(load_config("T").model, load_config("T").space.largest(), 1);
}

// The same bits, for the activations of a small part of the network.
TEST(Supernet, RecomputingChangesMemoryOnly) {
  SupernetConfig config = small_config();
  const Tensor images = random_images(config, 3);
  const auto gradients = [&] {
    Supernet net(config, 1);
    run_step(net, config.full(), images);
    return std::vector<float>(net.parameters().gradients(), net.parameters().gradients() + net.parameters().size());
  };
  const std::vector<float> kept = gradients();
  const int64_t bytes = cost_of(config, config.full()).activation_bytes;
  config.recompute = true;
  EXPECT_EQ(gradients(), kept);
  const int64_t p = 3 * 3 * 10 * 16, hidden = 3 * 10 * 48;  // of three blocks: heads, tokens, padded row; tokens, F
  EXPECT_EQ(cost_of(config, config.full()).activation_bytes, bytes - 4 * (p + hidden));
  expect_costs(config, config.full(), 2);
}

TEST(Supernet, StepsReuseTheirMemoryWhateverIsDrawn) {
  const Supernet net(small_config(), 3);
  const Tensor images = random_images(net.config(), 4);
  run_step(net, net.config().full(), images);
  const int64_t before = memory_counters().in_use, asked = memory_counters().system_allocations;
  SearchSpace space{{1, 2, 3}, {8, 16, 24}, {1, 1.5, 2}, {1, 2, 3}};
  for (uint64_t step = 0; step < 20; ++step) {
    Rng rng(5, Stream::architecture, step);
    run_step(net, space.sample(rng), images);
    EXPECT_EQ(memory_counters().in_use, before);
  }
#if !defined(__SANITIZE_ADDRESS__)  // there every block is the system's
  EXPECT_EQ(memory_counters().system_allocations, asked);
#else
  (void)asked;
#endif
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(Supernet, NoStepAsksTheSystemForMemoryThatWasReserved) {
  const SupernetConfig config = load_config("fashion-mnist").model;
  const SearchSpace space = load_config("fashion-mnist").space;
  const Supernet net(config, 3);
  reserve_memory(static_cast<size_t>(cost_of(config, space.largest(), 64).step_bytes));
  const Tensor images = random_images(config, 64);
  const int64_t asked = memory_counters().system_allocations;
  run_step(net, space.smallest(), images);
  for (uint64_t step = 0; step < 10; ++step) {
    Rng rng(5, Stream::architecture, step);
    run_step(net, space.sample(rng), images);
  }
  run_step(net, space.largest(), images);
  EXPECT_EQ(memory_counters().system_allocations, asked);
}
#endif

}  // namespace
}  // namespace entangle
