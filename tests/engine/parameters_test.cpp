#include "engine/parameters.h"

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "tests/files.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

Parameter parameter(const std::string& name, const Shape& shape, bool decay) {
  Parameter result;
  result.name = name;
  result.shape = result.file_shape = shape;
  result.decay = decay;
  return result;
}

Parameter interleaved(const std::string& name, const Shape& shape, const Shape& file_shape) {
  Parameter result = parameter(name, shape, true);
  result.file_shape = file_shape;
  result.interleave = 3;
  return result;
}

TEST(Parameters, LayoutPutsThoseWithoutDecayFirst) {
  ParameterArena arena;
  EXPECT_EQ(arena.declare(parameter("w", {3, 7}, true)), 0);
  EXPECT_EQ(arena.declare(parameter("b", {7}, false)), 1);
  EXPECT_EQ(arena.declare(parameter("w2", {16}, true)), 2);
  EXPECT_EQ(arena.declare(parameter("b2", {17}, false)), 3);
  arena.allocate();
  EXPECT_EQ(arena[1].offset, 0);
  EXPECT_EQ(arena[3].offset, 16);
  EXPECT_EQ(arena.without_decay(), 48);
  EXPECT_EQ(arena[0].offset, 48);
  EXPECT_EQ(arena[2].offset, 80);
  EXPECT_EQ(arena.size(), 96);
  EXPECT_EQ(arena.find("b2"), &arena[3]);
  EXPECT_EQ(arena.find("b3"), nullptr);
  for (const Parameter& p : arena.all()) EXPECT_EQ(reinterpret_cast<uintptr_t>(p.tensor.data()) % 64, 0u);
}

TEST(Parameters, ArraysAreZeroAndApart) {
  set_poison(true);
  ParameterArena arena;
  arena.declare(parameter("w", {100}, true));
  arena.declare(parameter("b", {3}, false));
  arena.allocate();
  set_poison(false);
  float value = 0;
  for (float* array : {arena.values(), arena.gradients(), arena.first_moments(), arena.second_moments()}) {
    for (int64_t i = 0; i < arena.size(); ++i) EXPECT_EQ(array[i], 0) << i;
    std::fill_n(array, arena.size(), ++value);
  }
  EXPECT_EQ(arena.values()[arena.size() - 1], 1);
  EXPECT_EQ(arena.gradients()[arena.size() - 1], 2);
  EXPECT_EQ(arena.first_moments()[arena.size() - 1], 3);
  EXPECT_EQ(arena.second_moments()[arena.size() - 1], 4);
}

TEST(Parameters, TensorsAreViewsOfTheArena) {
  ParameterArena arena;
  arena.declare(parameter("w", {2, 3}, true));
  arena.declare(parameter("b", {3}, false));
  arena.allocate();
  const Tensor& w = arena[0].tensor;
  EXPECT_EQ(w.shape(), (Shape{2, 3}));
  EXPECT_TRUE(w.requires_grad());
  EXPECT_EQ(w.data(), arena.values() + arena[0].offset);
  EXPECT_EQ(w.grad(), arena.gradients() + arena[0].offset);
  w.grad()[5] = 7;
  arena[1].tensor.grad()[0] = 8;
  arena.zero_gradients();
  EXPECT_EQ(w.grad()[5], 0);
  EXPECT_EQ(arena[1].tensor.grad()[0], 0);
}

TEST(Parameters, MemoryIsReturned) {
  const int64_t before = memory_counters().in_use;
  {
    ParameterArena arena;
    arena.declare(parameter("w", {1000}, true));
    arena.allocate();
    EXPECT_GE(memory_counters().in_use - before, 4 * 4000);
  }
  EXPECT_EQ(memory_counters().in_use, before);
}

// Row 3j+i of the file is row j of group i.
TEST(Parameters, InterleavedRows) {
  ParameterArena arena;
  arena.declare(parameter("other", {5}, true));
  arena.declare(interleaved("qkv", {3, 2, 4}, {6, 4}));
  arena.allocate();
  float* values = arena[1].tensor.data();
  std::iota(values, values + 24, 0.0f);
  const std::vector<float> expected = {0, 1, 2, 3, 8,  9,  10, 11, 16, 17, 18, 19,
                                       4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23};
  EXPECT_EQ(to_file_order(arena[1], arena.values()), expected);
}

TEST(Parameters, InterleavedBias) {
  ParameterArena arena;
  arena.declare(interleaved("bias", {3, 4}, {12}));
  arena.allocate();
  const std::vector<float> file = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  from_file_order(arena[0], file.data(), arena.values());
  EXPECT_EQ(arena[0].tensor.to_vector(), (std::vector<float>{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11}));
  EXPECT_EQ(to_file_order(arena[0], arena.values()), file);
}

TEST(Parameters, SameOrderUnlessInterleaved) {
  ParameterArena arena;
  Parameter reshaped = parameter("patch", {2, 12}, true);
  reshaped.file_shape = {2, 3, 2, 2};
  arena.declare(reshaped);
  arena.declare(parameter("scalar", {}, false));
  arena.declare(interleaved("none", {3, 0, 2}, {0, 2}));
  arena.allocate();
  std::vector<float> file(24);
  std::iota(file.begin(), file.end(), 1.0f);
  from_file_order(arena[0], file.data(), arena.first_moments());
  EXPECT_EQ(arena.first_moments()[arena[0].offset + 23], 24);
  EXPECT_EQ(to_file_order(arena[0], arena.first_moments()), file);
  EXPECT_EQ(to_file_order(arena[1], arena.values()), std::vector<float>{0});
  EXPECT_TRUE(to_file_order(arena[2], arena.values()).empty());
}

TEST(Parameters, Errors) {
  ParameterArena arena;
  expect_error(error_of([&] { arena.allocate(); }), {"no parameters"});
  arena.declare(parameter("w", {6}, true));
  expect_error(error_of([&] { arena.declare(parameter("w", {3}, true)); }), {"w is declared twice"});
  expect_error(error_of([&] { arena.declare(parameter("", {3}, true)); }), {"needs a name"});
  expect_error(error_of([&] { arena.declare(interleaved("q", {3, 2}, {7})); }), {"q", "[3, 2]", "[7]"});
  expect_error(error_of([&] { arena.declare(interleaved("q", {3, 4}, {4, 3})); }), {"q", "[4, 3]", "multiple"});
  expect_error(error_of([&] { arena.declare(interleaved("q", {1}, {})); }), {"q", "multiple"});
  Parameter none = parameter("q", {3}, true);
  none.interleave = 0;
  expect_error(error_of([&] { arena.declare(none); }), {"q", "0 groups"});
#if !defined(ENTANGLE_CUDA)
  expect_error(error_of([&] { arena.allocate(DeviceKind::cuda); }), {"no CUDA device"});
#endif
  arena.allocate();
  expect_error(error_of([&] { arena.allocate(); }), {"allocated already"});
  expect_error(error_of([&] { arena.declare(parameter("late", {3}, true)); }), {"late is declared after"});
}

TEST(ParameterArena, InferenceHoldsValuesOnly) {
  ParameterArena arena;
  Parameter parameter;
  parameter.name = "w";
  parameter.shape = parameter.file_shape = {100, 100};
  arena.declare(parameter);
  const int64_t before = memory_counters().in_use;
  arena.allocate(DeviceKind::cpu, ArenaUse::inference);
  EXPECT_EQ(memory_counters().in_use - before, 100 * 100 * 4);
  EXPECT_EQ(arena.gradients(), nullptr);
  EXPECT_FALSE(arena[0].tensor.requires_grad());
  EXPECT_EQ(arena[0].tensor.to_vector(), std::vector<float>(10000, 0.0f));
}

}  // namespace
}  // namespace entangle
