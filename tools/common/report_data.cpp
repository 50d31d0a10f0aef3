#include "tools/common/report_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/check.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tools/common/environment.h"
#include "tools/common/model_costs.h"

namespace entangle {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kLargestWhole = 1e15;  // that a count of anything here may be

double number(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : kNone;
}

int64_t whole(const json& object, const char* key, int64_t otherwise) {
  const double value = number(object, key);
  return std::fabs(value) <= kLargestWhole ? static_cast<int64_t>(value) : otherwise;
}

std::optional<Architecture> architecture_in(const json& object) {
  if (!object.contains("architecture") || !object["architecture"].is_object()) return std::nullopt;
  try {
    return Architecture::from_json(object["architecture"].dump());
  } catch (const std::exception&) {  // also text that is not UTF-8
    return std::nullopt;
  }
}

// Calls `each` with every line that is a JSON object, and says of the others how many there are.
void read_lines(RunData& run, const std::string& file, const std::function<void(const json&)>& each) {
  std::ifstream in(run.path + "/" + file, std::ios::binary);
  if (!in) return run.missing.push_back(file + " cannot be read.");
  int64_t broken = 0;
  bool torn = false;
  for (std::string line; std::getline(in, line);) {
    const json object = json::parse(line, nullptr, false);
    torn = in.eof();  // a line without its newline
    if (object.is_object()) {
      each(object);
    } else if (torn) {
      run.missing.push_back("The last line of " + file + " is torn: it was left out.");
    } else {
      ++broken;
    }
  }
  if (broken > 0)
    run.missing.push_back(
        concat(broken, broken == 1 ? " line of " : " lines of ", file, " cannot be read and were left out."));
}

// Of a drawn architecture: its choices are counted, and its parameters found.
class Draws {
 public:
  explicit Draws(const RunData& run) {
    if (run.config && !run.config->subnet) costs_.emplace(model_costs(run.config->model, run.config->space, 1));
  }
  void count(const Architecture& architecture, DrawCounts& drawn) const {
    ++drawn.depth[architecture.depth];
    ++drawn.embed_dim[architecture.embed_dim];
    for (const int heads : architecture.num_heads) ++drawn.num_heads[heads];
    for (const double ratio : architecture.mlp_ratio) ++drawn.mlp_ratio[ratio];
  }
  double params(const Architecture& architecture) const {
    const bool known = costs_ && costs_->space().contains(architecture);
    return known ? static_cast<double>(get(costs_->of(architecture), Metric::params)) : kNone;
  }

 private:
  std::optional<CostTable> costs_;
};

void read_held_out(const json& object, const StepRecord& step, TrainingLog& log) {
  if (!object.contains("held_out") || !object["held_out"].is_object()) return;
  HeldOutRecord record = {step.step, whole(object, "epoch", 0), {}};
  for (const auto& [name, value] : object["held_out"].items()) {
    if (value.is_number()) record.accuracy[name] = value.get<double>();
  }
  if (!record.accuracy.empty()) log.held_out.push_back(record);
}

void read_log(RunData& run) {
  const Draws draws(run);
  TrainingLog& log = run.log;
  int64_t without_step = 0;
  read_lines(run, "log.jsonl", [&](const json& object) {
    StepRecord step = {whole(object, "step", -1),
                       whole(object, "epoch", 0),
                       number(object, "loss"),
                       number(object, "lr"),
                       number(object, "img_per_s"),
                       number(object, "memory"),
                       kNone};
    if (step.step < 0) return void(++without_step);
    log.not_finite += object.contains("loss") && !std::isfinite(step.loss);
    if (const auto architecture = architecture_in(object)) {
      draws.count(*architecture, log.drawn);
      step.params = draws.params(*architecture);
    }
    log.steps.push_back(step);
    read_held_out(object, step, log);
  });
  if (without_step > 0)
    run.missing.push_back(concat(without_step, " records of log.jsonl have no step and were left out."));
  int64_t gaps = 0;
  for (size_t i = 1; i < log.steps.size(); ++i) gaps += log.steps[i].step != log.steps[i - 1].step + 1;
  if (gaps > 0)
    run.missing.push_back(
        concat("The steps in log.jsonl do not follow one another in ", gaps, gaps == 1 ? " place." : " places."));
  if (log.steps.empty()) run.missing.push_back("log.jsonl holds no steps: nothing is known of the training.");
}

void read_options(const json& header, SearchRecord& search) {
  const json options = header.value("options", json::object());
  if (!options.is_object()) return;
  SearchOptions& o = search.options;
  const auto word = [&](const char* key, std::string& value) {
    if (options.contains(key) && options[key].is_string()) value = options[key].get<std::string>();
  };
  word("algorithm", search.algorithm);
  word("objectives", o.objectives);
  word("subject", o.subject);
  for (const auto& [key, value] : {std::pair<const char*, int64_t*>{"population", &o.population},
                                   {"generations", &o.generations},
                                   {"min_params", &o.min_params},
                                   {"max_params", &o.max_params},
                                   {"min_macs", &o.min_macs},
                                   {"max_macs", &o.max_macs},
                                   {"min_activation_bytes", &o.min_activation_bytes},
                                   {"max_activation_bytes", &o.max_activation_bytes}}) {
    *value = std::max<int64_t>(0, whole(options, key, *value));
  }
  for (const auto& [key, value] :
       {std::pair<const char*, double*>{"min_latency_ms", &o.min_latency_ms}, {"max_latency_ms", &o.max_latency_ms}}) {
    const double found = number(options, key);
    if (found >= 0 && found < 1e9) *value = found;
  }
}

void read_end(const json& end, SearchRecord& search) {
  search.ended = true;
  if (!end.is_object() || !end.contains("test") || !end["test"].is_object()) return;
  const json& test = end["test"];
  Evaluation evaluation;
  evaluation.images = whole(test, "images", 0);
  evaluation.top1 = whole(test, "top1", 0);
  evaluation.top5 = whole(test, "top5", 0);
  evaluation.loss = number(test, "loss");
  if (evaluation.images > 0) search.test = evaluation;
}

std::optional<Candidate> candidate_in(const json& object) {
  const auto architecture = architecture_in(object);
  const double accuracy = number(object, "accuracy");
  if (!architecture || !std::isfinite(accuracy)) return std::nullopt;
  Candidate candidate;
  candidate.architecture = *architecture;
  candidate.accuracy = accuracy;
  candidate.images = whole(object, "images", 0);
  candidate.generation = whole(object, "generation", 0);
  candidate.stopped = object.contains("stopped") && object["stopped"] == true;
  const double predicted = number(object, "predicted");
  if (std::isfinite(predicted)) candidate.predicted = predicted;
  candidate.costs = {whole(object, "params", 0), whole(object, "macs", 0), whole(object, "activation_bytes", 0),
                     whole(object, "latency_ns", 0)};
  return candidate;
}

void read_search(RunData& run, const std::string& file) {
  SearchRecord search;
  search.file = file;
  search.algorithm = "search";
  int64_t unknown = 0;
  read_lines(run, file, [&](const json& object) {
    if (object.contains("format")) {
      read_options(object, search);
    } else if (object.contains("end")) {
      read_end(object["end"], search);
    } else if (const auto candidate = candidate_in(object)) {
      search.candidates.push_back(*candidate);
    } else {
      ++unknown;
    }
  });
  if (unknown > 0)
    run.missing.push_back(concat(unknown, " records of ", file, " are no candidates and were left out."));
  if (search.candidates.empty())
    run.missing.push_back(file + " holds no candidates: the search has found nothing yet.");
  run.searches.push_back(std::move(search));
}

void read_searches(RunData& run) {
  std::vector<std::string> others;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run.path, ignored)) {
    const std::string name = entry.path().filename();
    if (name.rfind("search-", 0) == 0 && entry.path().extension() == ".jsonl") others.push_back(name);
  }
  std::sort(others.begin(), others.end());
  if (fs::exists(run.path + "/search.jsonl", ignored)) others.insert(others.begin(), "search.jsonl");
  for (const std::string& file : others) read_search(run, file);
}

void read_winner(RunData& run) {
  std::error_code ignored;
  const SearchRecord* search = run.searches.empty() ? nullptr : &run.searches.front();
  if (fs::exists(run.path + "/best_architecture.json", ignored)) {
    try {
      Winner winner = {Architecture::from_json(read_text_file(run.path + "/best_architecture.json")), std::nullopt,
                       true};
      for (const Candidate& candidate : search == nullptr ? std::vector<Candidate>() : search->candidates) {
        if (candidate.architecture == winner.architecture && !candidate.stopped) winner.candidate = candidate;
      }
      if (search != nullptr && !winner.candidate)
        run.missing.push_back(
            "The subnet in best_architecture.json is none of the candidates of search.jsonl: how it scored is not "
            "known.");
      run.winner = winner;
      return;
    } catch (const Error& error) {
      run.missing.push_back(concat("best_architecture.json cannot be read: ", error.what(), "."));
    }
  }
  if (search == nullptr) return;
  const Candidate* best = nullptr;
  for (const Candidate& candidate : search->candidates) {
    if (!candidate.stopped && (best == nullptr || candidate.accuracy > best->accuracy)) best = &candidate;
  }
  if (best != nullptr) run.winner = Winner{best->architecture, *best, false};
}

// Reads one file when it is there; else, and when it is broken, says so.
void read_part(RunData& run, const std::string& file, const std::string& without, const std::function<void()>& read) {
  std::error_code ignored;
  if (!fs::exists(run.path + "/" + file, ignored)) {
    if (!without.empty()) run.missing.push_back("There is no " + file + ": " + without);
    return;
  }
  try {
    read();
  } catch (const std::exception& error) {
    run.missing.push_back(concat(file, " cannot be read: ", error.what(), "."));
  }
}

void read_config(RunData& run) {
  read_part(run, "config.yaml", "the configuration is the checkpoint's, if that has one.",
            [&] { run.config = parse_config(read_text_file(run.path + "/config.yaml"), run.path + "/config.yaml"); });
  const auto carried = run.checkpoint.find("config");
  if (run.config || carried == run.checkpoint.end()) return;
  try {
    run.config = parse_config(carried->second, "in the checkpoint");
  } catch (const Error& error) {
    run.missing.push_back(concat("The checkpoint's configuration cannot be read: ", error.what(), "."));
  }
}

}  // namespace

RunData read_run(const std::string& path, const std::string& weights) {
  std::error_code ignored;
  CHECK(fs::exists(path, ignored), "there is no ", path, ": name the directory of a run, such as runs/fashion-mnist");
  CHECK(fs::is_directory(path, ignored), path, " is a file: name the directory of a run");
  const std::vector<std::string> known = {"config.yaml", "log.jsonl", "checkpoint.safetensors", "search.jsonl",
                                          "best_architecture.json"};
  CHECK(std::any_of(known.begin(), known.end(),
                    [&](const std::string& file) { return fs::exists(path + "/" + file, ignored); }),
        path,
        " is no run directory: none of config.yaml, log.jsonl, checkpoint.safetensors, search.jsonl and "
        "best_architecture.json is in it");
  RunData run;
  run.path = path;
  const fs::path plain = fs::absolute(path, ignored).lexically_normal();
  run.name = plain.has_filename() ? plain.filename() : plain.parent_path().filename();
  run.weights = weights;
  read_part(run, "checkpoint.safetensors", weights.empty() ? "nothing can be shown of the weights." : "", [&] {
    run.checkpoint = read_checkpoint_metadata(path + "/checkpoint.safetensors");
    run.weights = path + "/checkpoint.safetensors";
  });
  read_config(run);
  read_part(run, kEnvironmentFile, "", [&] { run.environment = read_environment(path); });
  read_part(run, "log.jsonl", "nothing is known of the training.", [&] { read_log(run); });
  read_searches(run);
  read_winner(run);
  return run;
}

std::optional<Costs> winner_costs(const RunData& run) {
  if (!run.winner) return std::nullopt;
  if (run.winner->candidate) return run.winner->candidate->costs;
  try {
    if (!run.config) return std::nullopt;
    const Cost cost = cost_of(run.config->model, run.winner->architecture, run.config->search.batch_size);
    return Costs{cost.params, cost.macs, cost.activation_bytes, 0};
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace entangle
