// Classical sharing: each choice of a layer has weights of its own.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "engine/optimizer.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "nn/subnet.h"
#include "nn/supernet.h"
#include "tests/files.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

SupernetConfig classical_config() {
  SupernetConfig config = small_config();
  config.classical = {{1, 2}, {16, 24}, {1.5, 2}, {1, 3}};
  return config;
}

Architecture narrow() { return Architecture::uniform(2, 16, 1, 1.5); }
Architecture wide() { return Architecture::uniform(2, 24, 3, 2); }

// The parameters that a forward pass uses, by their first value.
std::set<const float*> used_by(const Supernet& net, const Architecture& a) {
  std::vector<TapedView> views;
  ForwardOptions options;
  options.views = &views;
  net.forward(random_images(net.config(), 1), a, options);
  std::set<const float*> used;
  for (const TapedView& taped : views) used.insert(taped.view.data());
  return used;
}

std::vector<float> gradients_of(const Supernet& net) {
  return {net.parameters().gradients(), net.parameters().gradients() + net.parameters().size()};
}

TEST(Classical, EveryChoiceHasAllItsParametersAndNothingElse) {
  for (const bool tables : {true, false}) {
    SupernetConfig config = classical_config();
    config.relative_position = config.absolute_position = tables;
    const Supernet net(config, 1);
    int64_t declared = 0;
    for (const Parameter& parameter : net.parameters().all()) declared += parameter.shape.count();
    EXPECT_EQ(supernet_params(config), declared);
    for (const Architecture& a : {narrow(), wide()}) {
      std::vector<TapedView> views;
      ForwardOptions options;
      options.views = &views;
      net.forward(random_images(config, 1), a, options);
      int64_t used = 0;
      for (const TapedView& taped : views) used += taped.view.count();
      EXPECT_EQ(used, cost_of(config, a).params);
    }
  }
  EXPECT_EQ(supernet_params(small_config()), cost_of(small_config(), small_config().full()).params);
  EXPECT_EQ(classical_config().full(), wide());
}

TEST(Classical, ArchitecturesShareTheLayersInWhichTheirChoicesAgree) {
  const Supernet net(classical_config(), 1);
  const std::set<const float*> first = used_by(net, narrow()), second = used_by(net, wide());
  for (const float* parameter : first) EXPECT_EQ(second.count(parameter), 0u);
  Architecture other = narrow();  // another first block
  other.num_heads[0] = 3;
  size_t shared = 0;
  for (const float* parameter : used_by(net, other)) shared += first.count(parameter);
  const size_t ends = 8, block = 16;
  EXPECT_EQ(first.size(), ends + 2 * block);
  EXPECT_EQ(shared, ends + block) << "the second block, and what is around the blocks";
}

TEST(Classical, TrainingOneChoiceLeavesTheOthersUnchanged) {
  const SupernetConfig config = classical_config();
  Supernet net(config, 1);
  const Tensor images = random_images(config, 3);
  const std::vector<float> before = net.forward(images, wide()).to_vector();
  const std::vector<float> trained = run_step(net, narrow(), images);
  const std::vector<float> gradient = gradients_of(net);
  const std::set<const float*> used = used_by(net, narrow());
  for (const Parameter& parameter : net.parameters().all()) {
    double sum = 0;
    for (int64_t i = 0; i < parameter.shape.count(); ++i)
      sum += std::fabs(gradient[static_cast<size_t>(parameter.offset + i)]);
    EXPECT_EQ(sum > 0, used.count(parameter.tensor.data()) == 1) << parameter.name;
  }
  AdamWOptions options;
  options.weight_decay = 0;
  adamw_step(net.parameters(), options, 1, 0.01);
  EXPECT_EQ(net.forward(images, wide()).to_vector(), before);
  EXPECT_NE(net.forward(images, narrow()).to_vector(), trained);
}

double loss_of(const Supernet& net, const Architecture& a, const Tensor& images) {
  return cross_entropy(net.forward(images, a), one_hot(images.size(0), net.config().num_classes)).item();
}

// Against finite differences of the loss, along each parameter's own gradient.
TEST(Classical, GradientsAreThoseOfTheLoss) {
  const SupernetConfig config = classical_config();
  Supernet net(config, 1);
  Architecture a = wide();
  a.num_heads = {1, 3};
  a.mlp_ratio = {2, 1.5};
  const Tensor images = random_images(config, 3);
  run_step(net, a, images);
  const std::vector<float> gradient = gradients_of(net);
  int checked = 0;
  for (const Parameter& parameter : net.parameters().all()) {
    double squares = 0;
    for (int64_t i = 0; i < parameter.shape.count(); ++i)
      squares += std::pow(gradient[static_cast<size_t>(parameter.offset + i)], 2);
    if (squares < 1e-6) continue;
    const double step = 1e-2, norm = std::sqrt(squares);
    float* values = net.parameters().values() + parameter.offset;
    const std::vector<float> kept(values, values + parameter.shape.count());
    const auto moved = [&](double by) {
      for (size_t i = 0; i < kept.size(); ++i) {
        const double direction = gradient[static_cast<size_t>(parameter.offset) + i] / norm;
        values[i] = static_cast<float>(kept[i] + by * direction);
      }
      return loss_of(net, a, images);
    };
    const double slope = (moved(step) - moved(-step)) / (2 * step);
    std::copy(kept.begin(), kept.end(), values);
    EXPECT_NEAR(slope, norm, 0.02 * norm + 2e-4) << parameter.name;
    ++checked;
  }
  EXPECT_GT(checked, 30);
}

TEST(Classical, StagesAndSubnetsCutOutAnswerAsTheWhole) {
  const SupernetConfig config = classical_config();
  const Supernet net(config, 1);
  Architecture a = wide();
  a.num_heads = {1, 3};
  a.mlp_ratio = {2, 1.5};
  const Tensor images = random_images(config, 2);
  const std::vector<float> want = net.forward(images, a).to_vector();
  ResidualStream stream = net.stem(images, a.embed_dim);
  for (size_t i = 0; i < 2; ++i) stream = net.block(stream, static_cast<int64_t>(i), a.num_heads[i], a.mlp_ratio[i]);
  EXPECT_EQ(net.head(stream).to_vector(), want);
  SupernetConfig dense = small_config();
  dense.dense = a;
  dense.depth = 2;
  Supernet subnet(dense, 2);
  inherit_weights(net, a, subnet);
  EXPECT_EQ(subnet.forward(images, a).to_vector(), want);
  EXPECT_EQ(net.find("blocks.1.fc1.weight", a)->name, "24x3x1.5/blocks.1.fc1.weight");
  EXPECT_EQ(net.find("head.bias", a)->name, "24/head.bias");
  EXPECT_EQ(net.find("blocks.2.fc1.weight", a), nullptr);
  EXPECT_EQ(name_without_choice("24/head.bias"), "head.bias");
}

TEST(Classical, CheckpointsComeBackAndAreNotTakenForEntangledOnes) {
  const TemporaryDirectory dir;
  const SupernetConfig config = classical_config();
  Supernet net(config, 1), loaded(config, 2), entangled(small_config(), 3);
  run_step(net, wide(), random_images(config, 2));
  adamw_step(net.parameters(), {}, 1, 0.01);
  save_checkpoint(dir.path("classical"), net, {});
  save_checkpoint(dir.path("entangled"), entangled, {});
  EXPECT_EQ(load_checkpoint(dir.path("classical"), loaded, true).at("sharing"), "classical");
  for (const auto array : {&ParameterArena::values, &ParameterArena::first_moments, &ParameterArena::second_moments}) {
    const float *want = (net.parameters().*array)(), *got = (loaded.parameters().*array)();
    EXPECT_TRUE(std::equal(want, want + net.parameters().size(), got));
  }
  expect_error(error_of([&] { load_checkpoint(dir.path("entangled"), loaded, false); }),
               {"shared in the way 'entangled'", "the supernet's 'classical'", "MODEL.sharing"});
  expect_error(error_of([&] { load_checkpoint(dir.path("classical"), entangled, false); }),
               {"shared in the way 'classical'", "the supernet's 'entangled'"});
  SupernetConfig published = config;
  published.qkv_bias = QkvBias::contiguous;
  Supernet contiguous(published, 1);
  expect_error(error_of([&] { load_checkpoint("tests/golden/torch/supernet.pth", contiguous, false); }),
               {"as published: the file does not say", "MODEL.sharing"});
}

TEST(Classical, OnlyChoicesHaveWeights) {
  const Supernet net(classical_config(), 1);
  const Tensor images = random_images(net.config(), 1);
  expect_error(error_of([&] { net.forward(images, Architecture::uniform(2, 20, 1, 2)); }),
               {"\"embed_dim\":20", "MODEL.sharing=classical"});
  expect_error(error_of([&] { net.forward(images, Architecture::uniform(3, 16, 1, 2)); }), {"depth is 3"});
  expect_error(error_of([&] { net.stem(images, 20); }), {"embed_dim is 20", "MODEL.sharing=classical"});
  expect_error(error_of([&] { net.block(net.stem(images, 16), 0, 2, 2); }), {"num_heads is 2"});
  expect_error(error_of([&] { net.block(net.stem(images, 16), 0, 1, 1); }), {"mlp_ratio is 1"});
  Supernet to(small_config(), 1);
  expect_error(error_of([&] { lay_out_for_published_code(net, wide(), to); }), {"MODEL.sharing=classical"});
  SupernetConfig config = classical_config();
  config.classical.embed_dim = {16, 32};
  expect_error(error_of([&] { config.validate(); }), {"embed_dim is 32", "larger than the supernet's 24"});
  config = classical_config();
  config.dense = config.full();
  config.depth = 2;
  expect_error(error_of([&] { config.validate(); }), {"share nothing"});
}

}  // namespace
}  // namespace entangle
