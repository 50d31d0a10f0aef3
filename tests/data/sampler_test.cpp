#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <vector>

#include "tests/expect_error.h"

namespace entangle {
namespace {

std::vector<int64_t> first_numbers(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// The places of a rank's part of an epoch in batches of `count` images a rank.
std::vector<int64_t> places(int64_t images, const Sampler& sampler, const BatchShare& share, int64_t count) {
  std::vector<int64_t> out;
  for (int64_t step = 0; step < sampler.positions(images) / (count * share.ranks); ++step) {
    for (int64_t i = 0; i < count; ++i) out.push_back(sampler.place(step, i, count, share));
  }
  return out;
}

// tests/golden/published_order.json: torch.randperm with a generator whose manual_seed was the epoch, every entry three
// times in a row, the list filled up from its own beginning to a multiple of the ranks, every ranks-th entry from the
// rank's on, and of these the first floor(images / 256) 256 / ranks; made with PyTorch 2.15.
TEST(Sampler, GivesThePublishedOrder) {
  const auto golden = nlohmann::json::parse(std::ifstream("tests/golden/published_order.json"));
  ASSERT_GE(golden.size(), 7u);
  for (const auto& c : golden) {
    const int64_t images = c["images"];
    const BatchShare share = {c["ranks"], c["rank"]};
    const std::vector<int64_t> want = c["indices"], order = published_order(first_numbers(images), c["epoch"]);
    for (const int64_t count : {1, 4}) {
      std::vector<int64_t> got;
      for (const int64_t place : places(images, {3, true}, share, count)) got.push_back(order[place]);
      ASSERT_GE(got.size() + static_cast<size_t>(count), want.size());
      ASSERT_LE(got.size(), want.size());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin())) << images << ", rank " << share.rank;
    }
  }
}

TEST(Sampler, ThePublishedOrderPermutesWhatItIsGiven) {
  std::vector<int64_t> odd = first_numbers(500);
  for (int64_t& number : odd) number = 2 * number + 1;
  std::vector<int64_t> order = published_order(odd, 3);
  EXPECT_NE(order, published_order(odd, 4));
  const std::vector<int64_t> places = published_order(first_numbers(500), 3);
  for (size_t i = 0; i < 500; ++i) EXPECT_EQ(order[i], odd[static_cast<size_t>(places[i])]);
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, odd);
  EXPECT_TRUE(published_order({}, 0).empty());
}

// A batch of ours holds the same images however many ranks share it, and a rank has all copies of an image that lie in
// its part.
TEST(Sampler, OurOrderDoesNotDependOnTheRanks) {
  const std::vector<int64_t> whole = places(1000, {3, false}, {1, 0}, 24);
  ASSERT_EQ(whole.size(), 768u);
  for (size_t p = 0; p < whole.size(); ++p) EXPECT_EQ(whole[p], static_cast<int64_t>(p / 3));
  for (const int64_t ranks : {2, 4, 8}) {
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const int64_t count = 24 / ranks;
      const std::vector<int64_t> part = places(1000, {3, false}, {ranks, rank}, count);
      ASSERT_EQ(part.size(), whole.size() / static_cast<size_t>(ranks));
      for (size_t k = 0; k < part.size(); ++k) {
        const size_t step = k / static_cast<size_t>(count), i = k % static_cast<size_t>(count);
        EXPECT_EQ(part[k], whole[step * 24 + static_cast<size_t>(rank * count) + i]);
      }
    }
  }
}

TEST(Sampler, PositionsAreWhereTheCopiesOfAPlaceStand) {
  for (const bool published : {false, true}) {
    for (const int64_t ranks : {1, 2, 5}) {
      const Sampler sampler = {3, published};
      std::vector<int> copies(80, 0);
      for (int64_t position = 0; position < 8 * ranks * 6; ++position) {
        const int64_t step = position / (ranks * 6), rank = position / 6 % ranks, i = position % 6;
        const int64_t place = sampler.place(step, i, 6, {ranks, rank});
        for (int64_t copy = 0; copy < 3; ++copy) copies[place] += sampler.position(place, copy, 6, ranks) == position;
      }
      for (int64_t place = 0; place < 16 * ranks; ++place) EXPECT_EQ(copies[place], 3) << place << " of " << ranks;
    }
  }
}

TEST(Sampler, WithoutRepeatsRanksShareTheOrder) {
  for (const bool published : {false, true}) {
    std::set<int64_t> seen;
    for (int64_t rank = 0; rank < 3; ++rank) {
      for (const int64_t place : places(100, {1, published}, {3, rank}, 11)) {
        EXPECT_TRUE(seen.insert(place).second);
      }
    }
    EXPECT_EQ(seen.size(), 99u);
    EXPECT_EQ(*seen.rbegin(), 98);
  }
}

TEST(Sampler, CountsAsThePublishedOne) {
  EXPECT_EQ((Sampler{3, false}.positions(1281167)), 1281024);
  EXPECT_EQ((Sampler{3, true}.positions(1000)), 768);
  EXPECT_EQ((Sampler{3, true}.positions(255)), 255);
  EXPECT_EQ((Sampler{1, true}.positions(1000)), 1000);
}

TEST(Sampler, RefusesWhatIsOutOfRange) {
  expect_error([] { Sampler{0, false}.validate(); }, {"repeated_augmentation", "0"});
  expect_error([] { Sampler{65, true}.validate(); }, {"repeated_augmentation", "65"});
}

}  // namespace
}  // namespace entangle
