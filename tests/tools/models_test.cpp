// What the programs share: numbers and words of a command line, lists of images, accuracy and loss.
#include "tools/common/models.h"

#include <cmath>
#include <limits>

#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tools/common/cli.h"
#include "tools/common/evaluate.h"
#include "tools/common/progress.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

TEST(Numbers, TakePowersOfTen) {
  EXPECT_EQ(parse_number("1500"), 1500);
  EXPECT_EQ(parse_number("6M"), 6000000);
  EXPECT_EQ(parse_number("5.87M"), 5870000);
  EXPECT_EQ(parse_number("2.5k"), 2500);
  EXPECT_EQ(parse_number("3G"), 3000000000);
  EXPECT_EQ(parse_number("-2"), -2);
  for (const char* wrong : {"", "M", "6MB", "6m", "1.5", "2.0005k", "abc", "1e30", "nan", "inf", "6 M"}) {
    EXPECT_NE(error_of([&] { parse_number(wrong); }), "") << wrong;
  }
}

TEST(Numbers, DurationsReadAsClocks) {
  EXPECT_EQ(duration_text(65), "1:05");
  EXPECT_EQ(duration_text(3725.4), "1:02:05");
}

TEST(ResolveArchitecture, KnowsWordsPublishedNamesAndFiles) {
  TemporaryDirectory dir;
  const SearchSpace space = load_config("fashion-mnist").space;
  EXPECT_EQ(resolve_architecture("min", space), space.smallest());
  EXPECT_EQ(resolve_architecture("mean", space), space.middle());
  EXPECT_EQ(resolve_architecture("max", space), space.largest());
  EXPECT_EQ(resolve_architecture("published:T", space), load_config("T").retrain);
  write_raw(dir.path("a.json"), space.middle().to_json() + "\n");
  EXPECT_EQ(resolve_architecture(dir.path("a.json"), space), space.middle());
  expect_error(error_of([&] { resolve_architecture("published:X", space); }), {"'X'", "published:T", "published:B"});
  expect_error(error_of([&] { resolve_architecture("maximum", space); }), {"'maximum'", "max"});
  write_raw(dir.path("b.json"), "{}");
  expect_error(error_of([&] { resolve_architecture(dir.path("b.json"), space); }), {dir.path("b.json")});
}

TEST(Spread, TakesEvenlyAndNeverMoreThanThereAre) {
  EXPECT_EQ(spread({1, 2, 3, 4, 5, 6}, 3), (std::vector<int64_t>{1, 3, 5}));
  EXPECT_EQ(spread({1, 2, 3}, 9), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(spread({}, 9), (std::vector<int64_t>{}));
  EXPECT_EQ(spread({1, 2, 3}, 0), (std::vector<int64_t>{}));
}

TEST(AddLogits, RanksBreakTiesByIndexAndLossIsCrossEntropy) {
  Evaluation evaluation;
  // Ranks of the labels: 0, 1 (a tie, the smaller index first), 0 (the same tie), 5, 6.
  const std::vector<float> logits = {3, 1, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 2, 2, 1, 1,
                                     1, 1, 1, 6, 5, 4, 3, 2, 1, 0, 6, 5, 4, 3, 2, 1, 0};
  add_logits(logits, {0, 1, 0, 5, 6}, 7, evaluation);
  EXPECT_EQ(evaluation.images, 5);
  EXPECT_EQ(evaluation.top1, 2);
  EXPECT_EQ(evaluation.top5, 3);
  double expected = 0;
  const std::vector<int64_t> labels = {0, 1, 0, 5, 6};
  for (size_t i = 0; i < 5; ++i) {
    double sum = 0;
    for (size_t k = 0; k < 7; ++k) sum += std::exp(double(logits[7 * i + k]));
    expected += std::log(sum) - logits[7 * i + static_cast<size_t>(labels[i])];
  }
  EXPECT_NEAR(evaluation.loss, expected, 1e-12);
}

TEST(AddLogits, LargeLogitsDoNotOverflowAndBrokenOnesAreErrors) {
  Evaluation evaluation;
  add_logits({1000, -1000}, {1}, 2, evaluation);
  EXPECT_DOUBLE_EQ(evaluation.loss, 2000);
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    expect_error(error_of([&] { add_logits({0, broken}, {1}, 2, evaluation); }), {"not finite", "image 1"});
  }
}

// Six images of 4 x 4 with random pixels.
class SmallData : public Dataset {
 public:
  int64_t size() const override { return 6; }
  int64_t classes() const override { return 3; }
  int64_t channels() const override { return 1; }
  int64_t label(int64_t index) const override { return index % 3; }
  void get(int64_t index, Image& image) const override {
    image.height = image.width = 4;
    image.channels = 1;
    image.pixels.resize(16);
    Rng rng(1, Stream::synthetic, static_cast<uint64_t>(index));
    for (uint8_t& pixel : image.pixels) pixel = static_cast<uint8_t>(rng.below(256));
  }
};

TEST(Evaluate, DoesNotDependOnTheBatchOrOnKeepingImages) {
  SupernetConfig model;
  model.image_size = 4, model.patch_size = 2, model.in_channels = 1, model.num_classes = 3;
  model.embed_dim = 8, model.depth = 2, model.num_heads = 2, model.head_dim = 4, model.mlp_ratio = 2;
  model.max_relative_position = 1;
  const Supernet supernet(model, 7);
  const auto data = std::make_shared<SmallData>();
  const DataSource source = {"small", data, data, {0.5f}, {0.25f}};
  const EvaluationSet read(data, source, all_indices(*data), 4, EvaluationSet::Keep::no);
  const EvaluationSet kept(data, source, all_indices(*data), 4, EvaluationSet::Keep::yes);
  const Evaluation whole = evaluate(supernet, model.full(), read);
  EXPECT_EQ(whole.images, 6);
  EXPECT_GT(whole.loss, 0);
  for (const int64_t batch : {1, 4, 6}) {
    const Evaluation parts = evaluate(supernet, model.full(), kept, batch);
    EXPECT_EQ(parts.top1, whole.top1);
    EXPECT_EQ(parts.images, 6);
    EXPECT_NEAR(parts.loss, whole.loss, 1e-6);
  }
  EXPECT_EQ(evaluate(supernet, model.full(), kept).loss, whole.loss);
}

// The ranks run one after another, each hearing what those before it said; the last has heard all.
class Hearing : public Communicator {
 public:
  Hearing(int rank, std::vector<std::string>& said) : Communicator(rank, static_cast<int>(said.size())), said_(said) {}
  void gather(const void* own, size_t bytes, void* all) override {
    said_[static_cast<size_t>(rank())].assign(static_cast<const char*>(own), bytes);
    std::string together;
    for (std::string& one : said_) {
      one.resize(bytes);
      together += one;
    }
    std::copy(together.begin(), together.end(), static_cast<char*>(all));
  }
  void start_sum(float*, int64_t) override {}
  void finish_sums() override {}
  void swap(int, const float*, float*, int64_t) override {}

 private:
  std::vector<std::string>& said_;
};

TEST(Evaluate, RanksFindWhatOneProcessFinds) {
  SupernetConfig model;
  model.image_size = 4, model.patch_size = 2, model.in_channels = 1, model.num_classes = 3;
  model.embed_dim = 8, model.depth = 2, model.num_heads = 2, model.head_dim = 4, model.mlp_ratio = 2;
  const Supernet supernet(model, 7);
  const auto data = std::make_shared<SmallData>();
  const DataSource source = {"small", data, data, {0.5f}, {0.25f}};
  const EvaluationSet set(data, source, all_indices(*data), 4, EvaluationSet::Keep::yes);
  for (const int64_t batch : {1, 2, 4, 6}) {
    const Evaluation want = evaluate(supernet, model.full(), set, batch);
    for (const size_t size : {2, 3, 5}) {
      std::vector<std::string> said(size);
      Evaluation found;
      for (size_t rank = 0; rank < size; ++rank) {
        Hearing ranks(static_cast<int>(rank), said);
        found = evaluate(supernet, model.full(), set, batch, &ranks);
      }
      EXPECT_EQ(found.images, 6);
      EXPECT_EQ(found.top1, want.top1);
      EXPECT_EQ(found.top5, want.top5);
      EXPECT_EQ(found.loss, want.loss) << size << " ranks, batches of " << batch;
    }
  }
}

TEST(OpenData, NamesWhatDoesNotFitTheModel) {
  expect_error(error_of([] { open_data_for(load_config("T")); }), {"configuration T", "--data"});
}

}  // namespace
}  // namespace entangle
