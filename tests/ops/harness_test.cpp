// The tester is tested: a toy operation with one fault planted at a time must be reported by check_case, each for its
// own reason, and the same operation without a fault must not be.
#include "tests/ops/harness.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/ops/reference.h"

namespace entangle {
namespace {

using reference::Bounded;

enum class Plant {
  nothing,
  // in the output
  nan,
  skipped_last,
  overrun,
  constant,  // off in its sixth digit
  read_outside,
  changed_input,
  wrong_shape,
  differs_on_rerun,
  needs_tape,
  throws,
  not_recorded,
  // in the gradients
  doubled,
  assigned,  // = for +=
  gradient_nan,
  gradient_skipped_last,
  gradient_overrun,
  gradient_outside,
  ignores_fresh,  // adds to memory that was never written
  // in the reference
  reference_gradient,
};

constexpr float kToyConstant = 0.797885f;
constexpr int64_t kRows = 5, kWidth = 7, kParentWidth = 9;

int calls = 0;

void toy_forward(Plant plant, const Tensor& x, const Tensor& w, const Tensor& y) {
  const float constant = plant == Plant::constant ? 0.797884f : kToyConstant;
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kWidth; ++c) {
      const int64_t i = r * kWidth + c;
      if (plant == Plant::skipped_last && i == kRows * kWidth - 1) continue;
      const int64_t column = plant == Plant::read_outside && i == 3 ? kWidth : c;
      y.data()[i] = constant * x.data()[i] * w.data()[column];
    }
  }
  if (plant == Plant::nan) y.data()[2] = std::numeric_limits<float>::quiet_NaN();
  if (plant == Plant::overrun) y.data()[kRows * kWidth] = 1;
  if (plant == Plant::changed_input) x.data()[1] *= 1.0001f;
  if (plant == Plant::differs_on_rerun) y.data()[4] = std::nextafter(y.data()[4], ++calls % 2 == 0 ? 9.0f : -9.0f);
  if (plant == Plant::needs_tape && Tape::current() == nullptr) y.data()[0] = 0;
}

void toy_backward(Plant plant, const Tensor& x, const Tensor& w, const Tensor& y) {
  const GradTarget dx = x.grad_target();
  const bool add = plant == Plant::ignores_fresh || (dx.add && plant != Plant::assigned);
  const float factor = kToyConstant * (plant == Plant::doubled ? 2 : 1);
  for (int64_t i = 0; i < kRows * kWidth; ++i) {
    const float dy = y.grad()[i];
    if (plant != Plant::gradient_skipped_last || i < kRows * kWidth - 1) {
      dx.data[i] = (add ? dx.data[i] : 0) + dy * factor * w.data()[i % kWidth];
    }
    w.grad()[i % kWidth] += dy * kToyConstant * x.data()[i];
  }
  if (plant == Plant::gradient_nan) w.grad()[0] = std::numeric_limits<float>::quiet_NaN();
  if (plant == Plant::gradient_overrun) dx.data[kRows * kWidth] = 0;
  if (plant == Plant::gradient_outside) w.grad()[kWidth] += 1;
}

// y[r, c] = 0.797885 x[r, c] w[c]
Tensor toy(Plant plant, const Tensor& x, const Tensor& w) {
  if (plant == Plant::throws) throw std::runtime_error("the toy broke");
  Tensor y = Tensor::empty({kRows, plant == Plant::wrong_shape ? kWidth + 1 : kWidth});
  toy_forward(plant, x, w, y);
  Tape* tape = recording({&x, &w});
  if (tape != nullptr && plant != Plant::not_recorded) {
    tape->record("toy", y, [plant, x, w, y] { toy_backward(plant, x, w, y); });
  }
  return y;
}

Case toy_case(Plant plant) {
  return {"toy",
          {{"x", {kRows, kWidth}}, {"w", {kWidth}, {kParentWidth}, {}, uniform(0.5, 1)}},
          {kRows, kWidth},
          [plant](const std::vector<Tensor>& t) { return toy(plant, t[0], t[1]); },
          [](const auto& in) {
            auto y = in[0];
            for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] * double(kToyConstant) * in[1][i % kWidth];
            return y;
          },
          [plant](const auto& in, const auto& dy) {
            auto gradients = in;
            for (auto& element : gradients[1]) element = 0;
            for (size_t i = 0; i < dy.size(); ++i) {
              const double factor = double(kToyConstant) * (plant == Plant::reference_gradient ? 2 : 1);
              gradients[0][i] = dy[i] * factor * in[1][i % kWidth];
              gradients[1][i % kWidth] += dy[i] * double(kToyConstant) * in[0][i];
            }
            return gradients;
          },
          8,
          true};
}

std::string joined(const Faults& faults) {
  std::string text;
  for (const std::string& fault : faults) text += fault + "\n";
  return text;
}

TEST(Harness, PassesARightOperation) { EXPECT_EQ(joined(check_case(toy_case(Plant::nothing))), ""); }

struct Planted {
  Plant plant;
  const char* expected;  // part of the report
};

TEST(Harness, CatchesEveryPlantedFault) {
  const Planted table[] = {
      {Plant::nan, "output: 1 of 35 elements are wrong"},
      {Plant::skipped_last, "output: 1 of 35 elements are wrong; element 34"},
      {Plant::overrun, "the output: written 1 element(s) behind its end"},
      {Plant::constant, "output: 35 of 35 elements are wrong"},
      {Plant::read_outside, "output: 1 of 35 elements are wrong; element 3"},
      {Plant::changed_input, "x: the values of an input were changed"},
      {Plant::wrong_shape, "the output has shape [5, 8], not [5, 7]"},
      {Plant::differs_on_rerun, "rerun: output: not the same bits at element 4"},
      {Plant::needs_tape, "output without a tape: not the same bits at element 0"},
      {Plant::throws, "the toy broke"},
      {Plant::not_recorded, "nothing was recorded on the tape"},
      {Plant::doubled, "gradient of x: 35 of 35 elements are wrong"},
      {Plant::assigned, "gradients of ones: gradient of x: 35 of 35 elements are wrong"},
      {Plant::gradient_nan, "gradient of w: 1 of 7 elements are wrong; element 0"},
      {Plant::gradient_skipped_last, "gradient of x: 1 of 35 elements are wrong; element 34"},
      {Plant::gradient_overrun, "the gradient of x: written 1 element(s) behind its end"},
      {Plant::gradient_outside, "w: element 7 of the parent's gradient, outside of the slice, is now"},
      {Plant::ignores_fresh, "fresh gradients: gradient of x: 35 of 35 elements are wrong"},
      {Plant::reference_gradient, "the reference's gradient of x"},
  };
  for (const Planted& planted : table) {
    const std::string report = joined(check_case(toy_case(planted.plant)));
    EXPECT_NE(report.find(planted.expected), std::string::npos) << "wanted: " << planted.expected << "\ngot:\n"
                                                                << report;
  }
}

TEST(Harness, ReportsEveryInstructionSetPath) {
  const std::string report = joined(check_case(toy_case(Plant::doubled)));
  for (const CpuPath path : supported_paths()) {
    EXPECT_NE(report.find(std::string("toy: ") + name_of(path) + ": "), std::string::npos) << name_of(path);
  }
}

TEST(Harness, NamesAKernelWithoutARowAndARowWithoutAKernel) {
  KernelEntry second{"toy_backward", nullptr};
  const KernelEntry first{"toy_forward", &second};
  EXPECT_TRUE(check_coverage(&first, {{"toy", {"toy_forward", "toy_backward"}}}).empty());
  const Faults missing = check_coverage(&first, {{"toy", {"toy_forward"}}});
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_NE(missing[0].find("toy_backward has no test"), std::string::npos) << missing[0];
  const Faults stale = check_coverage(&second, {{"toy", {"toy_forward", "toy_backward"}}});
  ASSERT_EQ(stale.size(), 1u);
  EXPECT_NE(stale[0].find("toy_forward, which does not exist"), std::string::npos) << stale[0];
}

TEST(Harness, AcceptsWithinTheToleranceOnly) {
  const double eps = std::ldexp(1.0, -24);
  // 8 eps of an error of 2 is 16 eps: 8 steps of fp32 above 1, 16 below.
  for (const auto& [steps, faults] : {std::pair{0, 0u}, {8, 0u}, {9, 1u}, {-16, 0u}, {-17, 1u}}) {
    Faults found;
    const double got = 1 + steps * eps * (steps > 0 ? 2 : 1);
    compare("value", {static_cast<float>(got)}, {Bounded(1, 2)}, 8, found);
    EXPECT_EQ(found.size(), faults) << steps;
  }
}

TEST(Harness, ARoundingThatMayBeIsAnErrorAndNoOther) {
  constexpr double kEps = 0x1p-24;
  EXPECT_EQ(reference::maybe_bf16(1 + 0x1p-9), 1 + 0x1p-9) << "the plain reference stays as it is";
  const Bounded held = reference::maybe_bf16(Bounded(1.5)), moved = reference::maybe_bf16(Bounded(1 + 0x1p-9));
  EXPECT_EQ(held.error, 0);
  EXPECT_EQ(moved.value, 1 + 0x1p-9);
  EXPECT_EQ(moved.error, 0x1p-9 / kEps);
  const Bounded inexact = reference::maybe_bf16(Bounded(-3, 5));
  EXPECT_EQ(inexact.value, -3);
  EXPECT_EQ(inexact.error, 5 + 3 * 0x1p-8 / kEps) << "half a unit in the last place at the most";
}

TEST(Harness, RefusesWhatIsNotANumber) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const Bounded& want : {Bounded(0), Bounded(NAN), Bounded(INFINITY), Bounded(0, INFINITY), Bounded(0, NAN)}) {
    for (const float got : {nan, infinity, -infinity}) {
      Faults faults;
      compare("value", {got}, {want}, 8, faults);
      EXPECT_EQ(faults.size(), 1u) << got << " for " << want.value;
    }
  }
  Faults faults;
  compare("value", {0.0f}, {Bounded(0, INFINITY)}, 8, faults);
  compare("value", {0.0f}, {}, 8, faults);
  EXPECT_EQ(faults.size(), 2u);
}

TEST(Harness, ComparesBitsAndNotValues) {
  Faults faults;
  compare_bits("equal", {1.0f, NAN}, {1.0f, NAN}, faults);
  EXPECT_TRUE(faults.empty());
  compare_bits("signs of zero", {0.0f}, {-0.0f}, faults);
  compare_bits("lengths", {1.0f}, {1.0f, 2.0f}, faults);
  EXPECT_EQ(faults.size(), 2u);
}

TEST(Harness, GuardWordsSeeBothEnds) {
  Guarded buffer(3);
  Faults faults;
  for (int64_t i = 0; i < 3; ++i) buffer.data()[i] = 1;
  buffer.check("buffer", faults);
  EXPECT_TRUE(faults.empty());
  buffer.data()[3] = 1;
  buffer.check("buffer", faults);
  buffer.data()[-1] = 1;
  buffer.check("buffer", faults);
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_EQ(faults[0], "buffer: written 1 element(s) behind its end");
  EXPECT_EQ(faults[1], "buffer: written 1 element(s) before its start");
}

}  // namespace
}  // namespace entangle
