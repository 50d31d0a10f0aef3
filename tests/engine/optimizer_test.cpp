#include "engine/optimizer.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/rng.h"
#include "tests/files.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

constexpr int64_t kBiases = 37, kWeights = 20'011;

// A bias without decay and a weight with it; the weight spans several chunks of the kernels.
void declare(ParameterArena& arena) {
  for (const bool decay : {true, false}) {
    Parameter parameter;
    parameter.name = decay ? "weight" : "bias";
    parameter.shape = parameter.file_shape = {decay ? kWeights : kBiases};
    parameter.decay = decay;
    arena.declare(parameter);
  }
  arena.allocate();
  Rng rng(1, Stream::synthetic);
  for (const Parameter& parameter : arena.all()) {
    for (int64_t i = 0; i < parameter.tensor.count(); ++i) {
      parameter.tensor.data()[i] = static_cast<float>(rng.uniform(-1, 1));
    }
  }
}

// Every third entry has no gradient, as if it lay outside of the subnet.
void draw_gradients(ParameterArena& arena, int64_t step) {
  Rng rng(2, Stream::synthetic, static_cast<uint64_t>(step));
  for (const Parameter& parameter : arena.all()) {
    for (int64_t i = 0; i < parameter.tensor.count(); ++i) {
      const double g = rng.uniform(-1, 1);
      parameter.tensor.grad()[i] = i % 3 == 0 ? 0.0f : static_cast<float>(g);
    }
  }
}

// Loshchilov and Hutter, algorithm 2, with the learning rate as the factor of the decay, in double.
class Reference {
 public:
  Reference(const ParameterArena& arena, const AdamWOptions& options)
      : options_(options), w_(arena.values(), arena.values() + arena.size()), m_(w_.size()), v_(w_.size()) {}

  void step(const ParameterArena& arena, int64_t t, double lr, double clip) {
    const double b1 = options_.beta1, b2 = options_.beta2;
    for (size_t i = 0; i < w_.size(); ++i) {
      const double g = clip * arena.gradients()[i];
      const double decay = static_cast<int64_t>(i) < arena.without_decay() ? 0 : options_.weight_decay;
      m_[i] = b1 * m_[i] + (1 - b1) * g;
      v_[i] = b2 * v_[i] + (1 - b2) * g * g;
      const double mean = m_[i] / (1 - std::pow(b1, t)), square = v_[i] / (1 - std::pow(b2, t));
      w_[i] = w_[i] - lr * decay * w_[i] - lr * mean / (std::sqrt(square) + options_.eps);
    }
  }

  // Each step rounds the weight, and its change (about lr), a few times.
  void compare(const ParameterArena& arena, int64_t steps, double lr) const {
    const double epsilon = std::numeric_limits<float>::epsilon();
    const auto close = [&](const float* got, const std::vector<double>& want, double scale) {
      for (size_t i = 0; i < want.size(); ++i) {
        const double tolerance = 2 * static_cast<double>(steps) * epsilon * (std::abs(want[i]) + scale);
        ASSERT_TRUE(std::abs(got[i] - want[i]) <= tolerance) << i << ": " << got[i] << " for " << want[i];
      }
    };
    close(arena.values(), w_, lr);
    close(arena.first_moments(), m_, 1);
    close(arena.second_moments(), v_, 1);
  }

 private:
  AdamWOptions options_;
  std::vector<double> w_, m_, v_;
};

double norm_of(const ParameterArena& arena) {
  double squares = 0;
  for (int64_t i = 0; i < arena.size(); ++i)
    squares += static_cast<double>(arena.gradients()[i]) * arena.gradients()[i];
  return std::sqrt(squares);
}

// Runs some steps beside the reference, on the current path of the processor.
void follow_reference(const AdamWOptions& options) {
  constexpr int64_t kSteps = 6;
  ParameterArena arena;
  declare(arena);
  Reference reference(arena, options);
  for (int64_t t = 1; t <= kSteps; ++t) {
    const double lr = 0.01 * static_cast<double>(t);
    draw_gradients(arena, t);
    const double norm = norm_of(arena);
    const bool clips = options.clip_norm > 0 && norm > options.clip_norm;
    reference.step(arena, t, static_cast<float>(lr), clips ? options.clip_norm / norm : 1);
    adamw_step(arena, options, t, lr);
    EXPECT_NEAR(gradient_norm(arena), norm, 1e-12 * norm);
    EXPECT_EQ(norm_of(arena), 0) << "gradients must be left zero";
    reference.compare(arena, t, lr);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(Optimizer, FollowsThePublishedFormulaOnEveryPath) {
  const CpuPath before = cpu_path();
  for (int path = 0; path < kCpuPaths; ++path) {
    if (!cpu_supports(static_cast<CpuPath>(path))) continue;
    SCOPED_TRACE(name_of(static_cast<CpuPath>(path)));
    set_cpu_path(static_cast<CpuPath>(path));
    follow_reference({});
    AdamWOptions options;
    options.weight_decay = 0.3f;
    options.beta1 = 0.8f;
    options.beta2 = 0.95f;
    options.eps = 1e-3f;
    options.clip_norm = 2.5f;
    follow_reference(options);
  }
  set_cpu_path(before);
}

TEST(Optimizer, WithoutGradientOnlyDecayMovesAndOnlyItsRange) {
  ParameterArena arena;
  declare(arena);
  const std::vector<float> weight = arena[0].tensor.to_vector(), bias = arena[1].tensor.to_vector();
  AdamWOptions options;
  options.weight_decay = 0.5f;
  adamw_step(arena, options, 1, 0.25);
  EXPECT_EQ(arena[1].tensor.to_vector(), bias);
  for (int64_t i = 0; i < kWeights; ++i) EXPECT_EQ(arena[0].tensor.data()[i], 0.875f * weight[static_cast<size_t>(i)]);
}

TEST(Optimizer, MomentumMovesEntriesThatHaveNoGradientAnyMore) {
  ParameterArena arena;
  declare(arena);
  draw_gradients(arena, 1);
  adamw_step(arena, {}, 1, 0.01);
  const float before = arena[1].tensor.data()[1];
  adamw_step(arena, {}, 2, 0.01);
  EXPECT_GT(std::abs(arena[1].tensor.data()[1] - before), 0.004f);
}

TEST(Optimizer, ClipsOnlyWhatIsLonger) {
  AdamWOptions options;
  options.eps = 1;  // so that the size of the gradient matters in the first step
  ParameterArena plain, loose, tight;
  for (ParameterArena* arena : {&plain, &loose, &tight}) {
    declare(*arena);
    draw_gradients(*arena, 1);
  }
  adamw_step(plain, options, 1, 0.1);
  options.clip_norm = 1e6f;
  adamw_step(loose, options, 1, 0.1);
  options.clip_norm = 1e-3f;
  adamw_step(tight, options, 1, 0.1);
  EXPECT_EQ(plain[1].tensor.to_vector(), loose[1].tensor.to_vector());
  EXPECT_NE(plain[1].tensor.to_vector(), tight[1].tensor.to_vector());
  double moment = 0;
  for (int64_t i = 0; i < tight.size(); ++i) moment += std::pow(tight.first_moments()[i], 2.0);
  EXPECT_NEAR(std::sqrt(moment), 0.1 * 1e-3, 1e-9);
}

TEST(Optimizer, ErrorsLeaveEverythingUnchanged) {
  ParameterArena arena;
  declare(arena);
  draw_gradients(arena, 1);
  const std::vector<float> before = arena[0].tensor.to_vector();
  const auto error = [&](float AdamWOptions::*option, float value) {
    AdamWOptions options;
    options.*option = value;
    return error_of([&] { adamw_step(arena, options, 1, 0.1); });
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float beta : {-0.1f, 1.0f, nan}) {
    expect_error(error(&AdamWOptions::beta1, beta), {"betas must lie in [0, 1)"});
    expect_error(error(&AdamWOptions::beta2, beta), {"betas must lie in [0, 1)"});
  }
  for (const float eps : {0.0f, -1.0f, nan}) expect_error(error(&AdamWOptions::eps, eps), {"eps must be above zero"});
  for (const float bad : {-1.0f, nan}) {
    expect_error(error(&AdamWOptions::weight_decay, bad), {"weight decay must be zero or more"});
    expect_error(error(&AdamWOptions::clip_norm, bad), {"norm to clip at"});
    expect_error(error_of([&] { adamw_step(arena, {}, 1, bad); }), {"learning rate must be zero or more"});
  }
  expect_error(error_of([&] { adamw_step(arena, {}, 0, 0.1); }), {"steps from 1, not from 0"});
  EXPECT_EQ(arena[0].tensor.to_vector(), before);
}

TEST(Optimizer, AGradientThatIsNotFiniteChangesNothing) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    ParameterArena arena;
    declare(arena);
    draw_gradients(arena, 1);
    adamw_step(arena, {}, 1, 0.1);
    const std::vector<float> values = arena.to_host(arena.values()), first = arena.to_host(arena.first_moments());
    draw_gradients(arena, 2);
    arena[0].tensor.grad()[7] = bad;
    adamw_step(arena, {}, 2, 0.1);
    EXPECT_FALSE(std::isfinite(gradient_norm(arena)));
    EXPECT_EQ(arena.to_host(arena.values()), values);
    EXPECT_EQ(arena.to_host(arena.first_moments()), first);
    EXPECT_EQ(norm_of(arena), 0);
  }
}

}  // namespace
}  // namespace entangle
