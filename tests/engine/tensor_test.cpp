// Tensors, the tape, the allocator, the thread pool and the choice of instruction sets.
#include "engine/tensor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace {

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Shape, CountsAndPrints) {
  EXPECT_EQ(Shape({2, 3, 4}).count(), 24);
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ(Shape({2, 3}).str(), "[2, 3]");
  EXPECT_NE(Shape({2, 3}), Shape({3, 2}));
  EXPECT_NE(Shape({2}), Shape({2, 1}));
  EXPECT_THROW(Shape({-1}), Error);
  EXPECT_THROW(Shape({1, 1, 1, 1, 1}), Error);
}

TEST(Tensor, SlicesShareValuesAndGradients) {
  Tensor whole = Tensor::from({3, 4}, {0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23});
  const Tensor part = whole.slice(0, 1, 2).slice(1, 1, 2);
  EXPECT_EQ(part.to_vector(), (std::vector<float>{11, 12, 21, 22}));
  EXPECT_FALSE(part.contiguous());
  EXPECT_EQ(part.stride(0), 4);
  part.data()[4] = 99;  // (1, 0) of the slice is (2, 1) of the whole
  EXPECT_EQ(whole.to_vector()[9], 99);
  part.grad()[4] += 5;
  EXPECT_EQ(whole.grad_to_vector(), (std::vector<float>{0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0}));
}

TEST(Tensor, StridedViewOfGroups) {
  const Tensor flat = Tensor::from({9}, {0, 1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_EQ(flat.view({3, 2}, {2, 1}).to_vector(), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(flat.view({3, 2}, {3, 1}).to_vector(), (std::vector<float>{0, 1, 3, 4, 6, 7}));
  EXPECT_THROW(flat.view({3, 3}, {3, 1}, 1), Error);
  EXPECT_THROW(flat.view({2, 2}, {-1, 1}), Error);
  EXPECT_THROW(flat.view({2, 2}, {1}), Error);
}

TEST(Tensor, RefusesToLeaveItsBounds) {
  const Tensor t = Tensor::zeros({2, 3});
  EXPECT_THROW(t.slice(2, 0, 1), Error);
  EXPECT_THROW(t.slice(0, 1, 2), Error);
  EXPECT_THROW(t.slice(0, -1, 1), Error);
  EXPECT_THROW(t.slice(1, 0, -1), Error);
  EXPECT_THROW(t.view({5}), Error);
  EXPECT_THROW(t.slice(1, 0, 2).view({4}), Error);
  EXPECT_THROW(t.item(), Error);
  EXPECT_THROW(Tensor::from({2}, {1}), Error);
  EXPECT_THROW(Tensor().grad(), Error);
  EXPECT_NE(message_of([&] { t.slice(0, 1, 2); }).find("[1, 3)"), std::string::npos);
}

TEST(Tensor, FreshGradientTargetIsStoredLaterOnesAdd) {
  const Tensor t = Tensor::zeros({4});
  EXPECT_FALSE(t.grad_target().add);
  EXPECT_TRUE(t.grad_target().add);
  const Tensor u = Tensor::zeros({4});
  EXPECT_TRUE(u.slice(0, 0, 2).grad_target().add) << "a part of a tensor leaves the rest, which must then be zero";
  EXPECT_EQ(u.grad_to_vector(), std::vector<float>(4, 0.0f));
}

TEST(Tensor, AdoptedGradientMovesOrAdds) {
  const Tensor a = Tensor::zeros({2}), b = Tensor::zeros({2});
  b.grad()[1] = 3;
  const float* buffer = b.grad();
  a.adopt_grad(b);
  EXPECT_EQ(a.grad(), buffer);
  EXPECT_FALSE(b.has_grad());
  const Tensor c = Tensor::zeros({2});
  c.grad()[1] = 4;
  a.adopt_grad(c);
  EXPECT_EQ(a.grad_to_vector(), (std::vector<float>{0, 7}));
}

// x used twice, and a branch that does not reach the loss: loss = sum over i of x_i gelu(x_i), as a linear layer whose
// weight is gelu(x).
TEST(Tape, AddsOverAllUses) {
  Tensor x = Tensor::from({1, 2}, {0.5f, -1}).set_requires_grad();
  Tape tape;
  const Tensor once = gelu(x);
  gelu(once);
  const Tensor loss = linear(x, once, Tensor());
  EXPECT_EQ(tape.size(), 3u);
  tape.backward(loss);
  EXPECT_EQ(tape.size(), 0u);
  const auto phi = [](double v) { return 0.5 * (1 + std::erf(v / std::sqrt(2.0))); };
  const auto slope = [&](double v) { return phi(v) + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI); };
  for (int i = 0; i < 2; ++i) {
    const double v = x.data()[i];
    EXPECT_NEAR(x.grad()[i], v * phi(v) + v * slope(v), 1e-6);
  }
}

TEST(Tape, RecordsOnlyWhatNeedsGradients) {
  const Tensor x = Tensor::zeros({1, 2});
  Tensor y = Tensor::zeros({1, 2}).set_requires_grad();
  gelu(y);  // no tape
  Tape outer;
  gelu(x);
  EXPECT_EQ(outer.size(), 0u);
  {
    Tape inner;
    gelu(y);
    EXPECT_EQ(inner.size(), 1u);
  }
  EXPECT_EQ(Tape::current(), &outer);
  EXPECT_EQ(outer.size(), 0u);
  EXPECT_THROW(outer.backward(x), Error);
  EXPECT_THROW(outer.backward(Tensor::zeros({1})), Error);
}

TEST(Tape, FreesActivationsOnTheWay) {
  Tensor x = Tensor::zeros({1024, 64}).set_requires_grad();
  x.grad();
  const int64_t before = memory_counters().in_use;
  {
    Tape tape;
    Tensor h = x;
    for (int i = 0; i < 20; ++i) h = gelu(h);
    const Tensor loss = cross_entropy(h, Tensor::zeros({1024, 64}));
    h = Tensor();
    reset_peak_memory();
    const int64_t forward = memory_counters().in_use;
    tape.backward(loss);
    // Two gradients of activations are alive at a time, not twenty.
    EXPECT_LT(memory_counters().peak - forward, 3 * 1024 * 64 * 4);
  }
  EXPECT_EQ(memory_counters().in_use, before);
}

TEST(Memory, BlocksAreAlignedReusedAndCounted) {
  const MemoryCounters before = memory_counters();
  void *a = allocate(1000), *b = allocate(1), *c = allocate(1000);
  for (void* p : {a, b, c}) EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  EXPECT_EQ(memory_counters().in_use - before.in_use, 1024 + 64 + 1024);
  deallocate(b);
  deallocate(a);
#if !defined(__SANITIZE_ADDRESS__)
  void* joined = allocate(1088);  // fits only into a and b joined
  EXPECT_EQ(joined, a);
  deallocate(joined);
  EXPECT_THROW(deallocate(joined), Error);
#endif
  deallocate(c);
  deallocate(nullptr);
  EXPECT_EQ(memory_counters().in_use, before.in_use);
}

TEST(Memory, RefusesWhatTheSystemCannotGive) {
#if !defined(__SANITIZE_ADDRESS__)
  const std::string message = message_of([] { allocate(size_t{1} << 62); });
  EXPECT_NE(message.find("out of memory"), std::string::npos) << message;
#endif
}

TEST(Memory, PoisonShows) {
  set_poison(true);
  const Tensor t = Tensor::empty({64});
  set_poison(false);
  for (int i = 0; i < 64; ++i) EXPECT_TRUE(std::isnan(t.data()[i]));
}

TEST(Parallel, RunsEveryChunkOnce) {
  for (const int n : {1, 2, 5}) {
    set_threads(n);
    EXPECT_EQ(threads(), n);
    for (const int64_t chunks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(chunks));
      parallel_for(chunks, [&](int64_t c) {
        ++count[static_cast<size_t>(c)];
        parallel_for(3, [&](int64_t) {});  // nested: serial
      });
      for (const auto& c : count) EXPECT_EQ(c.load(), 1);
    }
  }
  set_threads(0);
}

TEST(Parallel, RethrowsAndGoesOn) {
  set_threads(3);
  for (int i = 0; i < 50; ++i) {
    EXPECT_THROW(parallel_for(100, [](int64_t c) { CHECK(c != 57, "chunk 57"); }), Error);
  }
  std::atomic<int> sum{0};
  parallel_for(10, [&](int64_t) { ++sum; });
  EXPECT_EQ(sum.load(), 10);
  EXPECT_THROW(set_threads(-1), Error);
  EXPECT_THROW(set_threads(100000), Error);
  set_threads(0);
}

// A weight that is not a number must show in every output that depends on it, on every path: nothing may clamp it away.
TEST(NotANumber, PassesThroughSoftmax) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const CpuPath initial = cpu_path();
  for (int i = 0; i < kCpuPaths; ++i) {
    if (!cpu_supports(static_cast<CpuPath>(i))) continue;
    set_cpu_path(static_cast<CpuPath>(i));
    for (const int at : {0, 1, 2}) {
      std::vector<float> logits = {1, 2, 3};
      logits[static_cast<size_t>(at)] = nan;
      EXPECT_TRUE(std::isnan(cross_entropy(Tensor::from({1, 3}, logits), Tensor::from({1, 3}, {1, 0, 0})).item()))
          << at;
    }
    AttentionShape shape = {};
    shape.batch = shape.heads = shape.side = 1;
    shape.tokens = 2;
    shape.head_dim = 1;
    shape.scale = 1;
    for (const int at : {1, 4}) {  // the keys of both tokens
      std::vector<float> qkv(6, 0.5f);
      qkv[static_cast<size_t>(at)] = nan;
      const std::vector<float> y = attention(Tensor::from({1, 2, 3}, qkv), {}, shape).to_vector();
      EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1])) << at;
    }
    EXPECT_TRUE(std::isnan(gelu(Tensor::from({1}, {nan})).item()));
  }
  set_cpu_path(initial);
}

const KernelEntry* kernel_named(const std::string& name) {
  const KernelEntry* entry = all_kernels();
  while (entry != nullptr && name != entry->name) entry = entry->next;
  return entry;
}

TEST(KernelTiming, CountsLaunchesWhileItIsOn) {
  const KernelEntry* forward = kernel_named("gelu_forward");
  const KernelEntry* backward = kernel_named("gelu_backward");
  ASSERT_TRUE(forward != nullptr && backward != nullptr);
  const Tensor x = Tensor::zeros({1 << 16});
  set_kernel_timing(true);
  for (int i = 0; i < 3; ++i) gelu(x);
  set_kernel_timing(false);
  gelu(x);
  EXPECT_EQ(forward->calls, 3);
  EXPECT_EQ(forward->flops, 0);
  EXPECT_EQ(forward->bytes, 3 * 2 * 4 * (1 << 16));
  EXPECT_GT(forward->seconds, 0);
  EXPECT_EQ(backward->calls, 0);
  set_kernel_timing(true);
  EXPECT_EQ(forward->calls, 0);
  EXPECT_EQ(forward->bytes, 0);
  EXPECT_EQ(forward->seconds, 0);
  set_kernel_timing(false);
}

TEST(CpuPath, CanBeOverriddenAndRefused) {
  const CpuPath initial = cpu_path();
  for (int i = 0; i < kCpuPaths; ++i) {
    const CpuPath path = static_cast<CpuPath>(i);
    if (cpu_supports(path)) {
      set_cpu_path(path);
      EXPECT_EQ(cpu_path(), path);
      Tensor x = Tensor::from({1}, {1});
      EXPECT_NEAR(gelu(x).item(), 0.841344746, 1e-6) << name_of(path);
    } else {
      EXPECT_NE(message_of([&] { set_cpu_path(path); }).find(name_of(path)), std::string::npos);
    }
  }
  set_cpu_path(initial);
}

}  // namespace
}  // namespace entangle
