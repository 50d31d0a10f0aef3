// What is drawn for augmentation against the published recipe's distributions, whole: Kolmogorov and Smirnov's test on
// 10,000 draws or more, and Pearson's of counts, with fixed seeds; each would fail once in a thousand seeds.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/rand_augment.h"
#include "tests/made_up_images.h"
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

TEST(PolicyStatistics, MagnitudesBeyondAHundredAreUniform) {
  const RandAugment policy = RandAugment::parse("rand-m6-mstd101-n4-inc1-p1");
  std::vector<double> magnitudes;
  for (uint64_t i = 0; magnitudes.size() < 10000; ++i) {
    Rng rng(37, Stream::augmentation, i);
    for (const DrawnOp& drawn : draw_ops(policy, rng)) {
      if (drawn.op == ImageOp::shear_x) magnitudes.push_back(std::fabs(drawn.argument) / 0.03 / 6);
    }
  }
  expect_uniform(magnitudes);
}

// Two draws, each applied with probability 1/2: two degrees of freedom, beyond 13.8 once in a thousand.
TEST(PolicyStatistics, OperationsAreAppliedWithTheirProbability) {
  const RandAugment policy = RandAugment::parse("rand-m9-mstd0.5-inc1");
  std::vector<int> applied(3, 0), ops(kImageOps, 0);
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(38, Stream::augmentation, i);
    const std::vector<DrawnOp> drawn = draw_ops(policy, rng);
    ++applied[drawn.size()];
    for (const DrawnOp& one : drawn) ++ops[static_cast<size_t>(one.op)];
  }
  EXPECT_LT(chi_square(applied, {0.25, 0.5, 0.25}), 13.8);
  EXPECT_LT(chi_square(ops), 36.1);  // 14 degrees of freedom
}

// A picture that grows brighter to the right: of a view, the side that is brighter tells whether it was mirrored.
TEST(PolicyStatistics, ViewsAreMirroredAndMovedAsTheRecipe) {
  Image image = {12, 12, 3, {}};
  for (int i = 0; i < 12 * 12 * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(i / 3 % 12 * 20));
  TrainingView view;
  view.size = 4;
  for (const double flip : {0.5, 0.2}) {
    view.flip = flip;
    std::vector<int> mirrored(2, 0);
    for (uint64_t i = 0; i < kDraws; ++i) {
      Rng rng(39, Stream::augmentation, i);
      const Image out = training_view(image, view, rng);
      ++mirrored[out.pixels[0] > out.pixels[9]];
    }
    EXPECT_LT(chi_square(mirrored, {1 - flip, flip}), 10.8);  // one degree of freedom
  }
  constexpr int64_t kWidth = 5000, kHeight = 4000;
  std::vector<double> lefts, tops;
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(40, Stream::augmentation, i);
    const Region r = draw_resized_crop(kWidth, kHeight, rng);
    lefts.push_back((static_cast<double>(r.left) + 0.5) / static_cast<double>(kWidth - r.width + 1));
    if (r.height < kHeight - 100) {
      tops.push_back((static_cast<double>(r.top) + 0.5) / static_cast<double>(kHeight - r.height + 1));
    }
  }
  EXPECT_GE(tops.size(), 10000u);
  expect_uniform(lefts);
  expect_uniform(tops);
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
  std::vector<double> areas, aspects, tops, lefts;
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(33, Stream::augmentation, i);
    const Box box = draw_erased_box(kSize, 1, rng);
    const double area = static_cast<double>(box.height * box.width) / (kSize * kSize);
    // Beyond 0.3, the most extreme aspects do not fit, and are drawn anew.
    if (area > 0.3) continue;
    areas.push_back((area - 0.02) / (0.3 - 0.02));
    const double aspect = static_cast<double>(box.height) / static_cast<double>(box.width);
    aspects.push_back((std::log(aspect) / std::log(1 / 0.3) + 1) / 2);
    tops.push_back((static_cast<double>(box.top) + 0.5) / static_cast<double>(kSize - box.height + 1));
    lefts.push_back((static_cast<double>(box.left) + 0.5) / static_cast<double>(kSize - box.width + 1));
  }
  EXPECT_GE(areas.size(), 10000u);
  expect_uniform(areas);
  expect_uniform(aspects);
  expect_uniform(tops);
  expect_uniform(lefts);
}

// What boxes are filled with: a number a channel, a number a value; and how often, in how many boxes.
TEST(PolicyStatistics, ErasedValuesAreNormal) {
  Augmentation augmentation;
  augmentation.image_size = 16;
  augmentation.erase = 0.25;
  augmentation.erase_max_count = 3;
  std::vector<double> pixels, channels;
  std::vector<int> boxes(4, 0);
  for (uint64_t i = 0; i < 3 * kDraws; ++i) {
    Rng rng(41, Stream::augmentation, i);
    const ImagePlan plan = draw_plan(augmentation, 2, rng);
    ++boxes[static_cast<size_t>(plan.boxes)];
    for (int64_t b = 0; b < plan.boxes; ++b) {
      for (const EraseMode mode : {EraseMode::random, EraseMode::pixel}) {
        std::vector<float> image(2 * 16 * 16, 100.0f);
        ImagePlan one;
        one.boxes = 1;
        one.erased[0] = plan.erased[b];
        erase_boxes(one, mode, rng.key, 2, 16, image.data());
        const Box& box = plan.erased[b].box;
        const int64_t last = (16 + box.top + box.height - 1) * 16 + box.left + box.width - 1;  // of the second channel
        const double value = normal_below(image[static_cast<size_t>(last)], 0, 1);
        (mode == EraseMode::pixel ? pixels : channels).push_back(value);
      }
    }
  }
  EXPECT_GE(pixels.size(), 10000u);
  expect_uniform(pixels);
  expect_uniform(channels);
  EXPECT_LT(chi_square(boxes, {0.75, 0.25 / 3, 0.25 / 3, 0.25 / 3}), 16.3);  // three degrees of freedom
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

// Images in batches as the loader prepares them: each draws for itself, or each pair does.
TEST(PolicyStatistics, LambdasOfPairsAndImagesAreBetaAndIndependent) {
  const DataSource source = made_up::source_of(std::make_shared<made_up::MadeUp>(4096));
  LoaderOptions options = made_up::plain_options();
  options.batch_size = 32;
  options.form = BatchForm::staged;
  options.augmentation.mixup_alpha = 0.8;
  const BetaBelow below(0.8);
  for (const char* const mode : {"pair", "elem"}) {
    options.augmentation.mix_mode = mode;
    const int64_t apart = mode == std::string("pair") ? 1 : 7;  // the next pair's, the partner's
    std::vector<double> lambdas;
    std::vector<int> both(4, 0);
    for (Batch& batch : made_up::batches_from(source, options, 0, 0, mode == std::string("pair") ? 1024 : 512)) {
      const ImagePlan* plans = batch.staged.plans();
      for (int64_t i = 0; i < 32; ++i) {
        if (apart == 1 && mix_partner(i, 32) < i) continue;
        lambdas.push_back(below(plans[i].mix.lambda));
        if (i % 8 == 0) ++both[(plans[i].mix.lambda < 0.5) * 2 + (plans[i + apart].mix.lambda < 0.5)];
      }
    }
    EXPECT_GE(lambdas.size(), 10000u);
    expect_uniform(lambdas);
    EXPECT_LT(chi_square(both), 16.3);
  }
}

// One draw in two is CutMix's, and those of mixup stay Beta(0.8).
TEST(PolicyStatistics, MixupAndCutMixTakeTurns) {
  Augmentation augmentation;
  augmentation.image_size = 8000;
  augmentation.mixup_alpha = 0.8;
  augmentation.cutmix_alpha = 1;
  augmentation.mix_probability = 0.9;
  augmentation.switch_probability = 0.4;
  const BetaBelow below(0.8);
  std::vector<double> lambdas;
  std::vector<int> kinds(3, 0);
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(42, Stream::mixing, i);
    const Mix mix = draw_mix(augmentation, rng);
    const bool cut = !is_empty(mix.box);
    ++kinds[mix.lambda == 1 ? 0 : cut ? 1 : 2];
    if (mix.lambda != 1 && !cut) lambdas.push_back(below(mix.lambda));
  }
  expect_uniform(lambdas);
  EXPECT_LT(chi_square(kinds, {0.1, 0.36, 0.54}), 13.8);
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
