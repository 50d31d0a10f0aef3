// The programs as a user meets them: arguments, errors, a killed and resumed training run, search, evaluation.
#include <signal.h>

#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/device.h"
#include "engine/safetensors.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/models.h"
#include "tools/common/run_directory.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

TEST_F(Programs, HelpAndVersionSucceedAndWrongArgumentsExitWithTwo) {
  for (const char* program : {"train_supernet", "search_subnets", "evaluate_subnet"}) {
    const Outcome help = run({program, "--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_NE(help.out.find(std::string("Examples:\n  ./") + program), std::string::npos) << help.out;
    EXPECT_EQ(run({program, "--version"}).status, 0);
    for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--no-such-flag"},
                                                  {"--threads", "many"},
                                                  {"--device", "tpu"},
                                                  {"--precision", "fp8"},
                                                  {"--seed", "-1"},
                                                  {"stray"}}) {
      std::vector<std::string> command = {program};
      command.insert(command.end(), wrong.begin(), wrong.end());
      const Outcome outcome = run(command);
      EXPECT_EQ(outcome.status, 2) << program << " " << wrong[0];
      EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
    }
  }
  for (const char* program : {"count_cost", "check_parity", "bench_step", "augment_image"}) {
    const Outcome help = run({program, "--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_NE(help.out.find(std::string("Examples:\n  ./") + program), std::string::npos) << help.out;
    EXPECT_EQ(run({program, "--no-such-flag"}).status, 2);
    EXPECT_EQ(run({program}).status, 2) << "a required argument is missing";
  }
  EXPECT_EQ(run({"search_subnets", "--max-params", "6Q"}).status, 2);
  EXPECT_EQ(run({"evaluate_subnet", "--input", "only"}).status, 2);
}

TEST_F(Programs, UserErrorsAreOneLineAndExitWithOne) {
#if defined(ENTANGLE_CUDA)
  expect_user_error(train("run", {"--device", "cuda:99"}), {"--device"});
#else
  expect_user_error(train("run", {"--device", "cuda:1"}), {"no CUDA", "--device cpu"});
#endif
  expect_user_error(train("run", {"--set", "TRAIN.epoch=3"}), {"TRAIN.epoch", "TRAIN.epochs"});
  expect_user_error(train("run", {"--epochs", "0"}), {"TRAIN.epochs is 0"});
  expect_user_error(train("run", {"--set", "DATA.spec=fashion-mnist:" + dir.path("nowhere")}), {dir.path("nowhere")});
  expect_user_error(train("run", {"--set", "MODEL.num_classes=9"}), {"10 classes", "9"});
  expect_user_error(train("run", {"--batch-size", "1k"}), {"1000", "80"});
  expect_user_error(train("nothing", {"--resume"}), {"no run to resume", "without --resume"});
  expect_user_error(train("tiny.yaml/run"), {"cannot create", "--output"});
  expect_user_error({"search_subnets", "--run", dir.path("none")}, {"no trained run", "none", "./train_supernet"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("none"))) << "a refused search leaves no directory";
  expect_user_error({"evaluate_subnet", "--architecture", "max"}, {"no weights", "--weights"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("nothing"))) << "a refused resume leaves no directory";
}

TEST_F(Programs, KilledRunResumesToTheSameBits) {
  expect_trains("whole", {"--threads", "1"});
  std::random_device random;
  const int first = 1 + static_cast<int>(random() % (kSteps / 3));
  const int second = kSteps / 2 + static_cast<int>(random() % (kSteps / 3));
  SCOPED_TRACE("killed at steps " + std::to_string(first) + " and " + std::to_string(second));
  const std::string log = dir.path("cut/log.jsonl");
  for (const auto& [step, flag] :
       {std::pair(first, std::string("--threads")), std::pair(second, std::string("--resume"))}) {
    Running running(dir.root(), train("cut", flag == "--resume" ? std::vector<std::string>{"--resume", "--threads", "1"}
                                                                : std::vector<std::string>{flag, "2"}));
    ASSERT_TRUE(wait_for_lines(log, step));
    running.signal(SIGKILL);
    EXPECT_EQ(running.wait().status, -SIGKILL) << "it ended before it could be killed";
  }
  std::ofstream(log, std::ios::app) << "{\"step\":";  // a torn line
  expect_trains("cut", {"--resume", "--threads", "2"});
  EXPECT_TRUE(read_raw(checkpoint("cut")) == read_raw(checkpoint("whole")));
  EXPECT_EQ(log_records(log), log_records(dir.path("whole/log.jsonl")));
  EXPECT_EQ(log_records(log).size(), static_cast<size_t>(kSteps));
}

TEST_F(Programs, InterruptCheckpointsInMidEpochAndResumes) {
  expect_trains("whole", {});
  for (const int signal : {SIGINT, SIGTERM}) {
    const bool resume = signal == SIGTERM;
    Running running(dir.root(),
                    train("cut", resume ? std::vector<std::string>{"--resume"} : std::vector<std::string>{}));
    ASSERT_TRUE(wait_for_lines(dir.path("cut/log.jsonl"), resume ? kSteps / 2 : kStepsPerEpoch / 2));
    running.signal(signal);
    const Outcome outcome = running.wait();
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("--resume --output " + dir.path("cut")), std::string::npos) << outcome.out;
    const auto metadata = read_checkpoint_metadata(checkpoint("cut"));
    EXPECT_EQ(std::stoul(metadata.at("step")), log_records(dir.path("cut/log.jsonl")).size());
  }
  expect_trains("cut", {"--resume"});
  EXPECT_TRUE(read_raw(checkpoint("cut")) == read_raw(checkpoint("whole")));
  EXPECT_EQ(log_records(dir.path("cut/log.jsonl")), log_records(dir.path("whole/log.jsonl")));
}

TEST_F(Programs, RunsAreNotOverwrittenAndKeepTheirConfiguration) {
  expect_trains("run", {"--epochs", "1"});
  const std::string before = read_raw(checkpoint("run"));
  expect_user_error(train("run"), {"holds a run already", "--resume", "--output"});
  expect_user_error(train("run", {"--resume"}), {"TRAIN.epochs is 1 before and 6 now"});
  EXPECT_TRUE(read_raw(checkpoint("run")) == before);
  const Outcome finished = run({"train_supernet", "--resume", "--output", dir.path("run")});
  EXPECT_EQ(finished.status, 0) << finished.err;
  EXPECT_NE(finished.out.find("next: ./search_subnets --run"), std::string::npos) << finished.out;
  EXPECT_TRUE(read_raw(checkpoint("run")) == before);
  const RunDirectory held(dir.path("run"));
  expect_user_error({"train_supernet", "--resume", "--output", dir.path("run")}, {"in use by process"});
}

TEST_F(Programs, LogHasOneRecordForEachStep) {
  expect_trains("run", {"--epochs", "2", "--seed", "3"});
  std::ifstream in(dir.path("run/log.jsonl"));
  int step = 0;
  for (std::string line; std::getline(in, line);) {
    const auto record = nlohmann::json::parse(line);
    EXPECT_EQ(record["step"], ++step);
    EXPECT_EQ(record["epoch"], (step - 1) / kStepsPerEpoch + 1);
    for (const char* key : {"loss", "lr", "img_per_s", "memory"}) EXPECT_GT(record[key], 0) << key;
    EXPECT_NO_THROW(Architecture::from_json(record["architecture"].dump()));
    EXPECT_EQ(record.contains("held_out"), step % kStepsPerEpoch == 0);
  }
  EXPECT_EQ(step, 2 * kStepsPerEpoch);
  EXPECT_EQ(parse_config(read_raw(dir.path("run/config.yaml")), "run").train.seed, 3u);
}

TEST_F(Programs, AStartThatFailsLeavesNothing) {
  expect_user_error(train("deep/run", {"--set", "DATA.split=missing.txt"}), {"missing.txt"});
  expect_user_error(train("deep/run", {"--init", "missing.pth"}), {"missing.pth"});
  write_raw(dir.path("broken.safetensors"), "no weights");
  expect_user_error(train("deep/run", {"--init", "broken.safetensors"}), {"broken.safetensors"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("deep")));
}

TEST_F(Programs, NumbersThatAreNotFiniteStopTheRun) {
  const std::vector<std::string> explode = {"--set", "TRAIN.lr=1e30", "--set", "TRAIN.warmup_epochs=0"};
  expect_user_error(train("run", explode),
                    {"error: step ", "not finite with", "\"depth\":", "no checkpoint yet", "TRAIN.lr"});
  EXPECT_FALSE(std::filesystem::exists(checkpoint("run")));
  // The second epoch explodes: the first one's checkpoint is named, and stays.
  const std::vector<std::string> later = {"--set", "TRAIN.lr=1e30", "--set", "TRAIN.per_epoch=true"};
  expect_user_error(train("later", later), {"not finite", "checkpoint is " + checkpoint("later") + " of step "});
  EXPECT_NO_THROW(read_checkpoint_metadata(checkpoint("later")));
}

TEST_F(Programs, AStepInPartsIsTheSameStepInLessMemory) {
  const std::vector<std::string> whole = {
      "--epochs", "1", "--batch-size", "40", "--set", "TRAIN.dropout=0.1", "--set", "TRAIN.attention_dropout=0.1"};
  std::vector<std::string> parts = whole;
  parts.insert(parts.end(), {"--set", "TRAIN.accumulate=5"});
  expect_trains("whole", whole);
  expect_trains("parts", parts);
  std::ifstream in_whole(dir.path("whole/log.jsonl")), in_parts(dir.path("parts/log.jsonl"));
  int steps = 0;
  for (std::string a, b; std::getline(in_whole, a) && std::getline(in_parts, b); ++steps) {
    const auto want = nlohmann::json::parse(a), got = nlohmann::json::parse(b);
    EXPECT_EQ(got["architecture"], want["architecture"]);
    EXPECT_NEAR(got["loss"].get<double>(), want["loss"].get<double>(), 1e-5);
    EXPECT_LT(3 * got["memory"].get<int64_t>(), 2 * want["memory"].get<int64_t>());
  }
  EXPECT_EQ(steps, 2);
  expect_user_error(train("odd", {"--set", "TRAIN.accumulate=3"}), {"TRAIN.batch_size is 8", "multiple of 3"});
}

// Rewrites a checkpoint with other values of some weights, of one sign in even rows and of the other in odd ones.
void set_weights(const std::string& path, const std::map<std::string, float>& values) {
  const SafetensorsFile file(path);
  std::map<std::string, std::vector<uint8_t>> bytes;
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, entry] : file.tensors()) {
    std::vector<uint8_t>& own = bytes[name] = file.read_bytes(name);
    const auto found = values.find(name);
    for (size_t i = 0; found != values.end() && i < own.size() / sizeof(float); ++i) {
      const float value = i / static_cast<size_t>(entry.shape.back()) % 2 == 0 ? found->second : -found->second;
      std::memcpy(&own[i * sizeof value], &value, sizeof value);
    }
    tensors.push_back({name, entry.dtype, entry.shape, own.data()});
  }
  write_safetensors(path, tensors, file.metadata());
}

// With an MLP whose norm is zero the loss does not see its weights, while the norm's gradient is too large for fp32.
TEST_F(Programs, AGradientThatIsNotFiniteStopsTheRunThoughTheLossIs) {
  Running running(dir.root(), train("run"));
  ASSERT_TRUE(wait_for_lines(dir.path("run/log.jsonl"), kStepsPerEpoch / 2));
  running.signal(SIGINT);
  ASSERT_EQ(running.wait().status, 0);
  const std::string block = "blocks.0.";
  set_weights(checkpoint("run"), {{block + "ffn_layer_norm.weight", 0.0f},
                                  {block + "ffn_layer_norm.bias", 0.0f},
                                  {block + "fc1.weight", 1e30f},
                                  {block + "fc1.bias", 0.0f},
                                  {block + "fc2.weight", 1e30f},
                                  {block + "fc2.bias", 0.0f}});
  const std::string before = read_raw(checkpoint("run"));
  expect_user_error(train("run", {"--resume"}), {"the gradient is not finite", checkpoint("run") + " of step "});
  EXPECT_TRUE(read_raw(checkpoint("run")) == before);
}

TEST_F(Programs, FullDiskLeavesNoPartialCheckpoint) {
  check_user_error(Running(dir.root(), train("run"), {40000, 0}).wait(), {dir.path("run")});
  EXPECT_FALSE(std::filesystem::exists(checkpoint("run")));
  for (const auto& entry : std::filesystem::directory_iterator(dir.path("run"))) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(name == "lock" || name == "config.yaml" || name == "log.jsonl" || name == "environment.json") << name;
  }
}

TEST_F(Programs, EvaluationRepeatsTheSearchToTheDigit) {
  expect_trains("run", {"--epochs", "2"});
  const std::vector<std::string> search = {"search_subnets", "--run", dir.path("run"), "--max-params", "8k"};
  const Outcome found = run(search);
  ASSERT_EQ(found.status, 0) << found.err;
  const std::string test = line_with(found.out, "test  top-1");
  ASSERT_FALSE(test.empty()) << found.out;
  const Outcome evaluated = run(
      {"evaluate_subnet", "--weights", checkpoint("run"), "--architecture", dir.path("run/best_architecture.json")});
  EXPECT_EQ(line_with(evaluated.out, "test  top-1"), test) << evaluated.err;
  const Outcome ranking = run({"evaluate_subnet", "--run", dir.path("run"), "--split", "ranking", "--threads", "1"});
  const std::string score = line_with(ranking.out, "top-1").substr(0, 12);
  EXPECT_NE(line_with(found.out, "best of").find(score), std::string::npos) << ranking.out << found.out;

  const std::string log = read_raw(dir.path("run/search.jsonl"));
  EXPECT_EQ(line_with(run(search).out, "test  top-1"), test) << "from the log alone";
  EXPECT_EQ(read_raw(dir.path("run/search.jsonl")), log);
  // The record of the end: none of the test images was read before, and then each once.
  EXPECT_NE(log.find("\"images\":30,\"loss\""), std::string::npos) << log;
  EXPECT_NE(log.find("\"reads\":30,\"reads_before\":0"), std::string::npos) << log;
  expect_user_error({"search_subnets", "--run", dir.path("run"), "--max-params", "7k"}, {"search.jsonl", "max_params"});
  expect_user_error({"search_subnets", "--run", dir.path("run"), "--max-params", "10", "--output", dir.path("other")},
                    {"10"});
  expect_user_error({"search_subnets", "--run", dir.path("run"), "--images", "41", "--output", dir.path("other")},
                    {"41", "40"});
}

// Whatever is left of the logs after a kill, the same command ends with the same logs, winner, front and table.
TEST_F(Programs, ASearchForTheFrontUnderLatencyIsResumedAndCompared) {
  expect_trains("run", {"--epochs", "1"});
  const std::vector<std::string> search = {"search_subnets",
                                           "--run",
                                           dir.path("run"),
                                           "--algorithm",
                                           "nsga2",
                                           "--compare",
                                           "random,evolution",
                                           "--objectives",
                                           "params,latency",
                                           "--max-latency-ms",
                                           "1000",
                                           "--verify",
                                           "6",
                                           "--threads",
                                           "1"};
  const Outcome whole = run(search);
  ASSERT_EQ(whole.status, 0) << whole.err;
  for (const char* part :
       {"architectures meet the limits:  params ", "| top-1 | params | latency | architecture |", "| nsga2 | 8 |",
        "| random | 8 |", "| evolution | 8 |", "latency of 6 subnets cut out", "Spearman"}) {
    EXPECT_NE(whole.out.find(part), std::string::npos) << part << whole.out;
  }
  const std::vector<std::string> files = {"search.jsonl", "search-random.jsonl",    "search-evolution.jsonl",
                                          "front.json",   "best_architecture.json", "latency.json"};
  std::vector<std::string> want;
  for (const std::string& file : files) want.push_back(read_raw(dir.path("run/" + file)));
  for (const size_t cut : {want[0].size() / 2, want[0].size() - 2}) {
    write_raw(dir.path("run/search.jsonl"), want[0].substr(0, cut));
    write_raw(dir.path("run/search-random.jsonl"), want[1].substr(0, cut / 2));
    std::filesystem::remove(dir.path("run/front.json"));
    const Outcome again = run(search);
    ASSERT_EQ(again.status, 0) << again.err;
    for (size_t i = 0; i < files.size(); ++i) EXPECT_EQ(read_raw(dir.path("run/" + files[i])), want[i]) << files[i];
    EXPECT_EQ(line_with(again.out, "| nsga2 |"), line_with(whole.out, "| nsga2 |"));
  }
}

TEST_F(Programs, LimitsThatNothingMeetsNameTheNearest) {
  expect_trains("run", {"--epochs", "1"});
  const auto refused = [&](const std::vector<std::string>& limits, const std::vector<std::string>& parts) {
    std::vector<std::string> command = {"search_subnets", "--run", dir.path("run"), "--threads", "1"};
    command.insert(command.end(), limits.begin(), limits.end());
    expect_user_error(command, parts);
    EXPECT_FALSE(std::filesystem::exists(dir.path("run/search.jsonl")));
  };
  refused({"--max-macs", "10"}, {"meets macs <= 10;", "max_macs at least "});
  refused({"--min-activation-memory", "1G"}, {"activation_bytes >= 1000000000", "min_activation_bytes at most "});
  refused({"--max-latency-ms", "0.000001"}, {"latency <= 1e-06 ms", "max_latency at least ", " ms"});
  refused({"--min-params", "9k", "--max-params", "8k"}, {"min_params 9000 is above max_params 8000"});
  refused({"--compare", "evolution"}, {"--compare evolution is the search's own algorithm"});
  refused({"--objectives", "speed"}, {"'speed' is not a cost"});
  EXPECT_EQ(run({"search_subnets", "--compare", "magic"}).status, 2);
}

TEST_F(Programs, EvaluationWritesLogitsOfAFileOfImages) {
  expect_trains("run", {"--epochs", "1"});
  std::vector<float> pixels(3 * 28 * 28);
  Rng rng(9, Stream::synthetic);
  for (float& pixel : pixels) pixel = static_cast<float>(rng.uniform(-1, 1));
  write_safetensors(dir.path("in"), {{"images", "F32", {3, 1, 28, 28}, pixels.data()}}, {});
  const Outcome outcome = run({"evaluate_subnet", "--weights", checkpoint("run"), "--architecture", "min", "--input",
                               dir.path("in"), "--output", dir.path("out")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const LoadedModel model = load_model(checkpoint("run"), "", DeviceKind::cpu);
  const Tensor images = Tensor::from({3, 1, 28, 28}, pixels);
  const SafetensorsFile written(dir.path("out"));
  EXPECT_EQ(written.tensors().at("logits").shape, (std::vector<int64_t>{3, 10}));
  EXPECT_EQ(written.read_f32("logits"), model.supernet->forward(images, model.config.space.smallest()).to_vector());

  write_safetensors(dir.path("in"), {{"images", "F32", {3, 28, 28}, pixels.data()}}, {});
  const std::vector<std::string> again = {"evaluate_subnet", "--run",        dir.path("run"), "--architecture", "min",
                                          "--input",         dir.path("in"), "--output",      dir.path("out2")};
  expect_user_error(again, {"[B, 1, 28, 28]"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("out2")));

  pixels[5] = std::numeric_limits<float>::quiet_NaN();
  write_safetensors(dir.path("in"), {{"images", "F32", {3, 1, 28, 28}, pixels.data()}}, {});
  expect_user_error(again, {"not finite", dir.path("in")});
  EXPECT_FALSE(std::filesystem::exists(dir.path("out2")));
}

TEST_F(Programs, CheckpointOfAnotherRunIsNotResumed) {
  expect_trains("run", {"--epochs", "1"});
  expect_trains("other", {"--epochs", "1", "--seed", "9"});
  std::filesystem::copy_file(checkpoint("other"), checkpoint("run"), std::filesystem::copy_options::overwrite_existing);
  expect_user_error({"train_supernet", "--resume", "--output", dir.path("run")}, {"another run", "TRAIN.seed"});
}

TEST_F(Programs, SearchKeepsTheTrainingsSplitAndScoresOfOneSubject) {
  expect_trains("run", {"--epochs", "1"});
  const std::vector<std::string> search = {"search_subnets", "--run", dir.path("run"), "--output", dir.path("found")};
  ASSERT_EQ(run(search).status, 0);
  const auto with = [&](const std::string& setting) {
    std::vector<std::string> command = search;
    command.insert(command.end(), {"--set", setting});
    return command;
  };
  expect_user_error(with("DATA.split_seed=7"), {"DATA.split_seed=0", "hold out the same images"});
  expect_user_error(with("DATA.held_out=50"), {"DATA.held_out=40"});
  expect_user_error(with("MODEL.global_pool=false"), {"search.jsonl", "subject"});
  std::vector<std::string> larger(search.begin(), search.end() - 2);
  larger.insert(larger.end(), {"--population", "8", "--set", "SEARCH.mutations=5", "--output", dir.path("larger")});
  const Outcome outcome = run(larger);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::string header = read_raw(dir.path("larger/search.jsonl"));
  for (const char* part : {"\"population\":8", "\"mutations\":5", "\"crossovers\":2"}) {
    EXPECT_NE(header.find(part), std::string::npos) << part << header.substr(0, 400);
  }
}

// With weights that hardly move, a step's loss is a function of its images, targets and architecture. What devices
// round differently, in sums of at most a few hundred terms, stays far below what another image would change.
TEST_F(Programs, AGpuTrainsOnTheImagesOfTheProcessor) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  const std::vector<std::string> still = {"--set", "TRAIN.lr=1e-9", "--set", "DATA.crop_padding=3", "--epochs", "3"};
  expect_trains("cpu", still);
  std::vector<std::string> on_gpu = still;
  on_gpu.insert(on_gpu.end(), {"--device", "cuda"});
  expect_trains("gpu", on_gpu);
  const auto want = log_records(dir.path("cpu/log.jsonl")), got = log_records(dir.path("gpu/log.jsonl"));
  ASSERT_EQ(got.size(), want.size());
  ASSERT_EQ(got.size(), size_t{3 * kStepsPerEpoch});
  for (size_t i = 0; i < got.size(); ++i) {
    const double loss = want[i]["loss"];
    EXPECT_EQ(got[i]["architecture"], want[i]["architecture"]);
    EXPECT_NEAR(got[i]["loss"], loss, 300 * 0x1p-24 * loss) << "step " << i;
    const double before = i > 0 ? want[i - 1]["loss"].get<double>() : 0;
    EXPECT_GT(std::fabs(loss - before), 1e-4) << "step " << i << ": the tolerance must be small against a change";
  }
}

}  // namespace
}  // namespace entangle
