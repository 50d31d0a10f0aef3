// Traces of steps: what is recorded, and whether the file keeps the rules of the Trace Event Format.
#include "engine/trace.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <thread>

#include "engine/ops.h"
#include "engine/tensor.h"
#include "tests/expect_error.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/trace_file.h"

namespace entangle {
namespace {

using nlohmann::json;

bool is_number(const json& event, const char* key) {
  return event.contains(key) && event[key].is_number() && std::isfinite(event[key].get<double>()) && event[key] >= 0;
}

// Complete events of one thread lie within one another or apart. Times have three decimals.
std::string check_nesting(std::vector<json> events) {
  constexpr double kTouch = 0.5e-3;
  std::sort(events.begin(), events.end(),
            [](const json& a, const json& b) { return a["ts"] != b["ts"] ? a["ts"] < b["ts"] : a["dur"] > b["dur"]; });
  std::vector<double> ends;
  for (const json& event : events) {
    const double start = event["ts"], end = start + event["dur"].get<double>();
    while (!ends.empty() && ends.back() <= start + kTouch) ends.pop_back();
    if (!ends.empty() && end > ends.back() + kTouch) return "overlaps the one around it: " + event.dump();
    ends.push_back(end);
  }
  return "";
}

std::string check_event(const json& event, std::map<int, std::vector<json>>& complete,
                        std::map<int, std::vector<std::string>>& open) {
  for (const char* key : {"ph", "name", "pid", "tid"}) {
    if (!event.contains(key)) return std::string("lacks ") + key;
  }
  const std::string ph = event["ph"];
  const int thread = event["tid"];
  if (ph == "M") return event["args"]["name"].is_string() ? "" : "names nothing";
  if (!is_number(event, "ts")) return "has no time";
  if (ph == "X") {
    if (!is_number(event, "dur")) return "has no duration";
    complete[thread].push_back(event);
  } else if (ph == "B") {
    open[thread].push_back(event["name"]);
  } else if (ph == "E") {
    if (open[thread].empty() || open[thread].back() != event["name"]) return "ends what did not begin";
    open[thread].pop_back();
  } else if (ph == "C") {
    for (const auto& value : event["args"].items()) {
      if (!is_number(event["args"], value.key().c_str())) return "counts no number";
    }
    if (event["args"].empty()) return "counts nothing";
  } else {
    return "is of no known kind";
  }
  return "";
}

// The first rule that is broken, or an empty string.
std::string check_format(const json& file) {
  if (!file.contains("traceEvents") || !file["traceEvents"].is_array()) return "no traceEvents";
  std::map<int, std::vector<json>> complete;
  std::map<int, std::vector<std::string>> open;
  for (const json& event : file["traceEvents"]) {
    const std::string fault = check_event(event, complete, open);
    if (!fault.empty()) return fault + ": " + event.dump();
  }
  for (const auto& [thread, names] : open) {
    if (!names.empty()) return "never ends: " + names.back();
  }
  for (const auto& [thread, events] : complete) {
    const std::string fault = check_nesting(events);
    if (!fault.empty()) return fault;
  }
  return "";
}

std::set<std::string> names_of(const json& file, const std::string& category) {
  std::set<std::string> names;
  for (const json& event : file["traceEvents"]) {
    if (event.value("cat", "") == category) names.insert(event["name"]);
  }
  return names;
}

json event(const char* ph, double start, double duration, int thread = 0) {
  return {{"ph", ph},    {"name", "n"},     {"pid", 1},          {"tid", thread},
          {"ts", start}, {"dur", duration}, {"args", {{"v", 1}}}};
}

TEST(TraceFormat, TheRulesAreChecked) {
  const auto check = [](const std::vector<json>& events) { return check_format({{"traceEvents", events}}); };
  EXPECT_EQ(check({event("X", 0, 10), event("X", 2, 3), event("X", 5, 5), event("X", 4, 9, 1), event("C", 1, 0),
                   event("B", 1, 0), event("E", 2, 0)}),
            "");
  EXPECT_NE(check({event("X", 0, 10), event("X", 5, 6)}), "");
  EXPECT_NE(check({event("X", 0, -1)}), "");
  EXPECT_NE(check({event("X", NAN, 1)}), "");
  EXPECT_NE(check({event("B", 0, 0)}), "");
  EXPECT_NE(check({event("E", 0, 0)}), "");
  EXPECT_NE(check({event("Q", 0, 0)}), "");
  json lacking = event("X", 0, 1), countless = event("C", 0, 0);
  lacking.erase("tid");
  countless["args"] = {{"v", "many"}};
  EXPECT_NE(check({lacking}), "");
  EXPECT_NE(check({countless}), "");
}

TEST(Trace, HoldsSpansOfAllThreadsAndNothingWhenOff) {
  { const TraceSpan before("a", "before"); }
  start_trace(DeviceKind::cpu, 4);
  EXPECT_NE(error_of([] { start_trace(DeviceKind::cpu); }), "");
  {
    const TraceSpan outer("a", "outer");
    const TraceSpan inner("a", "inner");
    std::thread([] { const TraceSpan other("b", "other"); }).join();
  }
  { const TraceSpan last("a", "last"); }
  { const TraceSpan too_many("a", "too many"); }
  const Trace trace = stop_trace();
  std::vector<std::string> names;
  for (const TracedSpan& span : trace.spans) names.push_back(span.name);
  EXPECT_EQ(names, (std::vector<std::string>{"other", "inner", "outer", "last"}));
  EXPECT_TRUE(trace.full);
  EXPECT_NE(trace.spans[0].thread, trace.main_thread);
  EXPECT_EQ(trace.memory.size(), 6u) << "where the spans of the main thread begin and end";
  EXPECT_EQ(check_format(json::parse(to_json(trace))), "");
  { const TraceSpan after("a", "after"); }
  EXPECT_TRUE(stop_trace().spans.empty());
}

TEST(Trace, OperationsAreSpansForwardAndBackward) {
  const Tensor x = Tensor::zeros({2, 3, 4}).set_requires_grad(), w = Tensor::zeros({4}).set_requires_grad();
  start_trace(DeviceKind::cpu);
  {
    Tape tape;
    const Tensor y = layer_norm(softmax(gelu(dropout(x, 0.5f, rng_key(1, Stream::dropout, 0)))), w, w, 1e-5f);
    tape.backward(cross_entropy(pool(y, 0, 3), Tensor::zeros({2, 4})));
  }
  const json file = json::parse(to_json(stop_trace()));
  const std::set<std::string> operations = {"cross_entropy", "dropout", "gelu", "layer_norm", "pool", "softmax"};
  EXPECT_EQ(names_of(file, "forward"), operations);
  EXPECT_EQ(names_of(file, "backward"), operations);
}

TEST(Trace, ShareCountsTheOutermostOperationsOfSteps) {
  Trace trace;
  trace.spans = {{"forward", "inner", 0, 20, 30, {}},    {"forward", "op", 0, 10, 40, {}},
                 {"kernel", "k", 0, 50, 60, {}},         {"backward", "op", 0, 60, 90, {}},
                 {"forward", "other", 1, 0, 100, {}},    {"step", "step", 0, 0, 100, {}},
                 {"forward", "outside", 0, 150, 190, {}}};
  EXPECT_DOUBLE_EQ(share_of_operations(trace), 0.6);
  EXPECT_EQ(share_of_operations({}), 0);
}

class TraceFiles : public Programs {
 protected:
  json traced(std::vector<std::string> command) {
    command.insert(command.end(), {"--trace", dir.path("trace.json")});
    outcome = run(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const json file = json::parse(read_raw(dir.path("trace.json")));
    EXPECT_EQ(check_format(file), "");
    return file;
  }
  Outcome outcome;
};

TEST_F(TraceFiles, OfAStepAreExplainedByOperations) {
  const json file = traced({"bench_step", "--space", dir.path("tiny.yaml"), "--batch", "64", "--threads", "1", "--set",
                            "SUPERNET.EMBED_DIM=64", "--set", "SEARCH_SPACE.EMBED_DIM=[64]"});
  const std::set<std::string> forward = names_of(file, "forward"), backward = names_of(file, "backward");
  for (const char* name : {"patchify", "linear", "tokens", "attention", "mlp", "residual_norm", "cross_entropy"}) {
    EXPECT_EQ(forward.count(name), 1u) << name;
  }
  for (const std::string& name : backward) EXPECT_EQ(forward.count(name), 1u) << name << " has no span of its own";
  EXPECT_GE(backward.size(), 7u);
  EXPECT_EQ(names_of(file, "optimizer"), (std::set<std::string>{"adamw_step"}));
  std::set<double> memory;
  double gflop = 0;
  for (const json& e : file["traceEvents"]) {
    if (e["ph"] == "C") memory.insert(e["args"]["bytes"].get<double>());
    if (e.value("cat", "") == "kernel") gflop += 1e-9 * e["args"]["flops"].get<double>();
  }
  EXPECT_GT(memory.size(), 10u);
  EXPECT_NEAR(gflop, 3 * 64 * json::parse(outcome.out)["gflop_per_image"].get<double>(), 0.01 * gflop) << "of 3 steps";
  const std::string share = line_with(outcome.err, "operations are ");
  const size_t at = share.find("operations are ");
  ASSERT_NE(at, std::string::npos) << outcome.err;
  EXPECT_GE(std::stod(share.substr(at + 15)), 80) << share;
}

TEST_F(TraceFiles, OfATrainingHaveTheLoaderAndEndWithIt) {
  const json file = traced(train("run", {"--epochs", "1"}));
  const std::set<std::string> loader = names_of(file, "loader");
  EXPECT_EQ(loader.count("next batch") + loader.count("place") + loader.count("targets"), 3u);
  std::set<int> threads;
  int64_t steps = 0;
  for (const json& e : file["traceEvents"]) {
    if (e.value("name", "") == "place") threads.insert(e["tid"].get<int>());
    steps += e.value("cat", "") == "step";
    if (e.value("cat", "") == "step") {
      EXPECT_EQ(threads.count(e["tid"].get<int>()), 0u) << "the loader has threads of its own";
    }
  }
  EXPECT_EQ(steps, kStepsPerEpoch);
  expect_user_error(train("other", {"--trace", dir.path("no/such/trace.json")}), {"no/such/trace.json"});
  EXPECT_FALSE(std::filesystem::exists(dir.path("other"))) << "an error before anything is done";
}

}  // namespace
}  // namespace entangle
