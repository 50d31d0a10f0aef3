// One architecture trained and evaluated by several processes; and what several processes print.
#include <signal.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/tools/ranks_fixture.h"

namespace entangle {
namespace {

class SubnetRanks : public Ranks {
 protected:
  // A trained supernet in `super`.
  void SetUp() override {
    Ranks::SetUp();
    if (IsSkipped()) return;
    expect_trains("super", {"--epochs", "1"});
  }
  Outcome succeed(int count, const std::vector<std::string>& words) const {
    const Outcome outcome = run(over(count, words));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  }
  static std::vector<std::string> inherit(const std::string& output, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"train_subnet", "--init", "inherit:super/checkpoint.safetensors"};
    words.insert(words.end(), {"--architecture", "mean", "--output", output, "--epochs", "5"});
    words.insert(words.end(), {"--batch-size", "32", "--threads", "1"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
};

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST_F(SubnetRanks, TrainAsOneProcessDoes) {
  const std::vector<std::string> average = {"--set", "TRAIN.average_decay=0.9"};
  succeed(0, inherit("one", average));
  const Outcome two = succeed(2, inherit("two", average));
  for (const char* line : {"inherited from", "training in", "test  subnet", "evaluate it"}) {
    EXPECT_EQ(count_of(two.out, line), 1) << line << " in: " << two.out;
  }
  EXPECT_EQ(count_of(two.out, "held-out:  subnet"), 5) << "once an epoch: " << two.out;
  EXPECT_NE(two.out.find("shared by 2 processes"), std::string::npos) << two.out;
  const auto want = log_records(dir.path("one/log.jsonl")), got = log_records(dir.path("two/log.jsonl"));
  ASSERT_EQ(want.size(), 10u);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-4) << i;
  }
  EXPECT_EQ(read_raw(dir.path("two/best_architecture.json")), read_raw(dir.path("one/best_architecture.json")));
}

TEST_F(SubnetRanks, ADeterministicReductionHasTheSameBitsAndAnyNumberGoesOn) {
  const std::vector<std::string> exact = {"--deterministic-reduce"};
  succeed(0, inherit("one", exact));
  succeed(2, inherit("two", exact));
  EXPECT_EQ(read_raw(checkpoint("one")), read_raw(checkpoint("two")));
  {
    Running running(dir.root(), over(2, inherit("cut", exact)));
    ASSERT_TRUE(wait_for_lines(dir.path("cut/log.jsonl"), 2));
    const std::vector<pid_t> processes = processes_of(running);
    running.signal(SIGKILL);
    running.wait();
    EXPECT_TRUE(end_soon(processes)) << "without their launcher, too";
  }
  succeed(4, {"train_subnet", "--resume", "--output", "cut", "--threads", "1"});
  EXPECT_EQ(read_raw(checkpoint("cut")), read_raw(checkpoint("one")));
}

TEST_F(SubnetRanks, EvaluateToTheSameDigits) {
  for (const std::vector<std::string>& what :
       {std::vector<std::string>{"--architecture", "mean"}, {"--architecture", "min", "--split", "ranking"}}) {
    std::vector<std::string> words = {"evaluate_subnet", "--weights", "super/checkpoint.safetensors", "--threads", "1"};
    words.insert(words.end(), what.begin(), what.end());
    const std::string one = succeed(0, words).out;
    EXPECT_NE(one.find("top-1"), std::string::npos) << one;
    for (const int count : {2, 3}) EXPECT_EQ(succeed(count, words).out, one) << count;
  }
}

// What every process meets is said once, and what one alone meets is said, too.
TEST_F(SubnetRanks, AnErrorOfAllIsPrintedOnce) {
  const std::vector<std::vector<std::string>> commands = {
      inherit("a", {"--set", "TRAIN.nothing=1"}),                                  // before they have met
      inherit("b", {"--nothing"}),                                                 // wrong arguments
      inherit("c", {"--set", "TRAIN.lr=1e30", "--set", "TRAIN.warmup_epochs=0"}),  // in a step
      {"evaluate_subnet", "--weights", "missing.safetensors", "--architecture", "max"}};
  for (const auto& words : commands) {
    const Outcome outcome = run(over(4, words));
    EXPECT_NE(outcome.status, 0);
    EXPECT_EQ(count_of(outcome.err, "error: "), 1) << outcome.err;
  }
  std::vector<std::string> words = over(1, inherit("d")), other = inherit("d", {"--nothing"});
  other[0] = words[3];
  words.insert(words.end(), {":", "-n", "1"});
  words.insert(words.end(), other.begin(), other.end());
  const Outcome outcome = run(words);
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("error: "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("--nothing"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace entangle
