// The self-contained runner against the supernet's view: the same images, sizes that must be fitted among them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/decode.h"
#include "data/resize.h"
#include "engine/check.h"
#include "nn/checkpoint.h"
#include "tests/files.h"
#include "tests/program_runner.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"
#include "tools/common/export.h"
#include "tools/common/png.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

std::string runner_path() {
  const char* told = std::getenv("ENTANGLE_RUNNER");
  const std::string path = std::filesystem::absolute(told == nullptr ? "build/release/runner" : told);
  CHECK(std::filesystem::exists(path), "there is no ", path, ": build it with make test, or set ENTANGLE_RUNNER");
  return path;
}

std::string ppm(const Image& image) {
  return concat(image.channels == 3 ? "P6" : "P5", "\n# a comment\n", image.width, " ", image.height, "\n255\n") +
         std::string(image.pixels.begin(), image.pixels.end());
}

// Smooth stripes with noise: something to resize.
Image sample_image(int64_t width, int64_t height, int64_t channels, uint64_t seed) {
  Image image = {height, width, channels, {}};
  Rng rng(seed, Stream::synthetic);
  for (int64_t i = 0; i < width * height * channels; ++i) {
    const double wave = 100 + 80 * std::sin(0.01 * static_cast<double>(i % (width * channels)) * (1 + seed % 5));
    image.pixels.push_back(static_cast<uint8_t>(wave + static_cast<double>(rng.below(60))));
  }
  return image;
}

// A model whose every parameter has something of its own, and the runner on its export.
class Runner : public testing::Test {
 protected:
  void make(const std::function<void(Config&)>& change) {
    Config config;
    config.model = small_config();
    config.model.image_size = 36;
    config.model.in_channels = 3;
    config.model.num_classes = 12;
    config.model.max_relative_position = 4;
    change(config);
    source.mean = {0.485f, 0.456f, 0.406f};
    source.std_dev = {0.229f, 0.224f, 0.225f};
    source.mean.resize(static_cast<size_t>(config.model.in_channels));
    source.std_dev.resize(source.mean.size());
    config.space.depth = {2}, config.space.embed_dim = {16}, config.space.num_heads = {2}, config.space.mlp_ratio = {2};
    model.config = config;
    model.supernet = std::make_unique<Supernet>(config.model, 3);
    ParameterArena& arena = model.supernet->parameters();
    for (int64_t i = 0; i < arena.size(); ++i) arena.values()[i] += 0.01f * static_cast<float>(i % 17);
    const Tensor images = images_to_check(config, nullptr, 2);
    export_subnet(model, mixed_architecture(), ExportForm::dense, images, &source, dir.path("w"));
  }
  std::vector<float> view_logits(const Image& image) const {
    const SupernetConfig& m = model.config.model;
    const bool as_it_is = !source.any_size && image.width == m.image_size && image.height == m.image_size;
    const Image fitted = as_it_is ? image : resize_for_evaluation(image, m.image_size, Interpolation::bicubic);
    std::vector<float> pixels(static_cast<size_t>(m.in_channels * m.image_size * m.image_size));
    place_image(fitted, Placement(), Normalizer(source.mean, source.std_dev), m.image_size, pixels.data());
    const Tensor images = Tensor::from({1, m.in_channels, m.image_size, m.image_size}, pixels);
    return model.supernet->forward(images, mixed_architecture()).to_vector();
  }
  // The numbers behind the name on the runner's line.
  std::vector<float> numbers(const std::vector<std::string>& arguments) const {
    std::vector<std::string> command = {runner_path()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const Outcome outcome = run_program(dir.root(), command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    std::istringstream line(outcome.out);
    std::string name;
    line >> name;
    std::vector<float> values;
    for (float value = 0; line >> value;) values.push_back(value);
    return values;
  }
  // Logits to rounding, and the same five best classes in the same order.
  void expect_same(const Image& image, const std::string& file) const {
    const std::vector<float> want = view_logits(image), got = numbers({"--logits", "w", file});
    ASSERT_EQ(got.size(), want.size());
    EXPECT_NO_THROW(check_logits(got, want, mixed_architecture()));
    std::vector<int64_t> order(want.size());
    std::iota(order.begin(), order.end(), 0);
    const auto better = [&](int64_t a, int64_t b) {
      return want[static_cast<size_t>(a)] > want[static_cast<size_t>(b)];
    };
    std::stable_sort(order.begin(), order.end(), better);
    const std::vector<float> best = numbers({"w", file});
    ASSERT_EQ(best.size(), 2 * std::min<size_t>(5, want.size()));
    for (size_t i = 0; i < best.size() / 2; ++i) EXPECT_EQ(static_cast<int64_t>(best[2 * i]), order[i]) << i;
  }

  TemporaryDirectory dir;
  DataSource source;
  LoadedModel model;
};

TEST_F(Runner, GivesTheSameTopFiveOnTenImages) {
  source.any_size = true;
  make([](Config&) {});
  for (uint64_t i = 0; i < 10; ++i) {
    const Image image = sample_image(30 + 17 * static_cast<int64_t>(i), 90 - 4 * static_cast<int64_t>(i), 3, i);
    write_raw(dir.path("i.ppm"), ppm(image));
    expect_same(image, "i.ppm");
  }
  // JPEG and PNG are read when stb_image.h was found, as it is here. Decoders of JPEG differ by a level or two.
  const Image photo = read_image("tests/golden/augment/input.jpg");
  write_png(dir.path("i.png"), photo);
  expect_same(photo, "i.png");
  std::filesystem::copy("tests/golden/augment/input.jpg", dir.path("i.jpg"));
  const std::vector<float> want = view_logits(photo), got = numbers({"--logits", "w", "i.jpg"});
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 0.01) << i;
}

TEST_F(Runner, WithAClassTokenAContiguousBiasAndNoRelativePosition) {
  make([](Config& c) {
    c.model.in_channels = 1;
    c.model.global_pool = false;
    c.model.qkv_bias = QkvBias::contiguous;
    c.model.relative_position = false;
  });
  const Image image = sample_image(36, 36, 1, 4);
  write_raw(dir.path("i.pgm"), ppm(image));
  expect_same(image, "i.pgm");
  const Image larger = sample_image(50, 41, 1, 4);
  write_raw(dir.path("l.pgm"), ppm(larger));
  expect_same(larger, "l.pgm");
}

TEST_F(Runner, WithoutAbsolutePosition) {
  make([](Config& c) { c.model.absolute_position = false; });
  const Image image = sample_image(36, 36, 3, 5);
  write_raw(dir.path("i.ppm"), ppm(image));
  expect_same(image, "i.ppm");
}

TEST_F(Runner, NamesWhatIsWrong) {
  make([](Config&) {});
  const std::string image = ppm(sample_image(36, 36, 3, 1));
  write_raw(dir.path("i.ppm"), image);
  const auto expect = [&](const std::string& weights, const std::string& file, const std::string& part) {
    const Outcome outcome = run_program(dir.root(), {runner_path(), weights, file});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  };
  expect("none", "i.ppm", "cannot open none");
  expect("w", "none", "cannot open none");
  expect("i.ppm", "i.ppm", "no .safetensors file");
  write_raw(dir.path("cut.ppm"), image.substr(0, image.size() - 1));
  expect("w", "cut.ppm", "cut short");
  write_raw(dir.path("wrong.ppm"), "P6 0 3 255 ");
  expect("w", "wrong.ppm", "no PPM");
  save_checkpoint(dir.path("supernet"), *model.supernet, {});
  expect("supernet", "i.ppm", "not for the runner");
  const std::string weights = read_raw(dir.path("w"));
  write_raw(dir.path("cut"), weights.substr(0, weights.size() - 4));
  expect("cut", "i.ppm", "cut short at tensor");
  EXPECT_EQ(run_program(dir.root(), {runner_path(), "w"}).status, 2);
}

}  // namespace
}  // namespace entangle
