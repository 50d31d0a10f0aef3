#include "search/search_log.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "tests/search/small_search.h"
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
      run(small_table(), options, dying, log);
      EXPECT_EQ(killed_at, 32) << "only then is it done before";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "killed");
    }
    int again = 0;
    const Fitness counting = [&](const Architecture& a) { return ++again, small_fitness(a); };
    expect_same(run(small_table(), options, counting, log), whole);
    EXPECT_EQ(read(log), bytes) << killed_at;
    EXPECT_EQ(again, 32 - killed_at);
  }
}

TEST(SearchLog, CutAtAnyByteItIsRepaired) {
  for (const char* algorithm : {"evolution", "random", "nsga2"}) {
    TemporaryDirectory dir;
    SearchOptions options = small_options();
    options.algorithm = algorithm;
    options.population = 3, options.generations = 2, options.mutations = options.crossovers = 1;
    const SearchResult whole = run_small(options, dir.path("whole"));
    const std::string bytes = read(dir.path("whole")), log = dir.path("cut");
    for (size_t length = 0; length <= bytes.size(); length += length + 11 <= bytes.size() ? 11 : 1) {
      write(log, bytes.substr(0, length));
      expect_same(run_small(options, log), whole);
      ASSERT_EQ(read(log), bytes) << algorithm << length;
    }
  }
}

TEST(SearchLog, TheRecordOfTheEndIsTheLastLine) {
  TemporaryDirectory dir;
  const std::string path = dir.path("log");
  const auto reopened = [&](const std::string& record) {
    FitnessEvaluator evaluator(small_fitness);
    SearchLog log(path);
    search(small_table(), small_options(), evaluator, log);
    const std::string found = log.end();
    if (!record.empty()) log.record_end(record);
    return found;
  };
  EXPECT_EQ(reopened(""), "");
  EXPECT_EQ(reopened("{\"test\":{\"top1\":3}}"), "");
  EXPECT_EQ(reopened(""), "{\"test\":{\"top1\":3}}");
  const std::string bytes = read(path);
  const size_t last = bytes.rfind('\n', bytes.size() - 2) + 1;
  EXPECT_EQ(bytes.substr(last), "{\"end\":{\"test\":{\"top1\":3}}}\n");
  write(path, bytes.substr(0, bytes.size() - 4));  // torn: as if it had not been written
  EXPECT_EQ(reopened(""), "");
  EXPECT_EQ(read(path), bytes.substr(0, last));
  write(path, bytes.substr(0, last) + "{\"end\":{\n");
  expect_contains(message_of([&] { reopened(""); }), "line 34: the record of the end is damaged");
  write(path, bytes + bytes.substr(last));
  expect_contains(message_of([&] { reopened(""); }), "line 34: the search ends before this line");
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
  run(small_table(), small_options(), fitness, log);
}

TEST(SearchLog, AnotherSearchIsRefusedByItsFirstDifference) {
  TemporaryDirectory dir;
  const std::string log = dir.path("log");
  run_small(small_options(), log);
  const std::string bytes = read(log);
  const auto refused = [&](SearchOptions options, const SearchSpace& space = small_space()) {
    return message_of([&] { run(small_table(space), options, small_fitness, log); });
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
  newer.replace(newer.find("\"format_version\":2"), 18, "\"format_version\":3");
  write(log, newer);
  expect_contains(refused(small_options()), "format_version is 3 there and 2 here");
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
