// The embedding interface, C++ and C: what it loads and answers, from several threads, and how it refuses.
#include "entangle/inference.h"

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "data/augment.h"
#include "data/resize.h"
#include "entangle/description.h"
#include "entangle/inference_c.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tests/files.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

Description small_description() {
  Description d;
  d.model = small_config();
  d.model.in_channels = 3;
  d.space.depth = {1, 2, 3}, d.space.embed_dim = {8, 16}, d.space.num_heads = {1, 3}, d.space.mlp_ratio = {1, 1.5};
  d.mean = {0.5f, 0.4f, 0.3f}, d.std_dev = {0.2f, 0.3f, 0.4f};
  d.interpolation = Interpolation::bilinear;
  return d;
}

class Inference : public testing::Test {
 protected:
  Inference() : supernet(description.model, 3) { save("w.safetensors", description.to_json()); }
  void save(const std::string& name, const std::string& text) const {
    CheckpointContent content;
    content.optimizer = false;
    if (!text.empty()) content.metadata = {{kDescriptionKey, text}};
    save_checkpoint(dir.path(name), supernet, content);
  }
  std::vector<float> view(const Tensor& images, const Architecture& a) const {
    return supernet.forward(images, a).to_vector();
  }
  std::string load_error(const std::string& text) const {
    save("x.safetensors", text);
    return error_of([&] { inference::Model model(dir.path("x.safetensors")); });
  }

  TemporaryDirectory dir;
  const Description description = small_description();
  const Supernet supernet;
};

TEST_F(Inference, AnswersAsTheSupernetFromSeveralThreads) {
  const inference::Model model(dir.path("w.safetensors"));
  EXPECT_EQ(model.info().image_size, 12);
  EXPECT_EQ(model.info().classes, 5);
  EXPECT_EQ(model.info().num_heads, (std::vector<int>{1, 3}));
  EXPECT_EQ(model.info().tensors.size(), supernet.parameters().all().size());
  const SearchSpace& space = description.space;
  write_raw(dir.path("a.json"), mixed_architecture().to_json());
  const std::vector<std::pair<std::string, Architecture>> choices = {
      {"min", space.smallest()},
      {"middle", space.middle()},
      {"max", space.largest()},
      {mixed_architecture().to_json(), mixed_architecture()},
      {dir.path("a.json"), mixed_architecture()}};
  const Tensor images = random_images(description.model, 2);
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> got(choices.size());
  for (size_t i = 0; i < choices.size(); ++i) {
    threads.emplace_back([&, i] {
      const inference::Subnet subnet = model.subnet(choices[i].first);
      for (int k = 0; k < 20; ++k) got[i] = subnet.logits(images.data(), 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < choices.size(); ++i) {
    EXPECT_EQ(got[i], view(images, choices[i].second)) << choices[i].first;
    const inference::Subnet subnet = model.subnet(choices[i].first);
    EXPECT_EQ(subnet.architecture(), choices[i].second.to_json());
    EXPECT_EQ(subnet.cost().params, cost_of(description.model, choices[i].second).params);
  }
  EXPECT_TRUE(model.subnet("min").logits(nullptr, 0).empty());
}

TEST_F(Inference, PhotosAreFittedAndNormalised) {
  Image image = {20, 31, 3, {}};
  for (int i = 0; i < 20 * 31 * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(i * 7 % 251));
  std::vector<float> pixels(3 * 12 * 12);
  place_image(resize_for_evaluation(image, 12, Interpolation::bilinear), Placement(),
              Normalizer(description.mean, description.std_dev), 12, pixels.data());
  const inference::Subnet subnet = inference::Model(dir.path("w.safetensors")).subnet("max");
  const std::vector<float> want = view(Tensor::from({1, 3, 12, 12}, pixels), description.space.largest());
  EXPECT_EQ(subnet.logits({image.pixels.data(), 31, 20, 3}), want);
  // A grey photo is one whose channels are equal.
  const std::vector<uint8_t> grey(50, 90), rgb(150, 90);
  EXPECT_EQ(subnet.logits({grey.data(), 10, 5, 1}), subnet.logits({rgb.data(), 10, 5, 3}));
  expect_error(error_of([&] { subnet.logits({nullptr, 1, 1, 3}); }), {"photo is empty"});
  expect_error(error_of([&] { subnet.logits({grey.data(), 5, 5, 2}); }), {"2 channels"});
  expect_error(error_of([&] { subnet.logits({grey.data(), 70000, 1, 1}); }), {"70000 x 1"});
  expect_error(error_of([&] { subnet.logits(pixels.data(), -1); }), {"logits of -1"});
}

TEST_F(Inference, RefusesWhatDoesNotDescribeItsNetwork) {
  expect_error(load_error(""), {"does not describe its network", "./convert_checkpoint"});
  expect_error(load_error("{"), {"x.safetensors", "broken"});
  expect_error(load_error("[1]"), {"image_size", "missing"});
  std::string text = description.to_json();
  EXPECT_EQ(Description::from_json(text, "x").to_json(), text);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return load_error(changed);
  };
  expect_error(with("\"depth\":3", "\"depth\":\"3\""), {"\"depth\"", "another type"});
  expect_error(with("\"depth\":3", "\"depth\":4"), {"blocks.3"});
  expect_error(with("\"embed_dim\":[8,16]", "\"embed_dim\":[8,32]"), {"embed_dim is 32"});
  expect_error(with("\"patch_size\":4", "\"patch_size\":5"), {"patch_size is 5"});
  expect_error(with("0.2", "-0.2"), {"std has -0.2"});
  const inference::Model model(dir.path("w.safetensors"));
  expect_error(error_of([&] { model.subnet("small"); }), {"'small'", "middle"});
  expect_error(error_of([&] { model.subnet(""); }), {"no architecture"});
  const std::string large = Architecture::uniform(9, 16, 1, 1).to_json();
  expect_error(error_of([&] { model.subnet(large); }), {"depth is 9"});
}

TEST_F(Inference, FromC) {
  EXPECT_EQ(entangle_load(dir.path("none").c_str()), nullptr);
  EXPECT_NE(std::strstr(entangle_error(), "none"), nullptr) << entangle_error();
  EXPECT_EQ(entangle_load(nullptr), nullptr);
  EXPECT_STREQ(entangle_error(), "the path is a null pointer");
  std::thread([] { EXPECT_STREQ(entangle_error(), ""); }).join();

  entangle_model* model = entangle_load(dir.path("w.safetensors").c_str());
  ASSERT_NE(model, nullptr) << entangle_error();
  const entangle_sizes sizes = entangle_model_sizes(model);
  EXPECT_EQ(sizes.channels, 3);
  EXPECT_NE(std::strstr(entangle_describe(model), "\"head.weight\":[5,24]"), nullptr) << entangle_describe(model);
  EXPECT_EQ(entangle_choose(model, "small"), nullptr);
  EXPECT_NE(std::strstr(entangle_error(), "'small'"), nullptr);
  entangle_subnet* subnet = entangle_choose(model, "min");
  entangle_free_model(model);  // the subnet keeps what it needs
  ASSERT_NE(subnet, nullptr) << entangle_error();
  EXPECT_EQ(entangle_architecture(subnet), description.space.smallest().to_json());
  EXPECT_GT(entangle_cost_of(subnet).macs, 0);

  const Tensor images = random_images(description.model, 2);
  std::vector<float> logits(10);
  EXPECT_EQ(entangle_logits(subnet, images.data(), 2, logits.data()), 0);
  EXPECT_EQ(logits, view(images, description.space.smallest()));
  EXPECT_NE(entangle_logits(subnet, images.data(), 2, nullptr), 0);
  EXPECT_NE(entangle_logits(nullptr, images.data(), 2, logits.data()), 0);
  const std::vector<uint8_t> rgb(150, 90);
  EXPECT_EQ(entangle_photo_logits(subnet, rgb.data(), 10, 5, 3, logits.data()), 0);
  EXPECT_NE(entangle_photo_logits(subnet, rgb.data(), 0, 5, 3, logits.data()), 0);
  EXPECT_STREQ(entangle_error(), "the photo is empty");
  EXPECT_EQ(entangle_set_threads(-1), 1);
  EXPECT_EQ(entangle_model_sizes(nullptr).classes, 0);
  EXPECT_EQ(entangle_describe(nullptr), nullptr);
  EXPECT_EQ(entangle_architecture(nullptr), nullptr);
  entangle_free_subnet(subnet);
  entangle_free_subnet(nullptr);
}

}  // namespace
}  // namespace entangle
