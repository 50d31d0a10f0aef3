#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "data/dataset.h"
#include "engine/check.h"
#include "tests/expect_error.h"

namespace entangle {
namespace {

class Labels : public Dataset {
 public:
  Labels(std::vector<int64_t> labels, int64_t classes) : labels_(std::move(labels)), classes_(classes) {}
  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  int64_t classes() const override { return classes_; }
  int64_t channels() const override { return 1; }
  int64_t label(int64_t index) const override { return labels_[index]; }
  void get(int64_t, Image&) const override { RAISE("a split needs no images"); }

 private:
  std::vector<int64_t> labels_;
  int64_t classes_;
};

Labels balanced(int64_t count, int64_t classes) {
  std::vector<int64_t> labels(count);
  for (int64_t i = 0; i < count; ++i) labels[i] = i * 7 % classes;
  return Labels(labels, classes);
}

std::vector<int64_t> per_class(const Dataset& dataset, const std::vector<int64_t>& indices) {
  std::vector<int64_t> count(dataset.classes(), 0);
  for (const int64_t i : indices) ++count[dataset.label(i)];
  return count;
}

TEST(MakeSplit, DividesEveryIndexOnce) {
  const Labels data = balanced(1000, 10);
  for (const int64_t held_out : {0, 1, 100, 999}) {
    const Split split = make_split(data, held_out, 5);
    EXPECT_EQ(static_cast<int64_t>(split.held_out.size()), held_out);
    EXPECT_TRUE(std::is_sorted(split.train.begin(), split.train.end()));
    EXPECT_TRUE(std::is_sorted(split.held_out.begin(), split.held_out.end()));
    std::vector<int64_t> both;
    std::merge(split.train.begin(), split.train.end(), split.held_out.begin(), split.held_out.end(),
               std::back_inserter(both));
    ASSERT_EQ(both.size(), 1000u);
    for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(both[i], i);
  }
}

TEST(MakeSplit, HoldsOutEquallyManyOfEachClass) {
  const Labels data = balanced(1000, 10);
  EXPECT_EQ(per_class(data, make_split(data, 200, 1).held_out), std::vector<int64_t>(10, 20));
  const std::vector<int64_t> uneven = per_class(data, make_split(data, 203, 1).held_out);
  EXPECT_EQ(std::count(uneven.begin(), uneven.end(), 20), 7);
  EXPECT_EQ(std::count(uneven.begin(), uneven.end(), 21), 3);
  // A class with too few gives what it has, one without any gives nothing, the others fill in.
  const Labels skewed({0, 0, 0, 0, 1, 3, 3, 3, 3}, 4);
  EXPECT_EQ(per_class(skewed, make_split(skewed, 7, 1).held_out), (std::vector<int64_t>{3, 1, 0, 3}));
}

TEST(MakeSplit, IsAFunctionOfTheSeed) {
  const Labels data = balanced(1000, 10);
  EXPECT_EQ(make_split(data, 100, 1).held_out, make_split(data, 100, 1).held_out);
  EXPECT_NE(make_split(data, 100, 1).held_out, make_split(data, 100, 2).held_out);
}

TEST(MakeSplit, RefusesImpossibleSizes) {
  const Labels data = balanced(50, 10);
  expect_error([&] { make_split(data, 50, 1); }, {"hold out 50 of 50"});
  expect_error([&] { make_split(data, -1, 1); }, {"hold out -1 of 50"});
  const Labels wrong({0, 1, 2}, 2);
  expect_error([&] { make_split(wrong, 1, 1); }, {"image 2", "label 2"});
}

}  // namespace
}  // namespace entangle
