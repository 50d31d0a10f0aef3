// The mean of a gradient on the device over one process with NCCL, which is itself.
#if defined(ENTANGLE_CUDA)

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/communicator_nccl.h"
#include "engine/device.h"
#include "engine/gradient_exchange.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "engine/rng.h"
#include "nn/supernet.h"
#include "tests/small_supernet.h"

namespace entangle {
namespace {

#define SKIP_WITHOUT_CUDA() \
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda()

#if defined(ENTANGLE_NCCL)

std::vector<float> numbers(int64_t count, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform(-1, 1));
  return values;
}

// Three steps of a subnet; with `ranks` its gradient goes through NCCL.
std::vector<float> weights_after_steps(Communicator* ranks) {
  const SupernetConfig config = small_config();
  Supernet supernet(config, 3, DeviceKind::cuda);
  const Shape shape = {4, config.in_channels, config.image_size, config.image_size};
  const Tensor images = Tensor::from(shape, numbers(shape.count(), 7), DeviceKind::cuda);
  std::vector<float> classes(static_cast<size_t>(4 * config.num_classes), 0.0f);
  for (int64_t i = 0; i < 4; ++i) classes[static_cast<size_t>(i * config.num_classes + i % config.num_classes)] = 1;
  const Tensor targets = Tensor::from({4, config.num_classes}, classes, DeviceKind::cuda);
  std::optional<GradientExchange> exchange;
  if (ranks != nullptr) exchange.emplace(*ranks);
  for (int64_t step = 1; step <= 3; ++step) {
    std::vector<TapedView> views;
    ForwardOptions options;
    options.training = true;
    options.step = static_cast<uint64_t>(step);
    options.views = &views;
    Tape tape;
    const Tensor loss = cross_entropy(supernet.forward(images, config.full(), options), targets);
    if (exchange) exchange->begin(views);
    tape.backward(loss, 1, [&](size_t left) {
      if (exchange) exchange->advance(left);
    });
    if (exchange) {
      exchange->finish();
      ranks->settle_sums();
      EXPECT_GT(exchange->bytes(), 0);
    }
    adamw_step(supernet.parameters(), AdamWOptions(), step, 1e-2);
  }
  return supernet.parameters().to_host(supernet.parameters().values());
}

TEST(GpuExchange, OneProcessWithNcclIsThatWithoutBitForBit) {
  SKIP_WITHOUT_CUDA();
  const auto ranks = join_gpus(std::make_unique<SingleProcess>(), {});
  EXPECT_EQ(ranks->device(), DeviceKind::cuda);
  EXPECT_EQ(ranks->gather(5), std::vector<int>{5});
  const std::vector<float> with = weights_after_steps(ranks.get()), without = weights_after_steps(nullptr);
  ASSERT_EQ(with.size(), without.size());
  EXPECT_EQ(std::memcmp(with.data(), without.data(), with.size() * sizeof(float)), 0);
}

#endif

}  // namespace
}  // namespace entangle

#endif  // ENTANGLE_CUDA
