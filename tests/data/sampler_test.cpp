#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "tests/expect_error.h"

namespace entangle {
namespace {

// What the published sampler gives a rank: every entry of the permutation `repeats` times in a row, the list filled up from
// its own beginning to a multiple of the ranks, every `ranks`-th entry, and of these the first so many.
std::vector<int64_t> published(int64_t images, const Sampler& s) {
  std::vector<int64_t> list;
  for (int64_t i = 0; i < images * s.repeats; ++i) list.push_back(i / s.repeats);
  for (int64_t i = 0; static_cast<int64_t>(list.size()) % s.ranks != 0; ++i)
    list.push_back(list[static_cast<size_t>(i)]);
  std::vector<int64_t> own;
  for (size_t i = static_cast<size_t>(s.rank); i < list.size(); i += static_cast<size_t>(s.ranks))
    own.push_back(list[i]);
  own.resize(static_cast<size_t>(images / 256 * 256 / s.ranks));
  return own;
}

std::vector<int64_t> places(int64_t images, const Sampler& sampler) {
  std::vector<int64_t> out;
  for (int64_t p = 0; p < sampler.positions(images); ++p) out.push_back(sampler.place(p, images));
  return out;
}

TEST(Sampler, DealsCopiesAsThePublishedOne) {
  for (const int64_t images : {256, 300, 1000, 2053}) {
    for (const int64_t ranks : {1, 2, 3, 8}) {
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const Sampler sampler = {3, ranks, rank, true};
        EXPECT_EQ(places(images, sampler), published(images, sampler)) << images << ", rank " << rank << "/" << ranks;
      }
    }
    const Sampler alone = {3, 1, 0, true}, together = {3, 1, 0, false};
    EXPECT_EQ(places(images, alone), places(images, together));
  }
}

TEST(Sampler, KeepsCopiesOnOneRank) {
  std::set<int64_t> seen;
  int64_t most = 0;
  for (int64_t rank = 0; rank < 4; ++rank) {
    const std::vector<int64_t> own = places(1000, {3, 4, rank, false});
    ASSERT_EQ(own.size(), 192u);  // 768 / 4, whatever the repeats
    std::set<int64_t> distinct;
    for (size_t i = 0; i < own.size(); ++i) {
      EXPECT_EQ(own[i], own[i / 3 * 3]);
      distinct.insert(own[i]);
      most = std::max(most, own[i]);
    }
    EXPECT_EQ(distinct.size(), 64u);
    for (const int64_t place : distinct) EXPECT_TRUE(seen.insert(place).second) << place << " is on two ranks";
  }
  EXPECT_EQ(most, 255) << "the ranks see the first 256 of the order";
}

TEST(Sampler, WithoutRepeatsRanksShareTheOrder) {
  std::set<int64_t> seen;
  for (int64_t rank = 0; rank < 3; ++rank) {
    for (const int64_t place : places(100, {1, 3, rank, false})) EXPECT_TRUE(seen.insert(place).second);
  }
  EXPECT_EQ(seen.size(), 99u);
  EXPECT_EQ(*seen.rbegin(), 98);
}

TEST(Sampler, RefusesWhatIsOutOfRange) {
  expect_error([] { Sampler{0, 1, 0, false}.validate(); }, {"repeated_augmentation", "0"});
  expect_error([] { Sampler{1, 2, 2, false}.validate(); }, {"rank 2", "2"});
}

}  // namespace
}  // namespace entangle
