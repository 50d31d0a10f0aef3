#include "nn/cost.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace entangle {
namespace {

using nlohmann::json;

SupernetConfig published(const std::string& space) {
  SupernetConfig config;
  if (space == "S") config.embed_dim = 448, config.num_heads = 7;
  if (space == "B") config.embed_dim = 640, config.num_heads = 10, config.depth = 16;
  return config;
}

// 2 x 2 patches of 2 x 2 x 3 values, everything small and different.
SupernetConfig tiny() {
  SupernetConfig config;
  config.image_size = 4, config.patch_size = 2, config.in_channels = 3, config.num_classes = 7;
  config.embed_dim = 10, config.depth = 2, config.num_heads = 3, config.head_dim = 4, config.mlp_ratio = 2;
  config.max_relative_position = 1;
  return config;
}

Architecture tiny_architecture() {
  Architecture a;
  a.depth = 2, a.embed_dim = 9;
  a.mlp_ratio = {1.5, 2};  // 13 (of 13.5) and 18 hidden units
  a.num_heads = {1, 3};    // widths 4 and 12
  return a;
}

TEST(Cost, GoldenCountsOfThePublishedSpaces) {
  std::ifstream file("tests/golden/autoformer_counts.json");
  ASSERT_TRUE(file) << "run the tests from the root of the repository";
  const json golden = json::parse(file);
  int rows = 0;
  for (const auto& [name, space] : golden.items()) {
    const SupernetConfig config = published(name);
    EXPECT_EQ(cost_of(config, config.full()).params, space["supernet_params"].get<int64_t>()) << name;
    for (const json& row : space["rows"]) {
      const Cost cost = cost_of(config, Architecture::from_json(row["arch"].dump()));
      EXPECT_EQ(cost.params, row["params"].get<int64_t>()) << name << " " << row["arch"];
      EXPECT_EQ(cost.reference_complexity, row["reference_complexity"].get<double>()) << name << " " << row["arch"];
      ++rows;
    }
  }
  EXPECT_EQ(golden.size(), 3u);
  EXPECT_EQ(rows, 15);
}

// Other image sizes, channels, classes and clamps; from the published code as well.
TEST(Cost, GoldenCountsOfSmallSupernets) {
  SupernetConfig pooled;
  pooled.image_size = 32, pooled.patch_size = 8, pooled.num_classes = 10;
  pooled.embed_dim = 128, pooled.depth = 3, pooled.num_heads = 2;
  EXPECT_EQ(cost_of(pooled, pooled.full()).params, 646410);
  EXPECT_EQ(cost_of(pooled, pooled.full()).reference_complexity, 11326838.0);
  EXPECT_EQ(cost_of(pooled, Architecture::uniform(2, 96, 1, 3)).params, 198634);
  EXPECT_EQ(cost_of(pooled, Architecture::uniform(2, 96, 1, 3)).reference_complexity, 3297012.0);

  SupernetConfig clamped;
  clamped.image_size = 24, clamped.patch_size = 4, clamped.in_channels = 1, clamped.num_classes = 7;
  clamped.embed_dim = 128, clamped.depth = 2, clamped.num_heads = 2, clamped.mlp_ratio = 2;
  clamped.max_relative_position = 2, clamped.global_pool = false;
  EXPECT_EQ(cost_of(clamped, clamped.full()).params, 276231);
  EXPECT_EQ(cost_of(clamped, clamped.full()).reference_complexity, 10847492.0);
  EXPECT_EQ(cost_of(clamped, Architecture::uniform(1, 96, 2, 1)).params, 76327);
  EXPECT_EQ(cost_of(clamped, Architecture::uniform(1, 96, 2, 1)).reference_complexity, 3036114.0);
}

TEST(Cost, ParametersByHand) {
  const int64_t embedding = (12 * 9 + 9) + 9 + 5 * 9;  // patch projection, class token, positions
  const int64_t tables = 4 * 4 * 4;                    // four of [2*1 + 2, 4] a block
  const int64_t block0 = 4 * 9 + (9 * 12 + 12) + (4 * 9 + 9) + (9 * 13 + 13) + (13 * 9 + 9);
  const int64_t block1 = 4 * 9 + (9 * 36 + 36) + (12 * 9 + 9) + (9 * 18 + 18) + (18 * 9 + 9);
  const int64_t end = 2 * 9 + (9 * 7 + 7);
  SupernetConfig config = tiny();
  EXPECT_EQ(cost_of(config, tiny_architecture()).params, embedding + block0 + block1 + 2 * tables + end);
  config.relative_position = false;
  EXPECT_EQ(cost_of(config, tiny_architecture()).params, embedding + block0 + block1 + end);
  config.absolute_position = false;
  EXPECT_EQ(cost_of(config, tiny_architecture()).params, embedding - 45 + block0 + block1 + end);
}

// A product of an [rows, inner] by an [inner, columns] matrix, multiplied out one by one.
int64_t product(int64_t rows, int64_t inner, int64_t columns) {
  int64_t count = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t i = 0; i < inner; ++i) ++count;
    }
  }
  return count;
}

int64_t macs_of_block(int heads, int64_t hidden, bool relative) {
  int64_t sum = product(5, 9, 3 * 4 * heads) + product(5, 4 * heads, 9);
  for (int h = 0; h < heads; ++h) {
    sum += product(5, 4, 5) + product(5, 5, 4);
    if (relative) sum += 2 * product(5, 4, 4) + 2 * product(5, 4, 4);  // four rows in a table, by chance also D = 4
  }
  return sum + product(5, 9, hidden) + product(5, hidden, 9);
}

TEST(Cost, MacsByCounting) {
  SupernetConfig config = tiny();
  const int64_t outside = product(4, 12, 9) + product(1, 9, 7);
  EXPECT_EQ(cost_of(config, tiny_architecture()).macs,
            outside + macs_of_block(1, 13, true) + macs_of_block(3, 18, true));
  config.relative_position = false;
  EXPECT_EQ(cost_of(config, tiny_architecture()).macs,
            outside + macs_of_block(1, 13, false) + macs_of_block(3, 18, false));
  // A wider table costs its rows: two more of them in four products of each of the four heads.
  config = tiny();
  const int64_t before = cost_of(config, tiny_architecture()).macs;
  config.max_relative_position = 2;
  EXPECT_EQ(cost_of(config, tiny_architecture()).macs - before, 4 * 4 * product(5, 4, 2));
}

TEST(Cost, ActivationsByHand) {
  SupernetConfig config = tiny();
  // Patches; last norm, pool, probabilities, targets. Rows of p are padded to 16 values.
  const int64_t outside = 4 * 12 + (45 + 10) + 9 + 2 * 7;
  const auto block = [](int64_t heads, int64_t hidden) {
    const int64_t attention = (45 + 10) + 45 + 5 * 12 * heads + heads * 5 * 16 + 5 * 4 * heads;
    return attention + (45 + 10) + 45 + 5 * hidden;
  };
  const int64_t image = outside + block(1, 13) + block(3, 18);
  EXPECT_EQ(cost_of(config, tiny_architecture()).activation_bytes, 4 * (image + 1));
  EXPECT_EQ(cost_of(config, tiny_architecture(), 6).activation_bytes, 4 * (6 * image + 1));
  config.dropout = 0.1;  // its mask is drawn again in the backward pass, but GELU's output is then kept
  EXPECT_EQ(cost_of(config, tiny_architecture()).activation_bytes, 4 * (image + 5 * (13 + 18) + 1));
}

TEST(Cost, GrowsWithEveryGene) {
  const SupernetConfig config = published("T");
  const Cost smallest = cost_of(config, Architecture::uniform(12, 192, 3, 3.5));
  const auto larger = [&](const Architecture& a) {
    const Cost cost = cost_of(config, a);
    EXPECT_GT(cost.params, smallest.params);
    EXPECT_GT(cost.macs, smallest.macs);
    EXPECT_GT(cost.reference_complexity, smallest.reference_complexity);
    EXPECT_GT(cost.activation_bytes, smallest.activation_bytes);
  };
  larger(Architecture::uniform(13, 192, 3, 3.5));
  larger(Architecture::uniform(12, 216, 3, 3.5));
  larger(Architecture::uniform(12, 192, 4, 3.5));
  larger(Architecture::uniform(12, 192, 3, 4));
}

TEST(Cost, TheLargestAllowedSupernetDoesNotOverflow) {
  SupernetConfig config;
  config.image_size = 2048, config.in_channels = 1024, config.num_classes = 1 << 20;
  config.embed_dim = LargestSize::embed_dim, config.depth = LargestSize::depth;
  config.num_heads = LargestSize::num_heads, config.mlp_ratio = LargestSize::mlp_ratio;
  config.max_relative_position = 1024;
  const Cost one = cost_of(config, config.full()), most = cost_of(config, config.full(), 65536);
  EXPECT_GT(one.params, 0);
  EXPECT_GT(one.macs, one.params);
  EXPECT_NEAR(static_cast<double>(most.activation_bytes) / static_cast<double>(one.activation_bytes), 65536, 1);
}

TEST(Cost, RefusesWhatDoesNotFit) {
  EXPECT_THROW(cost_of(tiny(), Architecture::uniform(3, 9, 1, 1)), Error);
  EXPECT_THROW(cost_of(tiny(), tiny_architecture(), 0), Error);
  EXPECT_THROW(cost_of(tiny(), tiny_architecture(), 65537), Error);
  SupernetConfig broken = tiny();
  broken.patch_size = 3;
  EXPECT_THROW(cost_of(broken, tiny_architecture()), Error);
}

TEST(LayerCost, StemAndBlocksSumToTheWhole) {
  const SupernetConfig config = tiny();
  const Architecture a = tiny_architecture();
  LayerCost sum = stem_cost(config, a.embed_dim, 3);
  for (size_t i = 0; i < a.num_heads.size(); ++i) {
    const LayerCost block = block_cost(config, a.embed_dim, a.num_heads[i], a.mlp_ratio[i], 3);
    sum.params += block.params, sum.macs += block.macs, sum.activation_bytes += block.activation_bytes;
  }
  const Cost whole = cost_of(config, a, 3);
  EXPECT_EQ(sum.params, whole.params);
  EXPECT_EQ(sum.macs, whole.macs);
  EXPECT_EQ(sum.activation_bytes, whole.activation_bytes);
  EXPECT_THROW(stem_cost(config, 8, 0), Error);
  EXPECT_THROW(block_cost(config, 8, 1, 1, 65537), Error);
}

}  // namespace
}  // namespace entangle
