// Subnets cut out of a supernet: dense weights, another task, the published layout.
#include "nn/subnet.h"

#include <filesystem>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tests/files.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"
#include "tools/common/config.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

SupernetConfig dense_config(const SupernetConfig& supernet, const Architecture& architecture) {
  Config config;
  config.model = supernet;
  return config.dense(architecture).model;
}

TEST(DenseWeights, HaveEveryBlockAtItsOwnSizeAndNothingElse) {
  const SupernetConfig config = dense_config(small_config(), mixed_architecture());
  const Supernet dense(config, 1);
  int64_t elements = 0;
  for (const Parameter& parameter : dense.parameters().all()) elements += parameter.shape.count();
  EXPECT_EQ(elements, cost_of(small_config(), mixed_architecture()).params);
  EXPECT_EQ(dense.parameters().find("blocks.1.attn.qkv.weight")->file_shape, (Shape{3 * 8, 16}));
  EXPECT_EQ(dense.parameters().find("blocks.0.fc1.weight")->shape, (Shape{24, 16}));
  Architecture larger = mixed_architecture();
  larger.num_heads[1] = 2;
  expect_error(error_of([&] { config.check_fits(larger); }), {"num_heads[1] is 2", "1"});
  EXPECT_EQ(config.full(), mixed_architecture());
  SupernetConfig wrong = config;
  wrong.embed_dim = 24;
  expect_error(error_of([&] { wrong.validate(); }), {"embed_dim 16", "24"});
  wrong = config;
  wrong.num_heads = 3;
  expect_error(error_of([&] { wrong.validate(); }), {"num_heads 3", "largest"});
}

// Nesting, proven: the subnet's own weights give what its view gives, to the bit, with either bias on either side.
TEST(DenseWeights, GiveTheLogitsOfTheView) {
  for (const QkvBias bias : {QkvBias::aligned, QkvBias::contiguous}) {
    for (const QkvBias own : {QkvBias::aligned, QkvBias::contiguous}) {
      SupernetConfig config = small_config();
      config.qkv_bias = bias;
      Supernet supernet(config, 3);
      // Biases are zero at first: give every parameter something of its own.
      for (int64_t i = 0; i < supernet.parameters().size(); ++i) {
        supernet.parameters().values()[i] += 0.01f * static_cast<float>(i % 17);
      }
      config = dense_config(config, mixed_architecture());
      config.qkv_bias = own;
      Supernet dense(config, 4);
      const Inherited inherited = inherit_weights(supernet, mixed_architecture(), dense);
      EXPECT_FALSE(inherited.new_head || inherited.resampled_positions || inherited.extended_tables);
      const Tensor images = random_images(config, 3);
      EXPECT_EQ(dense.forward(images, mixed_architecture()).to_vector(),
                supernet.forward(images, mixed_architecture()).to_vector());
    }
  }
}

TEST(DenseWeights, AreSavedAndLoadedWithTheirConfiguration) {
  const TemporaryDirectory dir;
  Config config;
  config.model = small_config();
  config = config.dense(mixed_architecture());
  config.model.qkv_bias = QkvBias::contiguous;
  const Supernet dense(config.model, 5);
  save_checkpoint(dir.path("f"), dense, {});
  const Config read = parse_config(config.to_yaml(), "again");
  EXPECT_EQ(read.model.full(), mixed_architecture());
  EXPECT_EQ(first_difference(config, read), "");
  Supernet loaded(read.model);
  load_checkpoint(dir.path("f"), loaded, false);
  const Tensor images = random_images(read.model, 2);
  EXPECT_EQ(loaded.forward(images, mixed_architecture()).to_vector(),
            dense.forward(images, mixed_architecture()).to_vector());
}

// An aligned supernet's architecture in the published layout: contiguous, and right for this architecture.
TEST(PublishedLayout, GivesTheLogitsOfTheArchitecture) {
  Supernet aligned(small_config(), 3);
  for (int64_t i = 0; i < aligned.parameters().size(); ++i) {
    aligned.parameters().values()[i] += 0.01f * static_cast<float>(i % 17);
  }
  SupernetConfig config = small_config();
  config.qkv_bias = QkvBias::contiguous;
  Supernet published(config, 4);
  const Tensor images = random_images(config, 3);
  lay_out_for_published_code(aligned, mixed_architecture(), published);
  EXPECT_EQ(published.forward(images, mixed_architecture()).to_vector(),
            aligned.forward(images, mixed_architecture()).to_vector());
  Architecture other = mixed_architecture();
  other.num_heads = {1, 1};
  EXPECT_NE(published.forward(images, other).to_vector(), aligned.forward(images, other).to_vector());
  expect_error(error_of([&] { lay_out_for_published_code(aligned, mixed_architecture(), aligned); }), {"contiguous"});
}

TEST(Inheritance, ToOtherClassesKeepsTheNewHead) {
  const Supernet supernet(small_config(), 3);
  SupernetConfig config = dense_config(small_config(), mixed_architecture());
  config.num_classes = 7;
  Supernet dense(config, 4);
  const std::vector<float> head = dense.parameters().find("head.weight")->tensor.to_vector();
  EXPECT_TRUE(inherit_weights(supernet, mixed_architecture(), dense).new_head);
  EXPECT_EQ(dense.parameters().find("head.weight")->tensor.to_vector(), head);
  EXPECT_EQ(dense.parameters().find("norm.weight")->tensor.to_vector(),
            supernet.parameters().find("norm.weight")->tensor.slice(0, 0, 16).to_vector());
}

// A distance beyond the old table takes the row it was clamped to: nothing changes before it is trained.
TEST(Inheritance, ALargerRelativePositionChangesNothingAtFirst) {
  SupernetConfig config = small_config();  // 3 x 3 patches, distances clamped to 1
  const Supernet supernet(config, 3);
  const Tensor images = random_images(config, 2);
  const std::vector<float> want = supernet.forward(images, mixed_architecture()).to_vector();
  config = dense_config(config, mixed_architecture());
  config.max_relative_position = 4;
  Supernet dense(config, 4);
  EXPECT_TRUE(inherit_weights(supernet, mixed_architecture(), dense).extended_tables);
  const std::vector<float> got = dense.forward(images, mixed_architecture()).to_vector();
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 64 * 0x1p-24 * (1 + std::abs(want[i])));
  EXPECT_EQ(dense.parameters().find("blocks.0.attn.rel_pos_embed_v.embeddings_table_h")->shape, (Shape{10, 8}));
}

TEST(Inheritance, AnotherResolutionResamplesPositions) {
  const Supernet supernet(small_config(), 3);
  SupernetConfig config = dense_config(small_config(), mixed_architecture());
  config.image_size = 20;
  Supernet dense(config, 4);
  EXPECT_TRUE(inherit_weights(supernet, mixed_architecture(), dense).resampled_positions);
  const std::vector<float> before = supernet.parameters().find("pos_embed")->tensor.slice(1, 0, 16).to_vector();
  const std::vector<float> after = dense.parameters().find("pos_embed")->tensor.to_vector();
  ASSERT_EQ(after.size(), 26u * 16);
  for (size_t c = 0; c < 16; ++c) {
    EXPECT_EQ(after[c], before[c]) << "the class token's";
    EXPECT_NEAR(after[(1 + 12) * 16 + c], before[(1 + 4) * 16 + c], 1e-6) << "the centre's";
  }
}

// From PyTorch: interpolate(arange(9)^2 as 3 x 3, size=(4, 4), mode="bicubic", align_corners=False).
TEST(ResampleGrid, EqualsPyTorch) {
  std::vector<float> squares;
  for (int i = 0; i < 9; ++i) squares.push_back(static_cast<float>(i * i));
  const std::vector<float> want = {-0.686862f, -0.564097f, 0.911753f,  2.677096f,  2.490591f,  4.784619f,
                                   9.654833f,  13.591441f, 19.013315f, 24.701708f, 34.878368f, 42.209339f,
                                   36.973969f, 44.833630f, 58.404655f, 67.906891f};
  const std::vector<float> got = resample_grid(squares, 3, 1, 4);
  ASSERT_EQ(got.size(), 16u);
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(got[i], want[i], 1e-5) << i;
  EXPECT_EQ(resample_grid(squares, 3, 1, 3), squares);
}

TEST(Inheritance, NamesWhatDoesNotFit) {
  const Supernet supernet(small_config(), 3);
  const auto error = [&](const std::function<void(SupernetConfig&)>& change) {
    SupernetConfig config = dense_config(small_config(), mixed_architecture());
    change(config);
    Supernet dense(config, 4);
    return error_of([&] { inherit_weights(supernet, mixed_architecture(), dense); });
  };
  expect_error(error([](SupernetConfig& c) { c.in_channels = 3; }), {"MODEL.in_channels is 2 there and 3 here"});
  expect_error(error([](SupernetConfig& c) { c.patch_size = 2; }), {"MODEL.patch_size"});
  expect_error(error([](SupernetConfig& c) { c.relative_position = false; }), {"MODEL.relative_position"});
  Supernet other(dense_config(small_config(), small_config().full()), 4);
  expect_error(error_of([&] { inherit_weights(supernet, mixed_architecture(), other); }), {"do not fit"});
}

}  // namespace
}  // namespace entangle
