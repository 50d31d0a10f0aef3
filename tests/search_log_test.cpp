#include "search/search_log.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "tests/small_search.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

using namespace small_search;

TEST(SearchLog, KilledAnywhereItEndsAsIfItHadNotBeen) {
  TemporaryDirectory dir;
  const SearchOptions options = within(200, 500);
  const SearchResult whole = run_small(options, dir.path("whole"));
  const std::string bytes = read(dir.path("whole"));
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), '\n'), 33);
  for (int killed_at = 0; killed_at <= 32; ++killed_at) {
    const std::string log = dir.path(concat("killed", killed_at));
    int evaluations = 0;
    const Fitness dying = [&](const Architecture& a) {
      if (evaluations++ == killed_at) throw std::runtime_error("killed");
      return small_fitness(a);
    };
    try {
      search(small_space(), options, dying, small_params, log);
      EXPECT_EQ(killed_at, 32) << "only then is it done before";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "killed");
    }
    int again = 0;
    const Fitness counting = [&](const Architecture& a) { return ++again, small_fitness(a); };
    expect_same(search(small_space(), options, counting, small_params, log), whole);
    EXPECT_EQ(read(log), bytes) << killed_at;
    EXPECT_EQ(again, 32 - killed_at);
  }
}

TEST(SearchLog, CutAtAnyByteItIsRepaired) {
  TemporaryDirectory dir;
  SearchOptions options = small_options();
  options.population = 3, options.generations = 2, options.mutations = options.crossovers = 1;
  const SearchResult whole = run_small(options, dir.path("whole"));
  const std::string bytes = read(dir.path("whole")), log = dir.path("cut");
  for (size_t length = 0; length <= bytes.size(); length += length + 7 <= bytes.size() ? 7 : 1) {
    write(log, bytes.substr(0, length));
    expect_same(run_small(options, log), whole);
    ASSERT_EQ(read(log), bytes) << length;
  }
}

TEST(SearchLog, EachLineIsThereWhenTheNextCandidateIsEvaluated) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  int64_t lines = 0;
  const Fitness fitness = [&](const Architecture& a) {
    const std::string text = read(log);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), ++lines);
    return small_fitness(a);
  };
  search(small_space(), small_options(), fitness, small_params, log);
}

TEST(SearchLog, AnotherSearchIsRefusedByItsFirstDifference) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  run_small(small_options(), log);
  const std::string bytes = read(log);
  const auto refused = [&](SearchOptions options, const SearchSpace& space = small_space()) {
    return message_of([&] { search(space, options, small_fitness, small_params, log); });
  };
  SearchOptions options = small_options();
  options.seed = 5;
  expect_contains(refused(options), "options.seed is 11 there and 5 here");
  expect_contains(refused(within(0, 300)), "options.max_params is 0 there and 300 here");
  options = small_options();
  options.algorithm = "random";
  expect_contains(refused(options), "options.algorithm is \"evolution\" there and \"random\" here");
  SearchSpace space = small_space();
  space.embed_dim = {8, 16};
  expect_contains(refused(small_options(), space), "space.embed_dim is [8,16,24] there and [8,16] here");
  std::string newer = bytes;
  newer.replace(newer.find("\"format_version\":1"), 18, "\"format_version\":2");
  write(log, newer);
  expect_contains(refused(small_options()), "format_version is 2 there and 1 here");
  EXPECT_EQ(read(log), newer) << "a refused log is left as it was";
}

TEST(SearchLog, WhatIsNotALogIsRefusedAndLeftAlone) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  const std::string others[] = {"precious notes", "precious notes\nin two lines\n", "{\"a\":1}\n",
                                std::string(100000, '[') + "\n", std::string("\0\n", 2)};
  for (const std::string& text : others) {
    write(log, text);
    expect_contains(message_of([&] { run_small(small_options(), log); }), "is not the log of a search");
    EXPECT_EQ(read(log), text);
  }
  expect_contains(message_of([&] { run_small(small_options(), dir.root()); }), "is not a file");
  expect_contains(message_of([&] { run_small(small_options(), dir.path("missing/log")); }), "cannot write");
}

TEST(SearchLog, AnEditedLineIsRefusedByItsNumber) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  run_small(small_options(), log);
  const std::string bytes = read(log);
  const size_t third = bytes.find('\n', bytes.find('\n') + 1) + 1;
  const size_t end = bytes.find('\n', third);
  const auto refused = [&](const std::string& line) {
    write(log, bytes.substr(0, third) + line + bytes.substr(end));
    return message_of([&] { run_small(small_options(), log); });
  };
  expect_contains(refused("nonsense"), "line 3");
  expect_contains(refused(""), "line 3");
  expect_contains(refused("{\"accuracy\":\"high\"}"), "line 3");
  expect_contains(refused("{\"accuracy\":1e999}"), "line 3");
  std::string line = bytes.substr(third, end - third);
  line.replace(line.find("\"params\":"), 9, "\"params\":1");
  expect_contains(refused(line), "line 3");
  write(log, bytes + bytes.substr(third, end - third + 1));
  expect_contains(message_of([&] { run_small(small_options(), log); }), "line 34");
}

}  // namespace
}  // namespace entangle
