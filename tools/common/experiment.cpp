#include "tools/common/experiment.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/check.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tools/common/cli.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

using nlohmann::json;

constexpr int kDrawn = 1000;

// Calls use(record) for each line.
template <class Use>
void for_each_record(const std::string& path, const Use& use) {
  std::ifstream in(path);
  CHECK(in.is_open(), "cannot read ", path);
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const json record = json::parse(line, nullptr, false);
    CHECK(record.is_object(), path, ": line ", number, " is not a record");
    try {
      use(record);
    } catch (const json::exception& error) {
      RAISE(path, ": line ", number, ": ", error.what());
    }
  }
}

void check_finished(const RunRecord& run, int64_t steps, int64_t epoch) {
  CHECK(steps > 0 && epoch == run.config.train.epochs && !run.epochs.empty(), run.path, " is at epoch ", epoch, " of ",
        run.config.train.epochs, ": finish it before it is reported");
}

}  // namespace

RunRecord read_training(const std::string& path) {
  RunRecord run;
  run.path = path;
  run.config = load_config(path + "/config.yaml");
  const double batch = static_cast<double>(run.config.train.batch_size);
  int64_t steps = 0, epoch = 0, in_epoch = 0;
  double subnets = 0, loss = 0;
  for_each_record(path + "/log.jsonl", [&](const json& record) {
    if (record.at("epoch").get<int64_t>() != epoch) in_epoch = 0, loss = 0;
    epoch = record.at("epoch").get<int64_t>();
    subnets += record.contains("subnets") ? static_cast<double>(record["subnets"].size()) : 1;
    loss += record.at("loss").get<double>();
    ++steps, ++in_epoch;
    run.peak_memory = std::max(run.peak_memory, record.at("memory").get<int64_t>());
    run.minutes += batch / record.at("img_per_s").get<double>() / 60;
    // The last step of an epoch tells; passes are scaled once the number of steps is known.
    EpochRecord last = {subnets, loss / static_cast<double>(in_epoch), {}};
    if (record.contains("held_out")) {
      for (const char* name : {"smallest", "middle", "largest"}) last.held_out.push_back(record["held_out"].at(name));
    }
    run.epochs.resize(static_cast<size_t>(epoch));
    run.epochs.back() = last;
  });
  check_finished(run, steps, epoch);
  const double per_epoch = static_cast<double>(steps) / static_cast<double>(epoch);
  for (EpochRecord& record : run.epochs) record.passes /= per_epoch;
  const auto metadata = read_checkpoint_metadata(path + "/checkpoint.safetensors");
  const auto step = metadata.find("step");
  CHECK(step != metadata.end() && parse_number(step->second) == steps && steps % epoch == 0, path,
        ": its checkpoint is not of its log's last step ", steps, "; finish the run before it is reported");
  return run;
}

std::vector<Candidate> read_candidates(const std::string& path) {
  std::vector<Candidate> candidates;
  for_each_record(path, [&](const json& record) {
    if (!record.contains("architecture") || record.at("stopped").get<bool>()) return;
    Candidate candidate;
    candidate.architecture = Architecture::from_json(record["architecture"].dump());
    candidate.accuracy = record.at("accuracy");
    candidate.images = record.at("images");
    const std::pair<const char*, Metric> costs[] = {
        {"params", Metric::params}, {"macs", Metric::macs}, {"activation_bytes", Metric::activation_bytes}};
    for (const auto& [key, metric] : costs) candidate.costs[static_cast<size_t>(metric)] = record.at(key);
    candidates.push_back(std::move(candidate));
  });
  CHECK(!candidates.empty(), path, " has no completely scored candidate");
  return candidates;
}

EvaluationSet test_images(const Config& config, const DataSource& source, int64_t images) {
  std::vector<int64_t> indices = all_indices(*source.test);
  if (images > 0) indices = spread(indices, images);
  return EvaluationSet(source.test, source, indices, config.model.image_size, EvaluationSet::Keep::yes);
}

std::vector<Architecture> spread_architectures(const Config& config, int64_t count, uint64_t seed) {
  CHECK(count >= 2, "--count is ", count, ", but must be 2 or more: the smallest and the largest");
  const auto params = [&](const Architecture& a) { return static_cast<double>(cost_of(config.model, a).params); };
  Rng rng(seed, Stream::search);
  std::vector<std::pair<double, Architecture>> drawn;
  for (int i = 0; i < kDrawn; ++i) {
    const Architecture a = config.space.sample(rng);
    drawn.push_back({params(a), a});
  }
  const Architecture smallest = config.space.smallest(), largest = config.space.largest();
  const double low = params(smallest), high = params(largest);
  std::vector<Architecture> chosen = {smallest};
  for (int64_t i = 1; i + 1 < count; ++i) {
    const double want = low + (high - low) * static_cast<double>(i) / static_cast<double>(count - 1);
    std::sort(drawn.begin(), drawn.end(),
              [want](const auto& a, const auto& b) { return std::fabs(a.first - want) < std::fabs(b.first - want); });
    const auto is_new = [&](const auto& one) {
      return one.second != largest && std::find(chosen.begin(), chosen.end(), one.second) == chosen.end();
    };
    const auto found = std::find_if(drawn.begin(), drawn.end(), is_new);
    CHECK(found != drawn.end(), "the space has fewer than ", count, " architectures; ask for fewer with --count");
    chosen.push_back(found->second);
  }
  chosen.push_back(largest);
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](const Architecture& a, const Architecture& b) { return params(a) < params(b); });
  return chosen;
}

std::string spread_text(const std::vector<double>& values, int digits) {
  const auto text = [digits](double value) { return format("%.*f", digits, value); };
  CHECK(!values.empty(), "no values to show");
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  if (values.size() == 1) return text(mean);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return text(mean) + " (" + text(*low) + " to " + text(*high) + ")";
}

}  // namespace entangle
