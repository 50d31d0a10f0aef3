#include "nn/schedule.h"

#include "engine/check.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

Schedule published() {
  Schedule schedule;  // 500 epochs, 20 of warm-up from 1e-6, down to 1e-5
  schedule.lr = 1e-3;
  schedule.steps_per_epoch = 7;
  schedule.per_epoch = true;
  return schedule;
}

TEST(Schedule, PublishedValuesByHand) {
  const Schedule schedule = published();
  const auto epoch = [&](int64_t e) { return schedule.at(e * 7); };
  EXPECT_DOUBLE_EQ(epoch(0), 1e-6);
  EXPECT_DOUBLE_EQ(epoch(1), 1e-6);
  EXPECT_DOUBLE_EQ(epoch(2), 1e-6 + 999e-6 / 20);
  EXPECT_DOUBLE_EQ(epoch(20), 1e-6 + 19 * 999e-6 / 20);
  // t = 20: the cosine has already begun; cos(pi / 25) = 0.99211470131447788.
  EXPECT_NEAR(epoch(21), 1e-5 + 0.5 * 990e-6 * (1 + 0.99211470131447788), 1e-18);
  EXPECT_NEAR(epoch(251), 1e-5 + 0.5 * 990e-6, 1e-18);                        // t = 250, cos(pi/2)
  EXPECT_NEAR(epoch(126), 1e-5 + 0.5 * 990e-6 * 1.70710678118654752, 1e-18);  // t = 125, cos(pi/4)
  EXPECT_NEAR(epoch(501), 1e-5, 1e-18);
}

TEST(Schedule, PublishedFormIsConstantWithinAnEpoch) {
  const Schedule schedule = published();
  for (int64_t e : {0, 5, 19, 20, 21, 300}) {
    for (int64_t i = 1; i < 7; ++i) EXPECT_EQ(schedule.at(e * 7), schedule.at(e * 7 + i)) << e << " " << i;
  }
  EXPECT_NE(schedule.at(5 * 7 + 6), schedule.at(6 * 7));
}

TEST(Schedule, PerStepIsTheSameCurveWithoutTheStutter) {
  Schedule steps = published();
  steps.per_epoch = false;
  EXPECT_DOUBLE_EQ(steps.at(0), 1e-6);
  EXPECT_DOUBLE_EQ(steps.at(1), 1e-6 + 999e-6 / 140);
  // At whole epochs it is the published curve one epoch earlier.
  for (int64_t e : {1, 10, 19, 20, 100, 499}) EXPECT_DOUBLE_EQ(steps.at(e * 7), published().at((e + 1) * 7)) << e;
  for (int64_t s = 1; s < 140; ++s) EXPECT_GT(steps.at(s), steps.at(s - 1)) << s;
  for (int64_t s = 141; s < 3500; ++s) EXPECT_LT(steps.at(s), steps.at(s - 1)) << s;
}

TEST(Schedule, EndsAtTheMinimumAndStaysThere) {
  Schedule schedule;
  schedule.epochs = 3;
  schedule.warmup_epochs = 0;
  schedule.steps_per_epoch = 4;
  EXPECT_DOUBLE_EQ(schedule.at(0), schedule.lr);
  EXPECT_DOUBLE_EQ(schedule.at(12), schedule.min_lr);
  EXPECT_DOUBLE_EQ(schedule.at(18), schedule.min_lr);
}

TEST(Schedule, RefusesWhatHasNoCurve) {
  Schedule schedule;
  EXPECT_THROW(schedule.at(-1), Error);
  schedule.steps_per_epoch = 0;
  EXPECT_THROW(schedule.at(0), Error);
  schedule.steps_per_epoch = 1;
  schedule.epochs = 0;
  EXPECT_THROW(schedule.at(0), Error);
}

}  // namespace
}  // namespace entangle
