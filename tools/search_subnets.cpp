// Searches a trained supernet for its best subnet under limits, with inherited weights.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "nn/cost.h"
#include "search/search.h"
#include "tools/common/cli.h"
#include "tools/common/evaluate.h"
#include "tools/common/models.h"
#include "tools/common/progress.h"
#include "tools/common/run_directory.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./search_subnets --max-params 600k                the run in runs/fashion-mnist\n"
    "  ./search_subnets --run runs/T --max-params 6M --images 10k\n"
    "  ./search_subnets --run runs/T --max-params 6M --algorithm random --output runs/T-random\n"
    "  ./search_subnets --weights supernet-tiny.safetensors --config T --data imagenet:DIR --output runs/tiny\n"
    "A killed search continues when the same command is given again.\n";

struct Flags {
  std::string run = "runs/fashion-mnist", weights, config, output;
  std::optional<int64_t> population;
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

// 64-bit FNV-1a over 32-bit words.
uint64_t hash_words(const void* data, size_t bytes) {
  const unsigned char* at = static_cast<const unsigned char*>(data);
  uint64_t hash = 14695981039346656037ull;
  for (size_t i = 0; i + 4 <= bytes; i += 4) {
    uint32_t word = 0;
    std::memcpy(&word, at + i, 4);
    hash = (hash ^ word) * 1099511628211ull;
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

// Images that the weights were trained on must not rank: the split is the training's.
void check_split(const DataConfig& trained, const DataConfig& wanted) {
  CHECK(trained.held_out == wanted.held_out && trained.split_seed == wanted.split_seed,
        "the weights were trained with DATA.held_out=", trained.held_out, " and DATA.split_seed=", trained.split_seed,
        "; a search must hold out the same images");
}

SearchResult run_search(const Config& config, const Supernet& supernet, const EvaluationSet& ranking,
                        const std::string& log) {
  const auto fitness = [&](const Architecture& a) { return evaluate(supernet, a, ranking).accuracy(); };
  const auto params = [&](const Architecture& a) { return cost_of(config.model, a).params; };
  const int64_t planned = config.search.options.population * config.search.options.generations;
  Progress progress(planned);
  double best = 0;
  const auto report = [&](const Candidate& candidate, int64_t done, int64_t) {
    best = std::max(best, candidate.accuracy);
    progress.update(done, format("generation %lld  candidate %lld  top-1 %.2f %%  best %.2f %%",
                                 static_cast<long long>(candidate.generation), static_cast<long long>(done),
                                 100 * candidate.accuracy, 100 * best));
    return !interrupted();
  };
  return search(config.space, config.search.options, fitness, params, log, report);
}

void report_best(const SearchResult& result, int64_t images) {
  const Candidate& best = result.best;
  std::printf("best of %zu: top-1 %.2f %% on %lld held-out images, %lld parameters, generation %lld\n%s\n",
              result.candidates.size(), 100 * best.accuracy, static_cast<long long>(images),
              static_cast<long long>(best.params), static_cast<long long>(best.generation),
              best.architecture.to_json().c_str());
}

void run_program(const Flags& flags, DeviceKind device) {
  CHECK(flags.weights.empty() || !flags.output.empty(), "--weights needs --output: the directory to write to");
  const std::string weights = flags.weights.empty() ? flags.run + "/checkpoint.safetensors" : flags.weights;
  CHECK(!flags.weights.empty() || std::filesystem::exists(weights), "there is no trained run in ", flags.run,
        "; train one with ./train_supernet, or name another with --run");
  const Config base = config_of(weights, flags.config);
  const LoadedModel model =
      load_model(weights, flags.config, device, with_population(flags.settings, base, flags.population));
  check_split(base.data, model.config.data);
  const RunDirectory run(flags.output.empty() ? flags.run : flags.output);
  const DataSource source = open_data_for(model.config);
  const std::vector<int64_t> images = ranking_images(model.config, source);
  const EvaluationSet ranking(source.train, source, images, model.config.model.image_size, EvaluationSet::Keep::yes);
  Config config = model.config;
  config.search.options.subject = subject_of(config, *model.supernet, images, source.spec);
  const SearchResult result = run_search(config, *model.supernet, ranking, run.file("search.jsonl"));
  if (interrupted()) {
    std::printf("stopped after %zu candidates; give the same command again to continue\n", result.candidates.size());
    return;
  }
  const std::string best = run.file("best_architecture.json");
  write_file_atomically(best, result.best.architecture.to_json() + "\n");
  if (!run.has("config.yaml")) write_file_atomically(run.config_file(), model.config.to_yaml());
  report_best(result, ranking.size());
  const EvaluationSet test(source.test, source, all_indices(*source.test), model.config.model.image_size,
                           EvaluationSet::Keep::no);
  std::printf("test  %s\n", evaluate(*model.supernet, result.best.architecture, test).str().c_str());
  std::printf("repeat it: ./evaluate_subnet --weights %s --architecture %s%s --data %s\n", weights.c_str(),
              best.c_str(), flags.config.empty() ? "" : (" --config " + flags.config).c_str(), source.spec.c_str());
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Searches a trained supernet for its most accurate subnet, with inherited weights.", kExamples);
  Flags flags;
  CLI::App& app = program.app();
  CLI::Option* run = app.add_option("--run", flags.run, "directory of a training run")->capture_default_str();
  app.add_option("--weights", flags.weights, "a weights file, instead of a run")->excludes(run);
  app.add_option("--config", flags.config, "its configuration, where the weights carry none");
  app.add_option("--output", flags.output, "directory for search.jsonl and best_architecture.json (default the run's)");
  program.setting("--data", "DATA.spec", "data set, such as fashion-mnist:DIR");
  program.setting("--algorithm", "SEARCH.algorithm", "evolution or random");
  program.number_setting("--max-params", "SEARCH.max_params", "most parameters, inclusive");
  program.number_setting("--min-params", "SEARCH.min_params", "fewest parameters, inclusive");
  program.number_setting("--generations", "SEARCH.generations", "generations");
  program.number_setting("--images", "SEARCH.images", "held-out images that rank the candidates");
  program.number("--population", flags.population, "candidates of a generation")->check(CLI::PositiveNumber);
  program.settings_option();
  return program.run(argc, argv, [&] {
    flags.settings = program.settings();
    if (program.seed()) flags.settings.push_back(concat("SEARCH.seed=", *program.seed()));
    watch_for_interrupts();
    run_program(flags, program.device());
  });
}
