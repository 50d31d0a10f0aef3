// What is drawn for augmentation against the published recipe's distributions, whole: Kolmogorov and Smirnov's test on
// 10,000 draws or more, with fixed seeds.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "data/augment.h"
#include "data/rand_augment.h"
#include "tests/statistics.h"

namespace entangle {
namespace {

constexpr int kDraws = 20000;

double normal_below(double x, double mean, double deviation) {
  return 0.5 * std::erfc(-(x - mean) / (deviation * std::sqrt(2.0)));
}

// Beta(a, a)'s distribution function on a grid, with x = sin^2 t, in which its density has no poles.
class BetaBelow {
 public:
  explicit BetaBelow(double a) : below_(kSteps + 1) {
    for (size_t i = 0; i < kSteps; ++i) {
      const double t = (static_cast<double>(i) + 0.5) * kQuarter / kSteps;
      below_[i + 1] = below_[i] + std::pow(std::sin(t) * std::cos(t), 2 * a - 1);
    }
  }
  double operator()(double x) const {
    const double at = std::asin(std::sqrt(x)) / kQuarter * kSteps;
    const size_t i = std::min<size_t>(static_cast<size_t>(at), kSteps - 1);
    const double value = below_[i] + (at - static_cast<double>(i)) * (below_[i + 1] - below_[i]);
    return value / below_[kSteps];
  }

 private:
  static constexpr size_t kSteps = 20000;
  static constexpr double kQuarter = 1.5707963267948966;
  std::vector<double> below_;
};

TEST(PolicyStatistics, MagnitudesAreNormalAndCutOff) {
  const RandAugment policy = RandAugment::parse("rand-m9-mstd0.5-n1-inc1-p1");
  std::vector<double> below_ten;
  int rotations = 0, cut_off = 0;
  for (uint64_t i = 0; rotations < kDraws; ++i) {
    Rng rng(31, Stream::augmentation, i);
    for (const DrawnOp& drawn : draw_ops(policy, rng)) {
      if (drawn.op != ImageOp::rotate) continue;
      ++rotations;
      const double magnitude = std::fabs(drawn.argument) / 3;
      if (magnitude < 10 - 1e-9) below_ten.push_back(normal_below(magnitude, 9, 0.5) / normal_below(10, 9, 0.5));
      cut_off += magnitude >= 10 - 1e-9;
    }
  }
  expect_uniform(below_ten);
  const double share = 1 - normal_below(10, 9, 0.5);  // two deviations
  EXPECT_NEAR(cut_off, rotations * share, 4 * std::sqrt(rotations * share));
}

// Signs, and operations one by one behind one another: 225 pairs, 224 degrees of freedom, beyond 294.7 once in a thousand.
TEST(PolicyStatistics, OperationsAreDrawnWithReplacementAndIndependently) {
  const RandAugment policy = RandAugment::parse("rand-m9-n2-inc1-p1");
  std::vector<int> pairs(kImageOps * kImageOps, 0), signs(2, 0);
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(32, Stream::augmentation, i);
    const std::vector<DrawnOp> ops = draw_ops(policy, rng);
    ASSERT_EQ(ops.size(), 2u);
    ++pairs[static_cast<size_t>(ops[0].op) * kImageOps + static_cast<size_t>(ops[1].op)];
    if (ops[0].op >= ImageOp::shear_x) ++signs[ops[0].argument < 0];
  }
  EXPECT_LT(chi_square(pairs), 294.7);
  EXPECT_LT(chi_square(signs), 10.8);
}

TEST(PolicyStatistics, ErasedAreaAndAspectFollowTheRecipe) {
  constexpr int64_t kSize = 3000;  // so large that rounding does not show
  std::vector<double> areas, aspects, tops;
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(33, Stream::augmentation, i);
    const Box box = draw_erased_box(kSize, rng);
    const double area = static_cast<double>(box.height * box.width) / (kSize * kSize);
    // Beyond 0.3, the most extreme aspects do not fit, and are drawn anew.
    if (area > 0.3) continue;
    areas.push_back((area - 0.02) / (0.3 - 0.02));
    const double aspect = static_cast<double>(box.height) / static_cast<double>(box.width);
    aspects.push_back((std::log(aspect) / std::log(1 / 0.3) + 1) / 2);
    tops.push_back((static_cast<double>(box.top) + 0.5) / static_cast<double>(kSize - box.height + 1));
  }
  EXPECT_GE(areas.size(), 10000u);
  expect_uniform(areas);
  expect_uniform(aspects);
  expect_uniform(tops);
}

TEST(PolicyStatistics, MixupsLambdaIsBeta) {
  for (const double alpha : {0.8, 1.0, 0.2}) {
    Augmentation augmentation;
    augmentation.mixup_alpha = alpha;
    const BetaBelow below(alpha);
    std::vector<double> lambdas;
    for (uint64_t i = 0; i < kDraws; ++i) {
      Rng rng(34, Stream::mixing, i);
      lambdas.push_back(below(draw_mix(augmentation, rng).lambda));
    }
    expect_uniform(lambdas);
  }
}

// Boxes that are not clipped show the lambda that was drawn: 1 - (side / size)^2, uniform for alpha 1 among those of a size
// whose centres have the same room, which is every size weighted by (1 - side / size)^2.
TEST(PolicyStatistics, CutMixsBoxesFollowTheRecipe) {
  Augmentation augmentation;
  augmentation.image_size = 8000;
  augmentation.cutmix_alpha = 1;
  const double size = static_cast<double>(augmentation.image_size);
  // With r = sqrt(1 - lambda), of density 2r on [0, 1]: the integral of 2r (1 - r)^2, times 6.
  const auto below = [](double r) { return 6 * (r * r - 4 * r * r * r / 3 + r * r * r * r / 2); };
  std::vector<double> sides, rows;
  int inside = 0;
  for (uint64_t i = 0; i < 6 * kDraws; ++i) {
    Rng rng(35, Stream::mixing, i);
    const Mix mix = draw_mix(augmentation, rng);
    const Box& box = mix.box;
    const double area = static_cast<double>(box.height * box.width) / (size * size);
    ASSERT_NEAR(mix.lambda, 1 - area, 1e-12);
    const bool clipped = box.top == 0 || box.left == 0 || box.top + box.height == augmentation.image_size ||
                         box.left + box.width == augmentation.image_size;
    if (clipped || is_empty(box)) continue;
    ++inside;
    ASSERT_EQ(box.height, box.width);
    const double side = static_cast<double>(box.height) / size;
    sides.push_back(below(side));
    rows.push_back(static_cast<double>(box.top) / (size * (1 - side)));
  }
  EXPECT_GE(sides.size(), 10000u);
  EXPECT_NEAR(inside, kDraws, 5 * std::sqrt(kDraws));  // a sixth
  expect_uniform(sides);
  expect_uniform(rows);
}

}  // namespace
}  // namespace entangle
