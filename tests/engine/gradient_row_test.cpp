// The gradients of views as a row of numbers, on the processor and on the device.
#include "engine/gradient_row.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "engine/bf16.h"
#include "engine/device.h"
#include "engine/rng.h"
#include "tests/expect_error.h"

namespace entangle {
namespace {

std::vector<DeviceKind> devices() {
  return why_no_cuda().empty() ? std::vector<DeviceKind>{DeviceKind::cpu, DeviceKind::cuda}
                               : std::vector<DeviceKind>{DeviceKind::cpu};
}

std::vector<float> numbers(int64_t count, uint64_t seed) {
  Rng rng(seed, Stream::synthetic);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform(-1, 1));
  return values;
}

// Two bf16 numbers in the place of each float.
std::vector<uint16_t> halves(const Tensor& tensor, int64_t count) {
  const std::vector<float> words = tensor.to_vector();
  std::vector<uint16_t> values(static_cast<size_t>(count));
  std::memcpy(values.data(), words.data(), values.size() * sizeof(uint16_t));
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

TEST(GradientRow, PacksAnyRangeOfTheViews) {
  for (const DeviceKind device : devices()) {
    std::vector<Tensor> all = parameters(device);
    const std::vector<TapedView> views = views_of(all);
    const GradientRow row(views);
    const std::vector<float> want = packed_by_hand(views);
    ASSERT_EQ(row.count(), static_cast<int64_t>(want.size()));
    EXPECT_EQ(row.device(), device);
    for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{
             {0, row.count()}, {0, 1}, {row.count() - 1, 1}, {313, 1201}, {5, 0}}) {
      const Tensor to = Tensor::zeros({count + 1}, device);
      row.pack(first, count, to.data());
      std::vector<float> part(want.begin() + first, want.begin() + first + count);
      part.push_back(0);
      EXPECT_EQ(to.to_vector(), part) << name_of(device) << ", " << first << ", " << count;
      std::vector<uint16_t> rounded;
      for (const float value : part) rounded.push_back(to_bf16(value));
      const Tensor to_halves = Tensor::zeros({count / 2 + 1}, device);
      row.pack(first, count, reinterpret_cast<uint16_t*>(to_halves.data()));
      EXPECT_EQ(halves(to_halves, count + 1), rounded) << name_of(device) << ", " << first << ", " << count;
    }
  }
}

// Ties go to the even one; what rounds to infinity and what is none stays so.
TEST(GradientRow, RoundsAsBf16Does) {
  const float large = std::numeric_limits<float>::max(), tie = 1 + 0x1p-8f;
  const std::vector<float> values = {tie, 1 + 0x3p-8f, -tie, std::nextafter(tie, 2.0f), large, -0.0f, NAN};
  for (const DeviceKind device : devices()) {
    Tensor tensor = Tensor::zeros({7}, device);
    tensor.set_requires_grad();
    copy_floats(7, values.data(), DeviceKind::cpu, tensor.grad(), device);
    const Tensor to = Tensor::zeros({4}, device);
    GradientRow({{tensor, 0}}).pack(0, 7, reinterpret_cast<uint16_t*>(to.data()));
    const std::vector<uint16_t> got = halves(to, 7);
    const std::vector<uint16_t> want = {0x3f80, 0x3f82, 0xbf80, 0x3f81, 0x7f80, 0x8000};
    EXPECT_EQ(std::vector<uint16_t>(got.begin(), got.end() - 1), want) << name_of(device);
    EXPECT_TRUE(std::isnan(from_bf16(got[6])));
  }
}

// Unpacks as floats, or as bf16 numbers, in two parts; returns what the views should hold then.
std::vector<float> unpack_halved(const GradientRow& row, int64_t cut, bool as_bf16) {
  std::vector<float> given = numbers(row.count(), 99);
  if (as_bf16) {
    std::vector<float> words(static_cast<size_t>(row.count()) / 2 + 1);
    uint16_t* const at = reinterpret_cast<uint16_t*>(words.data());
    for (size_t i = 0; i < given.size(); ++i) {
      const uint16_t rounded = to_bf16(given[i]);
      std::memcpy(at + i, &rounded, sizeof rounded);
      given[i] = from_bf16(rounded);
    }
    const Tensor from = Tensor::from({static_cast<int64_t>(words.size())}, words, row.device());
    const uint16_t* const packed = reinterpret_cast<const uint16_t*>(from.data());
    row.unpack(0, cut, packed, 0.5f);
    row.unpack(cut, row.count() - cut, packed + cut, 0.5f);
  } else {
    const Tensor from = Tensor::from({row.count()}, given, row.device());
    row.unpack(0, cut, from.data(), 0.5f);
    row.unpack(cut, row.count() - cut, from.data() + cut, 0.5f);
  }
  for (float& value : given) value *= 0.5f;
  return given;
}

TEST(GradientRow, UnpacksIntoTheViewsAndLeavesTheRest) {
  for (const DeviceKind device : devices()) {
    for (const bool as_bf16 : {false, true}) {
      std::vector<Tensor> all = parameters(device);
      std::vector<std::vector<float>> before;
      for (const Tensor& tensor : all) before.push_back(tensor.grad_to_vector());
      const std::vector<TapedView> views = views_of(all);
      const std::vector<float> want = unpack_halved(GradientRow(views), 777, as_bf16);
      EXPECT_EQ(packed_by_hand(views), want) << name_of(device);
      EXPECT_EQ(all[4].grad_to_vector(), before[4]);
      for (int64_t i = 0; i < 3 * 5 * 7; ++i) {
        const bool viewed = i / 35 < 2 && i / 7 % 5 >= 1 && i / 7 % 5 < 4 && i % 7 < 4;
        if (viewed) continue;
        EXPECT_EQ(all[0].grad_to_vector()[static_cast<size_t>(i)], before[0][static_cast<size_t>(i)]) << i;
      }
    }
  }
}

TEST(GradientRow, FillsTheViewsWithZerosAndLeavesTheRest) {
  for (const DeviceKind device : devices()) {
    std::vector<Tensor> all = parameters(device);
    const std::vector<float> first = all[0].grad_to_vector(), fourth = all[4].grad_to_vector();
    const std::vector<TapedView> views = views_of(all);
    GradientRow(views).fill_zero();
    for (const float value : packed_by_hand(views)) ASSERT_EQ(value, 0);
    EXPECT_EQ(all[0].grad_to_vector().back(), first.back());
    EXPECT_EQ(all[4].grad_to_vector(), fourth);
  }
}

TEST(GradientRow, WhatIsNoRowIsRefused) {
  const Tensor weight = parameter({4, 6}, 1, DeviceKind::cpu);
  expect_error([&] { GradientRow({{weight.view({6, 4}, {1, 6}), 0}}); }, {"rows of a view must be contiguous"});
  if (devices().size() == 1) return;
  const Tensor other = parameter({2}, 1, DeviceKind::cuda);
  expect_error([&] { GradientRow({{weight, 0}, {other, 0}}); }, {"on one device"});
}

}  // namespace
}  // namespace entangle
