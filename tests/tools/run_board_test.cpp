// What the programs write for TensorBoard against their logs, killed and resumed; and TensorBoard's own reader where
// Python has it (PYTHON=venv/bin/python names another one).
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/shell.h"
#include "tests/tools/event_reader.h"
#include "tests/tools/ranks_fixture.h"
#include "tools/common/run_board.h"

namespace entangle {
namespace {

using nlohmann::json;

TEST(GrowingLog, GivesWholeLinesOnce) {
  const TemporaryDirectory dir;
  GrowingLog log(dir.path("log"));
  EXPECT_TRUE(log.take().empty());
  write_raw(dir.path("log"), "one\n\ntw");
  EXPECT_EQ(log.take(), (std::vector<std::string>{"one", ""}));
  EXPECT_TRUE(log.take().empty());
  std::ofstream(dir.path("log"), std::ios::app) << "o\nthree\n";
  EXPECT_EQ(log.take(), (std::vector<std::string>{"two", "three"}));
}

// What a training's log says, as series.
Series<float> numbers_of_log(const std::string& path) {
  Series<float> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const json record = json::parse(line);
    for (const char* key : {"epoch", "loss", "lr", "img_per_s", "memory", "sent", "waited"}) {
      if (record.contains(key)) out[key].push_back({record["step"], record[key].get<float>()});
    }
    if (!record.contains("held_out")) continue;
    for (const auto& [name, accuracy] : record["held_out"].items()) {
      out["held_out/" + name].push_back({record["step"], accuracy.get<float>()});
    }
  }
  return out;
}

// A directory's event files say what the log says, and each step once.
void expect_as_log(const std::string& board, const std::string& log, size_t steps) {
  const Series<float> got = shown(board).scalars, want = numbers_of_log(log);
  ASSERT_EQ(want.at("loss").size(), steps);
  EXPECT_EQ(got, want);
}

class Board : public Programs {
 protected:
  std::string board(const std::string& run) const { return dir.path(run + "/tensorboard/train"); }
  std::string log(const std::string& run) const { return dir.path(run + "/log.jsonl"); }
  // Started, and killed once its log has so many lines.
  void kill_at(const std::vector<std::string>& command, const std::string& file, int64_t lines) const {
    Running running(dir.root(), command);
    ASSERT_TRUE(wait_for_lines(file, lines));
    running.signal(SIGKILL);
    ASSERT_EQ(running.wait().status, -SIGKILL) << "it ended before it could be killed";
  }
  std::vector<std::string> search(const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"search_subnets", "--run", dir.path(run), "--threads", "1", "--no-report"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
};

TEST_F(Board, OfATrainingSaysWhatTheLogSays) {
  expect_trains("run", {"--epochs", "2", "--tensorboard"});
  expect_as_log(board("run"), log("run"), 2 * kStepsPerEpoch);
  const Shown all = shown(board("run"));
  for (const char* tag : {"loss", "lr", "img_per_s", "memory", "held_out/smallest", "held_out/largest"}) {
    EXPECT_EQ(all.scalars.count(tag), 1u) << tag;
  }
  EXPECT_EQ(all.scalars.at("held_out/middle").size(), 2u);
  const std::string config = all.texts.at("config").at(0).second;
  EXPECT_NE(config.find("\n      epochs: 2\n"), std::string::npos) << config;
  EXPECT_NE(all.texts.at("environment").at(0).second.find("| threads | "), std::string::npos);
  expect_trains("other", {"--epochs", "1"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("other/tensorboard"))) << "nobody asked";
}

TEST_F(Board, TellsOfEachSubnetOfAStepThatTrainsSeveral) {
  expect_trains("run", {"--epochs", "1", "--tensorboard", "--set", "TRAIN.strategy=sandwich", "--set",
                        "TRAIN.inplace_distillation=true", "--set", "TRAIN.random_subnets=1"});
  const Series<float> got = shown(board("run")).scalars;
  EXPECT_EQ(got.count("subnets/3/loss"), 0u);
  EXPECT_EQ(got.count("subnets/1/teacher") + got.count("subnets/0/architecture/depth"), 0u);
  const std::vector<json> records = log_records(log("run"));
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(got.at("subnets/2/loss").at(i).second, records[i]["subnets"][2]["loss"].get<float>());
  }
}

TEST_F(Board, GoesOnAfterAKillWithoutGapsOrRepeats) {
  const auto session = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--epochs", "40", "--threads", "1"});
    return train("cut", more);
  };
  const size_t steps = 40 * kStepsPerEpoch;
  kill_at(session({"--tensorboard"}), log("cut"), 12);
  ASSERT_EQ(event_files(board("cut")).size(), 1u);
  const std::string first = event_files(board("cut"))[0], bytes = read_raw(first);
  EXPECT_GE(shown(board("cut")).scalars.at("loss").size(), 11u) << "what was logged had been written";
  write_raw(first, bytes.substr(0, bytes.size() - 7));
  // A session without event files leaves no gap.
  kill_at(session({"--resume"}), log("cut"), 130);
  kill_at(session({"--resume", "--tensorboard"}), log("cut"), 260);
  ASSERT_EQ(run(session({"--resume", "--tensorboard"})).status, 0);
  const Shown all = shown(board("cut"));
  // Of what the second session computed again there are the speeds of the first.
  const auto without_clock = [](Series<float> series) { return series.erase("img_per_s"), series; };
  EXPECT_EQ(without_clock(all.scalars), without_clock(numbers_of_log(log("cut"))));
  EXPECT_EQ(all.scalars.at("img_per_s").size(), steps);
  EXPECT_EQ(all.scalars.at("img_per_s").back().first, static_cast<int64_t>(steps));
  const size_t files = event_files(board("cut")).size();
  EXPECT_GE(all.texts.at("config").size(), 2u) << "of each session that is not forgotten";
  // Nothing is left to train, nor to tell.
  ASSERT_EQ(run(session({"--resume", "--tensorboard"})).status, 0);
  EXPECT_EQ(event_files(board("cut")).size(), files);
}

TEST_F(Board, OfATrainingThatBeginsAnewForgetsTheOldOne) {
  expect_trains("cut", {"--tensorboard"});
  std::filesystem::remove(checkpoint("cut"));
  expect_trains("cut", {"--resume", "--tensorboard"});
  EXPECT_EQ(event_files(board("cut")).size(), 2u);
  expect_as_log(board("cut"), log("cut"), kSteps);
  EXPECT_EQ(shown(board("cut")).texts.at("config").size(), 1u);
}

TEST_F(Board, OfOneArchitectureAndOfARunThatEndedLongAgo) {
  const std::vector<std::string> begin = {"train_subnet",
                                          "--config",
                                          dir.path("tiny.yaml"),
                                          "--architecture",
                                          "max",
                                          "--data",
                                          "fashion-mnist:" + dir.path("data"),
                                          "--output",
                                          dir.path("whole"),
                                          "--epochs",
                                          "2"};
  std::vector<std::string> shown_at_once = begin;
  shown_at_once[8] = dir.path("shown"), shown_at_once.push_back("--tensorboard");
  ASSERT_EQ(run(shown_at_once).status, 0);
  expect_as_log(board("shown"), log("shown"), 2 * kStepsPerEpoch);
  EXPECT_EQ(shown(board("shown")).scalars.at("held_out/subnet").size(), 2u);
  ASSERT_EQ(run(begin).status, 0);
  ASSERT_FALSE(std::filesystem::exists(dir.path("whole/tensorboard")));
  ASSERT_EQ(run({"train_subnet", "--resume", "--output", dir.path("whole"), "--tensorboard"}).status, 0);
  expect_as_log(board("whole"), log("whole"), 2 * kStepsPerEpoch);
}

// What a search's log says of the candidates and of the generations.
void expect_as_search(const std::string& run, const std::string& name) {
  Series<float> want, generations;
  double best = -1, params = 0;
  int64_t number = 0, last = -1;
  std::ifstream in(run + "/" + name + ".jsonl");
  for (std::string line; std::getline(in, line);) {
    const json record = json::parse(line);
    if (!record.contains("accuracy")) continue;
    ++number;
    const double accuracy = record["accuracy"];
    if (!record["stopped"] && accuracy > best) best = accuracy, params = record["params"];
    want[record["stopped"] ? "accuracy_at_most" : "accuracy"].push_back({number, static_cast<float>(accuracy)});
    want["best_accuracy"].push_back({number, static_cast<float>(best)});
    for (const char* key : {"params", "macs", "activation_bytes", "images", "generation"}) {
      want[key].push_back({number, record[key].get<float>()});
    }
    const int64_t generation = record["generation"];
    for (auto& [tag, value] : {std::pair("best_accuracy", best), std::pair("best_params", params)}) {
      auto& series = generations[tag];
      if (generation != last) series.push_back({generation, 0.f});
      series.back().second = static_cast<float>(value);
    }
    last = generation;
  }
  ASSERT_EQ(number, 20) << name;
  EXPECT_EQ(shown(run + "/tensorboard/" + name).scalars, want) << name;
  EXPECT_EQ(shown(run + "/tensorboard/" + name + "/generations").scalars, generations) << name;
}

TEST_F(Board, OfASearchSaysWhatItsLogSaysAndGoesOn) {
  expect_trains("run", {"--epochs", "1", "--tensorboard"});
  const std::vector<std::string> options = {"--generations", "5", "--tensorboard", "--compare", "random"};
  const std::vector<std::string> command = search("run", options);
  ASSERT_EQ(run(command).status, 0);
  const std::string log_file = dir.path("run/search.jsonl"), board = dir.path("run/tensorboard/search");
  const std::string whole = read_raw(log_file), events = read_raw(event_files(board).at(0));
  const auto expect_all = [&](const std::vector<std::string>& words) {
    const Outcome outcome = run(words);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    for (const char* name : {"search", "search-random"}) expect_as_search(dir.path("run"), name);
  };
  expect_all(command);
  EXPECT_EQ(event_files(board).size(), 1u) << "nothing was new";
  // Killed: with fewer points than lines, and, the disk having lost lines, with more.
  for (const double lines : {0.6, 0.3, 0.0}) {
    write_raw(log_file, whole.substr(0, static_cast<size_t>(lines * static_cast<double>(whole.size()))));
    write_raw(event_files(board).back(), events.substr(0, events.size() / 2));
    expect_all(command);
    EXPECT_EQ(read_raw(log_file), whole);
  }
  expect_as_log(this->board("run"), log("run"), kStepsPerEpoch);
  // Another search in the same place takes the old one's points away.
  std::filesystem::remove(log_file);
  std::filesystem::remove(dir.path("run/search-random.jsonl"));
  std::vector<std::string> other = command;
  other.insert(other.end(), {"--seed", "3"});
  expect_all(other);
  // One that is refused tells nothing.
  other.back() = "4";
  ASSERT_EQ(run(other).status, 1);
  for (const char* name : {"search", "search-random"}) expect_as_search(dir.path("run"), name);
}

TEST(SearchBoard, TellsWhatIsMeasuredOnly) {
  const TemporaryDirectory dir;
  const std::string log = dir.path("search.jsonl"), board = dir.path("tensorboard/search");
  const auto line = [](double accuracy, int64_t generation, bool stopped, int64_t latency) {
    const json record = {{"accuracy", accuracy},      {"generation", generation}, {"stopped", stopped},
                         {"params", 1000 * accuracy}, {"latency_ns", latency},    {"architecture", {{"depth", 3}}}};
    return record.dump() + "\n";
  };
  write_raw(log, "{\"options\":{\"seed\":1}}\n" + line(0.25, 0, false, 5) + line(0.125, 0, false, 0));
  SearchBoard one(dir.root(), "search", {});
  EXPECT_TRUE(event_files(board).empty()) << "the log may be of another search";
  one.follow();
  std::ofstream(log, std::ios::app) << line(0.5, 1, true, 0) << line(0.375, 1, false, 0) << "{\"end\":{\"loss\":1}}\n";
  one.finish();
  using Points = std::vector<std::pair<int64_t, float>>;
  const Series<float> got = shown(board).scalars, generations = shown(board + "/generations").scalars;
  EXPECT_EQ(got.at("accuracy"), (Points{{1, 0.25f}, {2, 0.125f}, {4, 0.375f}}));
  EXPECT_EQ(got.at("accuracy_at_most"), (Points{{3, 0.5f}}));
  EXPECT_EQ(got.at("best_accuracy"), (Points{{1, 0.25f}, {2, 0.25f}, {3, 0.25f}, {4, 0.375f}}));
  EXPECT_EQ(got.at("params"), (Points{{1, 250}, {2, 125}, {3, 500}, {4, 375}}));
  EXPECT_EQ(got.at("latency_ns"), (Points{{1, 5}}));
  EXPECT_EQ(got.size(), 6u) << "and the generation";
  EXPECT_EQ(generations,
            (Series<float>{{"best_accuracy", {{0, 0.25f}, {1, 0.375f}}}, {"best_params", {{0, 250}, {1, 375}}}}));
}

class BoardOfRanks : public Ranks {};

TEST_F(BoardOfRanks, IsWrittenByTheFirst) {
  ASSERT_EQ(run(ranks(2, "run", {"--epochs", "1", "--tensorboard"})).status, 0);
  const std::string board = dir.path("run/tensorboard/train");
  EXPECT_EQ(event_files(board).size(), 1u);
  expect_as_log(board, dir.path("run/log.jsonl"), 5);
  EXPECT_EQ(shown(board).scalars.at("waited").size(), 5u);
  std::vector<std::string> search = ranks(2, "run");
  search.resize(4);
  search[3] = search[3].substr(0, search[3].rfind('/')) + "/search_subnets";
  search.insert(search.end(), {"--run", dir.path("run"), "--generations", "5", "--tensorboard", "--threads", "1"});
  const Outcome outcome = run(search);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(event_files(dir.path("run/tensorboard/search")).size(), 1u);
  expect_as_search(dir.path("run"), "search");
}

// TensorBoard's own reader sees what the one above sees.
class TensorBoardItself : public Board {
 protected:
  void SetUp() override {
    const char* named = std::getenv("PYTHON");
    python = named == nullptr ? "python3" : named;
    const std::string needs = "tensorboard.backend.event_processing.event_accumulator";
    if (run_shell(concat("'", python, "' -c 'import ", needs, "'")).status != 0) {
      GTEST_SKIP() << python << " has no tensorboard; set PYTHON to one that has it";
    }
    Programs::SetUp();
  }
  json read(const std::string& directory) const {
    const std::string command =
        concat("'", python, "' tests/tools/tensorboard_reader.py '", directory, "' 2> /dev/null");
    const ShellResult result = run_shell(command);
    EXPECT_EQ(result.status, 0) << result.text;
    return json::parse(result.text, nullptr, false);
  }
  void expect_agrees(const std::string& directory) const {
    const json got = read(directory);
    ASSERT_TRUE(got.is_object());
    const Shown want = shown(directory);
    Series<float> scalars;
    for (const auto& [tag, points] : got["scalars"].items()) {
      for (const json& point : points) scalars[tag].push_back({point[0], point[1].get<float>()});
    }
    EXPECT_EQ(scalars, want.scalars);
    EXPECT_EQ(got["texts"], json(want.texts));
    std::vector<size_t> records;
    for (const std::string& path : event_files(directory)) records.push_back(read_events(read_raw(path)).size());
    EXPECT_EQ(got["records"], json(records));
  }
  std::string python;
};

TEST_F(TensorBoardItself, ReadsRunsThatWereKilledAndResumed) {
  kill_at(train("cut", {"--tensorboard", "--threads", "1", "--epochs", "40"}), log("cut"), 17);
  const std::string first = event_files(board("cut")).at(0), bytes = read_raw(first);
  write_raw(first, bytes.substr(0, bytes.size() - 30));
  expect_agrees(board("cut"));
  expect_trains("cut", {"--resume", "--tensorboard", "--threads", "1", "--epochs", "40"});
  expect_agrees(board("cut"));
  expect_as_log(board("cut"), log("cut"), 40 * kStepsPerEpoch);
  ASSERT_EQ(run(search("cut", {"--tensorboard"})).status, 0);
  expect_agrees(dir.path("cut/tensorboard/search"));
  expect_agrees(dir.path("cut/tensorboard/search/generations"));
}

}  // namespace
}  // namespace entangle
