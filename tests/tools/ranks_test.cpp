// Processes that train together, started by mpirun as a user starts them.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/check.h"
#include "engine/parallel.h"
#include "engine/safetensors.h"
#include "nn/cost.h"
#include "tests/thread_ranks.h"
#include "tests/tools/ranks_fixture.h"
#include "tools/common/config.h"
#include "tools/common/run_directory.h"
#include "tools/common/trainer.h"

namespace entangle {
namespace {

// Each weight differs by little, in the last checkpoints of two runs.
double largest_difference(const std::string& a, const std::string& b) {
  const SafetensorsFile one(a), other(b);
  double largest = 0;
  for (const auto& [name, entry] : one.tensors()) {
    if (entry.dtype != "F32") continue;
    const std::vector<uint8_t> x = one.read_bytes(name), y = other.read_bytes(name);
    EXPECT_EQ(x.size(), y.size()) << name;
    for (size_t i = 0; i + sizeof(float) <= x.size(); i += sizeof(float)) {
      float u, v;
      std::memcpy(&u, &x[i], sizeof u);
      std::memcpy(&v, &y[i], sizeof v);
      largest = std::max(largest, static_cast<double>(std::fabs(u - v)));
    }
  }
  return largest;
}

TEST_F(Ranks, TrainsAsOneProcessDoes) {
  const std::vector<std::string> two_epochs = {"--epochs", "2"};
  ASSERT_EQ(run(ranks(0, "one", two_epochs)).status, 0);
  const auto want = log_records(dir.path("one/log.jsonl"));
  ASSERT_EQ(want.size(), 10u);
  const Config config = load_config(dir.path("tiny.yaml"));
  for (const int count : {1, 2}) {
    const std::string name = "of" + std::to_string(count);
    const Outcome outcome = run(ranks(count, name, two_epochs));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out.find("next: ./search_subnets"), outcome.out.rfind("next: ./search_subnets"))
        << "only the first talks: " << outcome.out;
    const auto got = log_records(dir.path(name + "/log.jsonl"));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i]["architecture"], want[i]["architecture"]);
      EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-4) << name << " step " << i + 1;
      if (count == 1) continue;
      const Architecture drawn = Architecture::from_json(got[i]["architecture"].dump());
      EXPECT_EQ(got[i]["sent"].get<int64_t>(), 4 * cost_of(config.model, drawn).params);
    }
    EXPECT_LT(largest_difference(checkpoint("one"), checkpoint(name)), count == 1 ? 1e-30 : 1e-3);
    EXPECT_EQ(line_with(outcome.out, "test  smallest").substr(0, 40).empty(), false);
  }
}

TEST_F(Ranks, SharesMayBeComputedInParts) {
  const std::vector<std::string> few = {"--epochs", "1", "--set", "TRAIN.dropout=0.1"};
  std::vector<std::string> parts = few;
  parts.insert(parts.end(), {"--set", "TRAIN.accumulate=4"});
  ASSERT_EQ(run(ranks(0, "one", few)).status, 0);
  const Outcome outcome = run(ranks(2, "parts", parts));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto got = log_records(dir.path("parts/log.jsonl")), want = log_records(dir.path("one/log.jsonl"));
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-4) << i;
  }
}

TEST_F(Ranks, ADeterministicReductionHasTheSameBitsForAnyNumber) {
  std::vector<std::string> more = {"--epochs", "3", "--deterministic-reduce", "--set", "TRAIN.clip_norm=1"};
  more.insert(more.end(), {"--set", "TRAIN.dropout=0.1", "--set", "TRAIN.attention_dropout=0.1"});
  ASSERT_EQ(run(of_32(0, "one", more)).status, 0);
  const auto want = log_records(dir.path("one/log.jsonl"));
  for (const int count : {2, 4}) {
    const std::string name = "of" + std::to_string(count);
    const Outcome outcome = run(of_32(count, name, more));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto got = log_records(dir.path(name + "/log.jsonl"));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i]["loss"], want[i]["loss"]) << i;
      EXPECT_EQ(got[i].value("held_out", nlohmann::json()), want[i].value("held_out", nlohmann::json())) << i;
    }
    EXPECT_EQ(read_raw(checkpoint(name)), read_raw(checkpoint("one")));
  }
  EXPECT_NE(run(ranks(0, "odd", {"--set", "TRAIN.shards=3"})).err.find("multiple of 3"), std::string::npos);
  EXPECT_NE(
      run(ranks(0, "both", {"--set", "TRAIN.shards=4", "--set", "TRAIN.accumulate=2"})).err.find("set one of them"),
      std::string::npos);
}

// Rounding changes the losses of twenty steps by little, and what MPI sums has the bits that threads find in plain loops.
TEST_F(Ranks, ABf16WireSendsHalfTheBytes) {
  const std::vector<std::string> exact = {"--epochs", "10"}, rounded = {"--epochs", "10", "--set", "TRAIN.wire=bf16"};
  for (const int count : {2, 4}) {
    const std::string fp32 = concat("fp32-", count), bf16 = concat("bf16-", count), threads = concat("threads-", count);
    for (const auto& [name, more] : {std::pair(fp32, exact), std::pair(bf16, rounded)}) {
      const Outcome outcome = run(of_32(count, name, more));
      ASSERT_EQ(outcome.status, 0) << outcome.err;
    }
    const auto want = log_records(dir.path(fp32 + "/log.jsonl")), got = log_records(dir.path(bf16 + "/log.jsonl"));
    ASSERT_EQ(want.size(), 20u);
    ASSERT_EQ(got.size(), want.size());
    double largest = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(2 * got[i]["sent"].get<int64_t>(), want[i]["sent"].get<int64_t>());
      largest = std::max(largest, std::fabs(got[i]["loss"].get<double>() - want[i]["loss"].get<double>()));
    }
    RecordProperty(concat("largest_difference_", count), std::to_string(largest));
    EXPECT_LT(largest, 1e-3);
    EXPECT_GT(largest, 0) << "something is rounded";
    set_threads(1);
    ThreadRanks::run(count, [&](Communicator& thread) {
      const RunDirectory run(dir.path(threads),
                             thread.first() ? RunDirectory::Access::write : RunDirectory::Access::read);
      const Config config = load_config(dir.path(bf16 + "/config.yaml"));
      Trainer(config, run, false, DeviceKind::cpu, thread).train();
    });
    set_threads(0);
    EXPECT_EQ(largest_difference(checkpoint(bf16), checkpoint(threads)), 0);
  }
  const Outcome both = run(ranks(0, "both", {"--set", "TRAIN.wire=bf16", "--deterministic-reduce"}));
  check_user_error(both, {"TRAIN.wire=bf16", "TRAIN.shards=8"});
}

// Several subnets a step, with or without a teacher among them: the larger views are sent once.
TEST_F(Ranks, ASandwichIsTrainedAsByOneProcess) {
  const std::vector<std::string> sandwich = {
      "--epochs", "2", "--set", "TRAIN.strategy=sandwich", "--set", "TRAIN.inplace_distillation=true"};
  for (const std::string sharing : {"entangled", "classical"}) {
    std::vector<std::string> more = sandwich;
    more.insert(more.end(), {"--set", "MODEL.sharing=" + sharing});
    ASSERT_EQ(run(ranks(0, sharing + "-one", more)).status, 0);
    const Outcome outcome = run(ranks(2, sharing + "-two", more));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto want = log_records(dir.path(sharing + "-one/log.jsonl"));
    const auto got = log_records(dir.path(sharing + "-two/log.jsonl"));
    ASSERT_EQ(want.size(), 10u);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-4) << i;
      for (size_t k = 0; k < 4; ++k) {
        const auto &own = got[i]["subnets"][k], &other = want[i]["subnets"][k];
        EXPECT_EQ(own["architecture"], other["architecture"]);
        EXPECT_NEAR(own["loss"].get<double>(), other["loss"].get<double>(), 1e-4) << i << " subnet " << k;
      }
    }
    EXPECT_LT(largest_difference(checkpoint(sharing + "-one"), checkpoint(sharing + "-two")), 1e-3);
    const Config config = load_config(dir.path(sharing + "-two/config.yaml"));
    const int64_t largest = 4 * cost_of(config.model, config.space.largest()).params;
    for (const auto& record : got) {
      EXPECT_GE(record["sent"].get<int64_t>(), largest);
      if (sharing == "classical") continue;  // which sends the others, too
      EXPECT_EQ(record["sent"].get<int64_t>(), largest);
    }
  }
  std::vector<std::string> exact = sandwich;
  exact.push_back("--deterministic-reduce");
  ASSERT_EQ(run(ranks(0, "exact-one", exact)).status, 0);
  ASSERT_EQ(run(ranks(2, "exact-two", exact)).status, 0);
  EXPECT_EQ(read_raw(checkpoint("exact-one")), read_raw(checkpoint("exact-two")));
}

TEST_F(Ranks, ASearchFindsWhatOneProcessFinds) {
  ASSERT_EQ(run(ranks(0, "run", {"--epochs", "1"})).status, 0);
  const auto search = [&](int count, const std::string& output) {
    std::vector<std::string> words = ranks(count, "run");
    words.resize(count == 0 ? 1 : 4);
    std::string& program = words.back();
    program.replace(program.rfind("train_supernet"), std::string::npos, "search_subnets");
    words.insert(words.end(), {"--weights", checkpoint("run"), "--output", dir.path(output), "--threads", "1",
                               "--algorithm", "nsga2", "--compare", "random"});
    return words;
  };
  const Outcome one = run(search(0, "one"));
  ASSERT_EQ(one.status, 0) << one.err;
  const auto expect_same = [&](const std::string& output) {
    for (const char* file : {"/search.jsonl", "/search-random.jsonl", "/best_architecture.json", "/front.json"}) {
      EXPECT_EQ(read_raw(dir.path(output + file)), read_raw(dir.path(std::string("one") + file))) << output << file;
    }
  };
  for (const int count : {2, 3}) {
    const std::string output = "of" + std::to_string(count);
    const Outcome several = run(search(count, output));
    ASSERT_EQ(several.status, 0) << several.err;
    for (const char* line : {"best of", "test  top-1"}) {
      EXPECT_EQ(line_with(several.out, line), line_with(one.out, line)) << count;
    }
    EXPECT_EQ(several.out.find("test  top-1"), several.out.rfind("test  top-1")) << "only the first talks";
    expect_same(output);
  }
  // Killed within a line; what was found there is taken by all.
  const std::string log = read_raw(dir.path("of2/search.jsonl"));
  write_raw(dir.path("of2/search.jsonl"), log.substr(0, log.size() / 2));
  std::filesystem::remove(dir.path("of2/search-random.jsonl"));
  const Outcome again = run(search(2, "of2"));
  ASSERT_EQ(again.status, 0) << again.err;
  expect_same("of2");
}

TEST_F(Ranks, BenchAllreduceMeasures) {
  std::vector<std::string> words = ranks(2, "run");
  words.resize(4);
  words[3].replace(words[3].rfind("train_supernet"), std::string::npos, "bench_allreduce");
  words.insert(words.end(), {"--config", dir.path("tiny.yaml"), "--times", "2", "--largest", "100k", "--threads", "1"});
  const Outcome outcome = run(words);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto measured = nlohmann::json::parse(outcome.out)["measured"];
  EXPECT_EQ(measured["processes"], 2);
  ASSERT_EQ(measured["sums"].size(), 4u);
  EXPECT_EQ(measured["sums"][3]["bytes"], 16384);
  for (const auto& sum : measured["sums"]) EXPECT_GT(sum["seconds"].get<double>(), 0);
  const Config config = load_config(dir.path("tiny.yaml"));
  EXPECT_EQ(measured["exchange_bytes"], 4 * cost_of(config.model, config.space.middle()).params);
}

TEST_F(Ranks, OneCheckpointIsEvaluatedTheSameByAny) {
  ASSERT_EQ(run(ranks(0, "run", {"--epochs", "1"})).status, 0);
  const Outcome alone = run(ranks(0, "run", {"--epochs", "1", "--resume"}));
  ASSERT_EQ(alone.status, 0) << alone.err;
  for (const int count : {2, 3}) {
    const std::vector<std::string> batch = {"--epochs", "1", "--resume"};
    const Outcome shared = run(ranks(count, "run", batch));
    if (count == 3) {  // which do not share 16 images
      EXPECT_NE(shared.status, 0);
      EXPECT_NE(shared.err.find("make it a multiple of 3"), std::string::npos) << shared.err;
      continue;
    }
    ASSERT_EQ(shared.status, 0) << shared.err;
    for (const char* which : {"test  smallest", "test  middle", "test  largest"}) {
      EXPECT_EQ(line_with(shared.out, which), line_with(alone.out, which));
    }
  }
}

TEST_F(Ranks, AnInterruptOfOneRankStopsAllAndAnyNumberGoesOn) {
  ASSERT_EQ(run(ranks(0, "whole")).status, 0);
  {
    Running running(dir.root(), ranks(2, "run"));
    ASSERT_TRUE(wait_for_lines(dir.path("run/log.jsonl"), 3));
    const std::vector<pid_t> processes = processes_of(running);
    ASSERT_EQ(processes.size(), 2u);
    kill(processes[1], SIGTERM);
    const Outcome outcome = running.wait();
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("continue with: ./train_supernet --resume"), std::string::npos) << outcome.out;
  }
  const size_t before = log_records(dir.path("run/log.jsonl")).size();
  EXPECT_LT(before, 30u);
  ASSERT_EQ(run(ranks(0, "run", {"--resume"})).status, 0);
  const auto got = log_records(dir.path("run/log.jsonl")), want = log_records(dir.path("whole/log.jsonl"));
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i]["architecture"], want[i]["architecture"]);
    EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-3) << i;
  }
}

TEST_F(Ranks, ADeadRankEndsAll) {
  Running running(dir.root(), ranks(2, "run", {"--epochs", "500"}));
  ASSERT_TRUE(wait_for_lines(dir.path("run/log.jsonl"), 7));  // there is a checkpoint
  const std::vector<pid_t> processes = processes_of(running);
  ASSERT_EQ(processes.size(), 2u);
  kill(processes[1], SIGKILL);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_NE(running.wait().status, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_TRUE(end_soon(processes));
  const Outcome evaluated = run({"evaluate_subnet", "--weights", checkpoint("run"), "--architecture", "max"});
  EXPECT_EQ(evaluated.status, 0) << evaluated.err;
}

TEST_F(Ranks, ARankThatHangsIsNamed) {
  Running running(dir.root(), ranks(2, "run", {"--epochs", "500", "--rank-timeout", "1"}));
  ASSERT_TRUE(wait_for_lines(dir.path("run/log.jsonl"), 7));
  const std::vector<pid_t> processes = processes_of(running);
  ASSERT_EQ(processes.size(), 2u);
  kill(processes[1], SIGSTOP);
  const Outcome outcome = running.wait();
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("is lost or hangs"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("the last good checkpoint is"), std::string::npos) << outcome.err;
}

// A shell's text for a command; paths here have no quotes.
std::string shell_text(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += "'" + word + "' ";
  return text;
}

// Starts the command, and does `then` once the run's log has seven lines: there is a checkpoint. Ends as the command does.
std::string once_it_runs(const std::vector<std::string>& words, const std::string& log, const std::string& then) {
  return shell_text(words) + "& for i in $(seq 600); do [ -f " + log + " ] && [ $(wc -l < " + log +
         ") -gt 6 ] && break; sleep 0.05; done; " + then + "; wait $!";
}

// Two ranks that talk over the loopback interface of a network of their own, which goes down in the middle.
TEST_F(Ranks, ALostNetworkEndsAll) {
  const std::vector<std::string> shell = {"/usr/bin/unshare", "-n", "/bin/sh", "-c"};
  const auto in_shell = [&](const std::string& text) {
    std::vector<std::string> words = shell;
    words.push_back(text);
    return run(words);
  };
  const std::string up = "ip link set lo up";
  if (in_shell(up).status != 0) GTEST_SKIP() << "no network of one's own here: it needs root, unshare and ip";
  std::vector<std::string> words = ranks(2, "run", {"--epochs", "500", "--rank-timeout", "1"});
  const std::vector<std::string> over_tcp = {"--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"};
  words.insert(words.begin() + 3, over_tcp.begin(), over_tcp.end());
  const Outcome outcome = in_shell(up + "; " + once_it_runs(words, dir.path("run/log.jsonl"), "ip link set lo down"));
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("is lost or hangs"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("the last good checkpoint is"), std::string::npos) << outcome.err;
  EXPECT_EQ(run({"evaluate_subnet", "--weights", checkpoint("run"), "--architecture", "max"}).status, 0);
}

// The run's disk is full when the first rank goes on writing.
TEST_F(Ranks, AFullDiskEndsAll) {
  const std::string disk = dir.path("disk");
  std::filesystem::create_directory(disk);
  const auto on_disk = [&](const std::string& text) {
    return run({"/usr/bin/unshare", "-m", "/bin/sh", "-c", "mount -t tmpfs -o size=2m none " + disk + "; " + text});
  };
  if (on_disk("[ $(stat -f -c %T " + disk + ") = tmpfs ]").status != 0) {
    GTEST_SKIP() << "no disk of one's own here: it needs root, unshare and mount";
  }
  const std::vector<std::string> words = ranks(2, "disk/run", {"--epochs", "500", "--rank-timeout", "1"});
  const std::string fill = "cat /dev/zero > " + disk + "/filler";
  const Outcome outcome = on_disk(once_it_runs(words, disk + "/run/log.jsonl", fill) + " || { cp " + disk +
                                  "/run/checkpoint.safetensors " + dir.path("saved.safetensors") + "; exit 7; }");
  EXPECT_EQ(outcome.status, 7) << "the run's own is not 0";
  EXPECT_NE(outcome.err.find("No space left on device"), std::string::npos) << outcome.err;
  const Outcome found = run({"evaluate_subnet", "--weights", dir.path("saved.safetensors"), "--architecture", "max"});
  EXPECT_EQ(found.status, 0) << found.err;
}

TEST_F(Ranks, RanksOfDifferentConfigurationsAreRefused) {
  std::vector<std::string> words = ranks(1, "run");
  const std::vector<std::string> other(words.begin() + 3, words.end());
  words.push_back(":");
  words.push_back("-n");
  words.push_back("1");
  words.insert(words.end(), other.begin(), other.end());
  words.push_back("--seed");
  words.push_back("5");
  const Outcome outcome = run(words);
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("rank 1 has another configuration than rank 0"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace entangle
