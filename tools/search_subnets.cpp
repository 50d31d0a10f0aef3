// Searches a trained supernet for its best subnet under limits, with inherited weights.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/hash.h"
#include "search/feasible.h"
#include "search/search_log.h"
#include "tools/common/cli.h"
#include "tools/common/correlation.h"
#include "tools/common/counting_dataset.h"
#include "tools/common/environment.h"
#include "tools/common/latency.h"
#include "tools/common/model_costs.h"
#include "tools/common/models.h"
#include "tools/common/progress.h"
#include "tools/common/ranking.h"
#include "tools/common/report.h"
#include "tools/common/run_board.h"
#include "tools/common/run_directory.h"
#include "tools/common/search_report.h"

namespace entangle {
namespace {

// Candidates scored at once: more share more of their beginnings, and a killed search repeats fewer.
constexpr int64_t kGroup = 10;
constexpr size_t kFrontRows = 20;  // printed

constexpr const char* kExamples =
    "  ./search_subnets --max-params 600k                the run in runs/fashion-mnist\n"
    "  ./search_subnets --run runs/T --max-params 6M --images 10k\n"
    "  ./search_subnets --run runs/T --max-params 6M --algorithm random --output runs/T-random\n"
    "  ./search_subnets --run runs/T --algorithm nsga2 --objectives params,macs,latency --compare random\n"
    "  ./search_subnets --run runs/T --max-latency-ms 20 --max-macs 1.2G --batch-size 1 --threads 1\n"
    "  ./search_subnets --weights supernet-tiny.pth --config T --data imagenet:DIR --output runs/tiny\n"
    "  mpirun -n 4 ./search_subnets --run runs/T --max-params 6M    four processes share the candidates\n"
    "A killed search continues when the same command is given again.\n";

struct Flags {
  std::string run = "runs/fashion-mnist", weights, config, output;
  std::optional<int64_t> population;
  std::vector<std::string> compare;
  int64_t verify = 10;
  double rank_timeout = 600;
  bool no_report = false, tensorboard = false;
  std::vector<std::string> settings;
};

bool is_set(const std::vector<std::string>& settings, const std::string& key) {
  return std::any_of(settings.begin(), settings.end(),
                     [&](const std::string& s) { return s.rfind(key + "=", 0) == 0; });
}

// Another population keeps the configuration's shares of mutations and crossovers, unless those are set as well.
std::vector<std::string> with_population(std::vector<std::string> settings, const Config& base,
                                         const std::optional<int64_t>& population) {
  if (!population) return settings;
  const SearchOptions& options = base.search.options;
  const auto share = [&](const std::string& key, int64_t count) {
    if (!is_set(settings, key)) settings.push_back(concat(key, "=", count * *population / options.population));
  };
  settings.push_back(concat("SEARCH.population=", *population));
  share("SEARCH.mutations", options.mutations);
  share("SEARCH.crossovers", options.crossovers);
  return settings;
}

// Over 32-bit words.
uint64_t hash_words(const void* data, size_t bytes) {
  const unsigned char* at = static_cast<const unsigned char*>(data);
  uint64_t hash = kEmptyHash;
  for (size_t i = 0; i + 4 <= bytes; i += 4) {
    uint32_t word = 0;
    std::memcpy(&word, at + i, 4);
    hash = hash_on(hash, word);
  }
  return hash;
}

// What the scores of a log are of: these weights, used as this model, on these images. Scores of anything else are not
// taken from an old log.
std::string subject_of(const Config& config, const Supernet& supernet, const std::vector<int64_t>& images,
                       const std::string& data) {
  const ParameterArena& arena = supernet.parameters();
  const uint64_t weights = hash_words(arena.values(), static_cast<size_t>(arena.size()) * sizeof(float));
  const uint64_t list = hash_words(images.data(), images.size() * sizeof(int64_t));
  Config model_only;
  model_only.model = config.model;
  model_only.space = config.space;
  const std::string text = model_only.to_yaml() + "   ";
  return format("weights %016llx as model %016llx, held-out images %016llx (%zu) of ",
                static_cast<unsigned long long>(weights),
                static_cast<unsigned long long>(hash_words(text.data(), text.size())),
                static_cast<unsigned long long>(list), images.size()) +
         data;
}

// The costs that candidates have are part of what a log is of: latencies are measured.
std::string text_of(const CostTable& costs) {
  std::string text;
  for (size_t width = 0; width < costs.space().embed_dim.size(); ++width) {
    for (const int64_t cost : costs.stem(width)) text += concat(cost, " ");
    for (const Costs& block : costs.blocks(width)) {
      for (const int64_t cost : block) text += concat(cost, " ");
    }
  }
  text += "   ";
  return format(", costs %016llx", static_cast<unsigned long long>(hash_words(text.data(), text.size())));
}

// Images that the weights were trained on must not rank: the split is the training's.
void check_split(const DataConfig& trained, const DataConfig& wanted) {
  const std::string list = trained.split.empty() ? "" : concat(", DATA.split=", trained.split);
  CHECK(trained.held_out == wanted.held_out && trained.split_seed == wanted.split_seed && trained.split == wanted.split,
        "the weights were trained with DATA.held_out=", trained.held_out, ", DATA.split_seed=", trained.split_seed,
        list, "; a search must hold out the same images");
}

// Everything that a search works with.
struct Workplace {
  const Flags& flags;
  Communicator& ranks;
  const LoadedModel& model;
  const RunDirectory& run;
  const CostTable& costs;
  Ranking& ranking;
  int64_t images;
  DeviceKind device;
};

// Of several processes the first measures, while the others are idle; then they read what it found.
CostTable costs_of(const Config& config, const Supernet& supernet, const std::string& latencies, Communicator& ranks) {
  CostTable costs = model_costs(config.model, config.space, config.search.batch_size);
  if (!config.search.options.needs_latency()) return costs;
  std::optional<Progress> progress;
  const LatencyProgress report = [&](int64_t done, int64_t total) {
    if (!progress) progress.emplace(total);
    progress->update(done, "measuring the latency of blocks");
    ranks.gather(0);
  };
  if (ranks.first()) {
    latency_table(latencies, supernet, config.space, config.search.batch_size, report);
    ranks.gather(1);
  } else {
    while (ranks.gather(0)[0] == 0) {
    }
  }
  return with_latency(costs, latency_table(latencies, supernet, config.space, config.search.batch_size, report));
}

// What the limits leave, before anything is scored.
std::vector<Range> report_feasible(const CostTable& costs, const SearchOptions& options) {
  const FeasibleSet feasible(costs, options.limits());
  std::string ranges;
  for (const Metric metric : kAllMetrics) {
    const Range range = feasible.range(metric);
    if (range.max > 0)
      ranges += concat("  ", name_of(metric), " ", show(metric, range.min), " to ", show(metric, range.max));
  }
  std::printf("%.6g of %.6g architectures meet the limits:%s\n", feasible.count(), costs.space().count(),
              ranges.c_str());
  std::vector<Range> out;
  for (const Metric metric : options.objective_metrics()) out.push_back(feasible.range(metric));
  return out;
}

std::unique_ptr<SearchBoard> board_of(const Workplace& place, const std::string& name) {
  if (!place.flags.tensorboard || !place.ranks.first()) return nullptr;
  const auto words = environment(place.device, place.ranks.size());
  return std::make_unique<SearchBoard>(place.run.path(), name, board_texts(place.model.config, words));
}

// `name` is the log's, without its ending.
SearchResult run_search(const Workplace& place, const SearchOptions& options, const std::string& name, SearchLog& log) {
  const std::unique_ptr<SearchBoard> board = board_of(place, name);
  Progress progress(options.population * options.generations);
  double best = 0;
  const auto report = [&](const Candidate& candidate, int64_t done, int64_t) {
    if (board != nullptr) board->follow();
    if (!candidate.stopped) best = std::max(best, candidate.accuracy);
    progress.update(
        done, format("%s  generation %lld  candidate %lld  top-1 %s%.2f %%  best %.2f %%", options.algorithm.c_str(),
                     static_cast<long long>(candidate.generation), static_cast<long long>(done),
                     candidate.stopped ? "at most " : "", 100 * candidate.accuracy, 100 * best));
    return !place.ranking.stopped();
  };
  SearchResult result = search(place.costs, options, place.ranking, log, report);
  if (board != nullptr && result.finished) board->finish();
  return result;
}

// The first rank writes the log. The others read what it has when the search begins, all at the same candidate.
SearchLog open_log(const Workplace& place, const SearchOptions& options, const std::string& name) {
  const std::string path = place.run.file(name + ".jsonl");
  if (place.ranks.size() == 1) return SearchLog(path);
  if (place.ranks.first()) SearchLog(path).open(place.costs.space(), options);  // begun, and without a torn line
  place.ranks.gather(0);
  return SearchLog(path, place.ranks.first() ? SearchLog::Access::write : SearchLog::Access::read);
}

// The front's subnets, evenly spread, filled up with random ones, cut out and timed.
void verify_latency(const Workplace& place, const SearchOptions& options, const std::vector<Candidate>& front) {
  std::vector<Architecture> subnets;
  const size_t wanted = static_cast<size_t>(place.flags.verify), taken = std::min(wanted, front.size());
  for (size_t i = 0; i < taken; ++i) subnets.push_back(front[i * front.size() / taken].architecture);
  const FeasibleSet feasible(place.costs, options.limits());
  Rng rng(options.seed, Stream::search, ~uint32_t{0});
  while (subnets.size() < wanted) subnets.push_back(feasible.sample(rng));
  std::vector<double> predicted, measured;
  for (const Architecture& a : subnets)
    predicted.push_back(static_cast<double>(get(place.costs.of(a), Metric::latency)));
  for (const int64_t ns : measure_subnets(*place.model.supernet, subnets, place.model.config.search.batch_size))
    measured.push_back(static_cast<double>(ns));
  std::printf(
      "latency of %zu subnets cut out (%zu of the front): %s to %s measured; prediction's Spearman %.4f, mean relative "
      "error %.2f %%\n",
      subnets.size(), taken,
      show(Metric::latency, static_cast<int64_t>(*std::min_element(measured.begin(), measured.end()))).c_str(),
      show(Metric::latency, static_cast<int64_t>(*std::max_element(measured.begin(), measured.end()))).c_str(),
      rank_correlation(predicted, measured), 100 * mean_relative_error(predicted, measured));
}

// The test images are read here, once: how many were read before and after is recorded with the result, and a search
// that has this record does not read them again.
Evaluation final_test(const Workplace& place, const SearchResult& result, const DataSource& source,
                      const CountingDataset& test_images, SearchLog& log) {
  Evaluation test;
  if (!log.end().empty()) {
    const nlohmann::json found = nlohmann::json::parse(log.end()).value("test", nlohmann::json::object());
    test.images = found.value("images", int64_t{0});
    test.top1 = found.value("top1", int64_t{0});
    test.top5 = found.value("top5", int64_t{0});
    test.loss = found.value("loss", 0.0);
    return test;
  }
  const int64_t before = test_images.read();
  const EvaluationSet set(source.test, source, all_indices(*source.test), place.model.config.model.image_size,
                          EvaluationSet::Keep::no);
  test = evaluate(*place.model.supernet, result.best.architecture, set, kEvaluationBatch, &place.ranks);
  int64_t reads = 0;
  for (const int64_t own : place.ranks.gather(test_images.read() - before)) reads += own;
  int64_t held_out = 0;
  for (const Candidate& candidate : result.candidates) held_out += candidate.images;
  log.record_end(nlohmann::json({{"candidates", result.candidates.size()},
                                 {"held_out_images_scored", held_out},
                                 {"test",
                                  {{"images", test.images},
                                   {"reads_before", before},
                                   {"reads", reads},
                                   {"top1", test.top1},
                                   {"top5", test.top5},
                                   {"loss", test.loss}}}})
                     .dump());
  return test;
}

// Other algorithms with as many candidates, each with a log of its own. Returns false when it was stopped.
bool compare(const Workplace& place, SearchOptions options, const std::vector<Range>& ranges, SearchResult result) {
  std::vector<NamedResult> searches = {{options.algorithm, std::move(result)}};
  options.predictor = "none";
  for (const std::string& name : place.flags.compare) {
    options.algorithm = name;
    SearchLog log = open_log(place, options, "search-" + name);
    searches.push_back({name, run_search(place, options, "search-" + name, log)});
    if (!searches.back().result.finished) return false;
  }
  std::printf("%s", comparison_table(searches, options.objective_metrics(), ranges).c_str());
  return true;
}

void report_stop(size_t candidates) {
  std::printf("stopped after %zu candidates; give the same command again to continue\n", candidates);
}

void write_results(const Workplace& place, const SearchResult& result, const std::vector<Candidate>& front) {
  write_file_atomically(place.run.file("best_architecture.json"), result.best.architecture.to_json() + "\n");
  write_file_atomically(place.run.file("front.json"), front_json(front));
  if (!place.run.has("config.yaml")) write_file_atomically(place.run.config_file(), place.model.config.to_yaml());
}

void search_run(const Workplace& place, const SearchOptions& options, const DataSource& source,
                const CountingDataset& test_images) {
  const std::vector<Range> ranges = report_feasible(place.costs, options);
  SearchLog log = open_log(place, options, "search");
  const SearchResult result = run_search(place, options, "search", log);
  if (!result.finished) return report_stop(result.candidates.size());
  const std::vector<Candidate> front = front_of(result.candidates, options.objective_metrics());
  if (place.ranks.first()) write_results(place, result, front);
  report_work(result, place.ranking.work(), place.images);
  if (options.predictor != "none") report_predictions(result);
  std::printf("front of %zu in %s\n%s", front.size(), place.run.file("front.json").c_str(),
              front_table(front, options.objective_metrics(), kFrontRows).c_str());
  if (!place.flags.compare.empty() && !compare(place, options, ranges, result))
    return report_stop(result.candidates.size());
  const Evaluation test = final_test(place, result, source, test_images, log);
  if (options.needs_latency() && place.flags.verify > 0 && place.ranks.first()) verify_latency(place, options, front);
  report_best(result, place.images);
  std::printf("test  %s\n", test.str().c_str());
}

// Refuses limits that nothing meets, and comparisons that cannot run, before images are decoded.
void check_options(const Flags& flags, const SearchOptions& options, const CostTable& costs) {
  FeasibleSet(costs, options.limits());
  for (const std::string& name : flags.compare) {
    CHECK(name != options.algorithm, "--compare ", name, " is the search's own algorithm: name another");
    SearchOptions other = options;
    other.algorithm = name, other.predictor = "none";
    other.validate(costs.space());
  }
}

void run_program(const Flags& flags, DeviceKind device) {
  CHECK(flags.weights.empty() || !flags.output.empty(), "--weights needs --output: the directory to write to");
  const std::string weights = flags.weights.empty() ? flags.run + "/checkpoint.safetensors" : flags.weights;
  CHECK(!flags.weights.empty() || std::filesystem::exists(weights), "there is no trained run in ", flags.run,
        "; train one with ./train_supernet, or name another with --run");
  const Config base = config_of(weights, flags.config);
  const LoadedModel model =
      load_model(weights, flags.config, device, with_population(flags.settings, base, flags.population));
  CHECK(!model.config.subnet, weights, " holds one architecture's own weights: there is nothing to search");
  // What the weights say nothing about is the user's to say.
  if (flags.config.empty() || !model.config.data.recorded_split.empty()) check_split(base.data, model.config.data);
  const std::unique_ptr<Communicator> ranks = join_ranks(flags.rank_timeout);
  CHECK(ranks->size() == 1 || device == DeviceKind::cpu,
        "several processes search on processors alone: use --device cpu");
  const RunDirectory run(flags.output.empty() ? flags.run : flags.output,
                         ranks->first() ? RunDirectory::Access::write : RunDirectory::Access::read);
  DataSource source = open_data_for(model.config);
  const auto test_images = std::make_shared<CountingDataset>(source.test);
  source.test = test_images;
  const std::vector<int64_t> images = ranking_images(model.config, source);
  const CostTable costs = costs_of(model.config, *model.supernet, run.file("latency.json"), *ranks);
  check_options(flags, model.config.search.options, costs);
  const EvaluationSet set(source.train, source, images, model.config.model.image_size, EvaluationSet::Keep::yes);
  Ranking ranking(*model.supernet, set, kGroup, *ranks);
  SearchOptions options = model.config.search.options;
  options.subject = subject_of(model.config, *model.supernet, images, source.spec) + text_of(costs);
  search_run({flags, *ranks, model, run, costs, ranking, set.size(), device}, options, source, *test_images);
  if (!interrupted() && !flags.no_report && ranks->first()) report_run(run.path(), weights);
  if (!interrupted())
    std::printf("repeat it: ./evaluate_subnet --weights %s --architecture %s%s --data %s\n", weights.c_str(),
                run.file("best_architecture.json").c_str(),
                flags.config.empty() ? "" : (" --config " + flags.config).c_str(), source.spec.c_str());
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Searches a trained supernet for its most accurate subnet, with inherited weights.", kExamples);
  Flags flags;
  CLI::App& app = program.app();
  CLI::Option* run = app.add_option("--run", flags.run, "directory of a training run")->capture_default_str();
  app.add_option("--weights", flags.weights, "a weights file, .safetensors or .pth, instead of a run")->excludes(run);
  app.add_option("--config", flags.config, "its configuration, where the weights carry none");
  app.add_option("--output", flags.output, "directory for search.jsonl and best_architecture.json (default the run's)");
  program.setting("--data", "DATA.spec", "data set, such as fashion-mnist:DIR");
  program.setting("--algorithm", "SEARCH.algorithm", "evolution, random or nsga2");
  app.add_option("--compare", flags.compare, "algorithms to search with as well, with as many candidates")
      ->delimiter(',')
      ->check(CLI::IsMember({"evolution", "random", "nsga2"}));
  program.setting("--objectives", "SEARCH.objectives",
                  "costs of the front, beside accuracy: params, macs, activation_bytes, latency");
  program.number_setting("--max-params", "SEARCH.max_params", "most parameters, inclusive");
  program.number_setting("--min-params", "SEARCH.min_params", "fewest parameters, inclusive");
  program.number_setting("--max-macs", "SEARCH.max_macs", "most multiply-accumulates of an image, inclusive");
  program.number_setting("--min-macs", "SEARCH.min_macs", "fewest multiply-accumulates, inclusive");
  program.number_setting("--max-activation-memory", "SEARCH.max_activation_bytes",
                         "most bytes of activations of a training step at the batch size, inclusive");
  program.number_setting("--min-activation-memory", "SEARCH.min_activation_bytes", "fewest such bytes, inclusive");
  program.setting("--max-latency-ms", "SEARCH.max_latency_ms",
                  "longest forward pass on this device at the batch size, from measured blocks");
  program.setting("--min-latency-ms", "SEARCH.min_latency_ms", "shortest forward pass");
  program.number_setting("--batch-size", "SEARCH.batch_size", "images of activation memory and latency");
  program.number("--verify", flags.verify, "subnets cut out and timed at the end, where latency counts")
      ->capture_default_str();
  program.number_setting("--generations", "SEARCH.generations", "generations");
  program.number_setting("--images", "SEARCH.images", "held-out images that rank the candidates");
  program.number("--population", flags.population, "candidates of a generation")->check(CLI::PositiveNumber);
  program.rank_timeout_option(flags.rank_timeout);
  app.add_flag("--no-report", flags.no_report, "write no page about the search (report.html) at the end");
  program.settings_option();
  program.tensorboard_option();
  return program.run(argc, argv, [&] {
    flags.settings = program.settings();
    flags.tensorboard = program.tensorboard();
    if (program.seed()) flags.settings.push_back(concat("SEARCH.seed=", *program.seed()));
    watch_for_interrupts();
    run_program(flags, program.device());
  });
}
