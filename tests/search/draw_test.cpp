#include "search/draw.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cmath>

namespace entangle {
namespace {

constexpr int kDraws = 20000;

SearchSpace space() { return {{2, 3, 4}, {64, 96, 128, 160}, {2, 3, 4}, {2, 4}}; }

Architecture parent() { return Architecture::uniform(3, 96, 2, 3); }

// `count` of `draws` lies within five standard deviations of what probability p gives.
void expect_rate(int64_t count, int64_t draws, double p, const char* what) {
  const double n = static_cast<double>(draws);
  EXPECT_NEAR(static_cast<double>(count), n * p, 5 * std::sqrt(n * p * (1 - p)) + 1e-9) << what;
}

TEST(Mutate, ChangesEachGeneAtItsRate) {
  Rng rng(3, Stream::search);
  int64_t depths = 0, embeds = 0, ratios = 0, heads = 0, blocks = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Architecture child = mutate(space(), parent(), 0.2, 0.4, rng);
    ASSERT_TRUE(space().contains(child));
    depths += child.depth != 3;
    embeds += child.embed_dim != 96;
    // Blocks that the parent has; what is redrawn keeps its value once in `choices`.
    for (size_t b = 0; b < 2; ++b) {
      ratios += child.mlp_ratio[b] != 3;
      heads += child.num_heads[b] != 2;
      ++blocks;
    }
  }
  expect_rate(depths, kDraws, 0.4 * 2 / 3, "depth");
  expect_rate(embeds, kDraws, 0.4 * 3 / 4, "embed_dim");
  expect_rate(ratios, blocks, 0.2 * 2 / 3, "mlp_ratio");
  expect_rate(heads, blocks, 0.2 * 1 / 2, "num_heads");
}

TEST(Mutate, GrownBlocksAreUniformAndCutOnesGone) {
  Rng rng(4, Stream::search);
  int64_t grown = 0, ratio = 0, heads = 0, cut = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Architecture child = mutate(space(), parent(), 0, 1, rng);
    for (size_t b = 0; b < 2; ++b) {
      ASSERT_EQ(child.mlp_ratio[b], 3);
      ASSERT_EQ(child.num_heads[b], 2);
    }
    cut += child.depth == 2;
    if (child.depth < 4) continue;
    ++grown;
    ratio += child.mlp_ratio[3] == 2;
    heads += child.num_heads[3] == 4;
  }
  expect_rate(grown, kDraws, 1.0 / 3, "grown");
  expect_rate(cut, kDraws, 1.0 / 3, "cut");
  expect_rate(ratio, grown, 1.0 / 3, "ratio of a grown block");
  expect_rate(heads, grown, 1.0 / 2, "heads of a grown block");
}

TEST(Mutate, WithoutRatesNothingChangesAndPositionDecides) {
  Rng rng(5, Stream::search);
  EXPECT_EQ(mutate(space(), parent(), 0, 0, rng), parent());
  Rng one(6, Stream::search, 2), two(6, Stream::search, 2);
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(mutate(space(), parent(), 0.5, 0.5, one), mutate(space(), parent(), 0.5, 0.5, two));
}

TEST(Cross, TakesEachGeneFromEitherParentEquallyOften) {
  const Architecture a = Architecture::uniform(3, 64, 2, 2), b = Architecture::uniform(3, 160, 4, 4);
  Rng rng(7, Stream::search);
  int64_t embed = 0, ratio = 0, heads = 0, together = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Architecture child = cross(a, b, rng);
    ASSERT_EQ(child.depth, 3);
    ASSERT_TRUE(child.embed_dim == 64 || child.embed_dim == 160);
    for (size_t k = 0; k < 3; ++k) {
      ASSERT_TRUE(child.mlp_ratio[k] == 2 || child.mlp_ratio[k] == 4);
      ASSERT_TRUE(child.num_heads[k] == 2 || child.num_heads[k] == 4);
    }
    embed += child.embed_dim == 64;
    ratio += child.mlp_ratio[1] == 2;
    heads += child.num_heads[2] == 2;
    together += child.mlp_ratio[1] == 2 && child.num_heads[1] == 2;
  }
  expect_rate(embed, kDraws, 0.5, "embed_dim");
  expect_rate(ratio, kDraws, 0.5, "mlp_ratio");
  expect_rate(heads, kDraws, 0.5, "num_heads");
  expect_rate(together, kDraws, 0.25, "genes of a block are drawn apart");
}

TEST(Cross, RefusesParentsOfDifferentDepth) {
  Rng rng(8, Stream::search);
  EXPECT_THROW(cross(Architecture::uniform(2, 64, 2, 2), parent(), rng), Error);
}

}  // namespace
}  // namespace entangle
