// A gradient on the device as what processes exchange: its packing, and the mean over one process, which is itself.
#if defined(ENTANGLE_CUDA)

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/communicator_nccl.h"
#include "engine/device.h"
#include "engine/device_gradient.h"
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

std::vector<float> numbers(int64_t count, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform(-1, 1));
  return values;
}

// With gradients drawn at random, the same ones on either device.
Tensor parameter(const Shape& shape, uint64_t seed, DeviceKind device) {
  Tensor tensor = Tensor::zeros(shape, device);
  tensor.set_requires_grad();
  const std::vector<float> gradient = numbers(shape.count(), seed);
  copy_floats(shape.count(), gradient.data(), DeviceKind::cpu, tensor.grad(), device);
  return tensor;
}

// Slices of up to four dimensions, whole tensors, a scalar, one without a gradient; more than one launch takes.
std::vector<Tensor> parameters(DeviceKind device) {
  std::vector<Tensor> all = {parameter({3, 5, 7}, 1, device), parameter({1300}, 2, device),
                             parameter({2, 3, 4, 5}, 3, device), parameter({1}, 4, device),
                             parameter({9, 2}, 5, device)};
  for (uint64_t i = 0; i < 100; ++i) all.push_back(parameter({4, 6}, 10 + i, device));
  return all;
}

std::vector<TapedView> views_of(std::vector<Tensor>& all) {
  all[4].set_requires_grad(false);
  std::vector<TapedView> views = {{all[0].slice(0, 0, 2).slice(1, 1, 3).slice(2, 0, 4), 0},
                                  {all[1], 0},
                                  {all[2].slice(0, 1, 1).slice(1, 0, 2).slice(3, 0, 3), 0},
                                  {all[3], 0},
                                  {all[4], 0}};
  for (size_t i = 5; i < all.size(); ++i) views.push_back({all[i].slice(1, 0, static_cast<int64_t>(i % 7)), 0});
  return views;
}

std::vector<float> packed_by_hand(const std::vector<TapedView>& views) {
  std::vector<float> all;
  for (auto taped = views.rbegin(); taped != views.rend(); ++taped) {
    if (!taped->view.requires_grad()) continue;
    const std::vector<float> gradient = taped->view.grad_to_vector();
    all.insert(all.end(), gradient.begin(), gradient.end());
  }
  return all;
}

TEST(DeviceGradient, PacksAnyRangeOfTheViews) {
  SKIP_WITHOUT_CUDA();
  std::vector<Tensor> all = parameters(DeviceKind::cuda);
  const std::vector<TapedView> views = views_of(all);
  const DeviceGradient gradient(views);
  const std::vector<float> want = packed_by_hand(views);
  ASSERT_EQ(gradient.count(), static_cast<int64_t>(want.size()));
  for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{
           {0, gradient.count()}, {0, 1}, {gradient.count() - 1, 1}, {313, 1201}, {5, 0}}) {
    const Tensor to = Tensor::zeros({count + 1}, DeviceKind::cuda);
    gradient.pack(first, count, to.data());
    std::vector<float> part(want.begin() + first, want.begin() + first + count);
    part.push_back(0);
    EXPECT_EQ(to.to_vector(), part) << first << ", " << count;
  }
}

TEST(DeviceGradient, UnpacksIntoTheViewsAndLeavesTheRest) {
  SKIP_WITHOUT_CUDA();
  std::vector<Tensor> all = parameters(DeviceKind::cuda), zeroed = parameters(DeviceKind::cuda);
  std::vector<std::vector<float>> before;
  for (const Tensor& tensor : all) before.push_back(tensor.grad_to_vector());
  const std::vector<TapedView> views = views_of(all), zero_views = views_of(zeroed);
  const DeviceGradient gradient(views);
  const std::vector<float> given = numbers(gradient.count(), 99);
  const Tensor from = Tensor::from({gradient.count()}, given, DeviceKind::cuda);
  const int64_t cut = 777;
  gradient.unpack(0, cut, from.data(), 0.5f);
  gradient.unpack(cut, gradient.count() - cut, from.data() + cut, 0.5f);
  std::vector<float> halves = given;
  for (float& value : halves) value *= 0.5f;
  EXPECT_EQ(packed_by_hand(views), halves);
  EXPECT_EQ(all[4].grad_to_vector(), before[4]);
  for (int64_t i = 0; i < 3 * 5 * 7; ++i) {
    const bool viewed = i / 35 < 2 && i / 7 % 5 >= 1 && i / 7 % 5 < 4 && i % 7 < 4;
    if (viewed) continue;
    EXPECT_EQ(all[0].grad_to_vector()[static_cast<size_t>(i)], before[0][static_cast<size_t>(i)]) << i;
  }
  DeviceGradient(zero_views).fill_zero();
  for (const float value : packed_by_hand(zero_views)) ASSERT_EQ(value, 0);
  EXPECT_EQ(zeroed[0].grad_to_vector().back(), before[0].back());
  EXPECT_EQ(zeroed[4].grad_to_vector(), before[4]);
}

#if defined(ENTANGLE_NCCL)

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
