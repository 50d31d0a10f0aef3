// A process of four is killed, at moments drawn from a fixed seed: all end, and the run goes on to the same bits.
// ENTANGLE_KILLS=N kills as often (default 3).
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "engine/check.h"
#include "engine/rng.h"
#include "nn/checkpoint.h"
#include "tests/tools/ranks_fixture.h"

namespace entangle {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

class KilledRanks : public Ranks {
 protected:
  static constexpr int kRanks = 4, kEpochs = 40, kSteps = 2 * kEpochs;

  std::vector<std::string> command(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"--epochs", std::to_string(kEpochs), "--deterministic-reduce", "--no-report"};
    words.insert(words.end(), {"--set", "TRAIN.average_decay=0.9", "--rank-timeout", "20"});
    words.insert(words.end(), more.begin(), more.end());
    return of_32(kRanks, output, words);
  }

  // Kills a rank once the log has so many lines, or without any after so many seconds; returns when the launcher and all
  // ranks have ended.
  void start_and_kill(const std::string& output, int64_t lines, double seconds, size_t rank) const {
    const Clock::time_point begin = Clock::now();
    Running running(dir.root(), command(output));
    std::vector<pid_t> processes;
    while (processes.size() < kRanks && Clock::now() - begin < Seconds(20)) {
      processes = processes_of(running);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_EQ(processes.size(), static_cast<size_t>(kRanks));
    if (lines > 0) {
      ASSERT_TRUE(wait_for_lines(dir.path(output + "/log.jsonl"), lines));
    } else {
      std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(Seconds(seconds)));
    }
    kill(processes[rank], SIGKILL);
    const Clock::time_point killed = Clock::now();
    running.wait();
    EXPECT_TRUE(end_soon(processes));
    EXPECT_LT(Clock::now() - killed, Seconds(30));
  }

  void expect_same_run(const std::string& output, const std::string& whole) const {
    const auto got = log_records(dir.path(output + "/log.jsonl")), want = log_records(dir.path(whole + "/log.jsonl"));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      for (const char* key : {"step", "epoch", "loss", "lr", "architecture", "held_out"}) {
        EXPECT_EQ(got[i].value(key, nlohmann::json()), want[i].value(key, nlohmann::json())) << i << " " << key;
      }
    }
    for (const char* file : {"/checkpoint.safetensors", "/average.safetensors", "/config.yaml"}) {
      EXPECT_TRUE(read_raw(dir.path(output + file)) == read_raw(dir.path(whole + file))) << file;
    }
    for (const auto& entry : std::filesystem::directory_iterator(dir.path(output))) {
      EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
    }
  }
};

TEST_F(KilledRanks, GoOnToTheSameBits) {
  ASSERT_EQ(run(command("whole")).status, 0);
  const char* const asked = std::getenv("ENTANGLE_KILLS");
  const int kills = asked == nullptr ? 3 : std::atoi(asked);
  ASSERT_GT(kills, 0);
  Rng rng(11, Stream::synthetic, 0);
  for (int i = 0; i < kills; ++i) {
    // Every third one while the processes start.
    const int64_t lines = i % 3 == 2 ? 0 : 1 + static_cast<int64_t>(rng.below(kSteps));
    const double seconds = rng.uniform(0, 1);
    const size_t rank = static_cast<size_t>(rng.below(kRanks));
    const std::string output = "run" + std::to_string(i);
    start_and_kill(output, lines, seconds, rank);
    const bool saved = std::filesystem::exists(checkpoint(output));
    const std::string step = saved ? read_checkpoint_metadata(checkpoint(output)).at("step") : "none";
    const std::string moment = lines > 0 ? concat("after step ", lines) : concat("after ", seconds, " s");
    std::printf("killed rank %zu %s; checkpoint of step %s\n", rank, moment.c_str(), step.c_str());
    const bool begun = saved || std::filesystem::exists(dir.path(output + "/config.yaml"));
    const Outcome outcome =
        run(command(output, begun ? std::vector<std::string>{"--resume"} : std::vector<std::string>{}));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    expect_same_run(output, "whole");
  }
}

}  // namespace
}  // namespace entangle
