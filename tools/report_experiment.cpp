// Turns finished runs into a page of Markdown and a plot: what the scripts in tools/experiments end with.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "nn/cost.h"
#include "search/front.h"
#include "tools/common/cli.h"
#include "tools/common/compare_searches.h"
#include "tools/common/correlation.h"
#include "tools/common/experiment.h"
#include "tools/common/plot.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./report_experiment curves --output docs/results/sharing entangled=runs/e-0,runs/e-1 "
    "classical=runs/c-0,runs/c-1\n"
    "  ./report_experiment draw --run runs/fashion-mnist --count 9 --output runs/subnets\n"
    "  ./report_experiment subnets --output docs/results/inheritance --work runs/subnets --count 9\n"
    "  ./report_experiment front --output docs/results/front --run runs/fashion-mnist\n"
    "  ./report_experiment searches --output docs/results/search evolution=runs/e-0,runs/e-1 "
    "random=runs/r-0,runs/r-1\n";

struct Flags {
  std::string output, title, note, run, work;
  std::vector<std::string> groups;
  int64_t random = 20, images = 0, count = 9, seed = 0;
};

// The runs of one label: seeds of one configuration.
struct Group {
  std::string label;
  std::vector<RunRecord> runs;
  std::vector<std::vector<double>>
      test;  // of each run: top-1 in per cent of the smallest, middle, largest, random ones
};

double percent(const Evaluation& evaluation) { return 100 * evaluation.accuracy(); }
double millions(int64_t count) { return 1e-6 * static_cast<double>(count); }

// LABEL=DIR,DIR
SearchGroup parse_group(const std::string& text) {
  const size_t equals = text.find('=');
  CHECK(equals != std::string::npos && equals > 0, "'", text, "' is not of the form LABEL=DIR or LABEL=DIR,DIR");
  SearchGroup group = {text.substr(0, equals), {}};
  std::istringstream directories(text.substr(equals + 1));
  for (std::string one; std::getline(directories, one, ',');) group.directories.push_back(one);
  CHECK(!group.directories.empty(), "'", text, "' names no run");
  return group;
}

Group trainings_of(const std::string& text) {
  const SearchGroup named = parse_group(text);
  Group group = {named.label, {}, {}};
  for (const std::string& directory : named.directories) group.runs.push_back(read_training(directory));
  return group;
}

// Writes OUTPUT.md, which shows OUTPUT.svg, and that.
void write_page(const Flags& flags, const std::string& text, const std::vector<Plot>& panels) {
  const std::filesystem::path output = flags.output;
  if (output.has_parent_path()) std::filesystem::create_directories(output.parent_path());
  const std::string name = output.filename().string();
  std::string page = "# " + (flags.title.empty() ? name : flags.title) + "\n\n";
  if (!flags.note.empty()) page += flags.note + "\n\n";
  write_file_atomically(flags.output + ".svg", plot_file(panels));
  write_file_atomically(flags.output + ".md", page + text + "\n![" + name + "](" + name + ".svg)\n");
  std::printf("wrote %s.md and %s.svg\n", flags.output.c_str(), flags.output.c_str());
}

// Smallest, middle and largest, then random ones: the same for every run of a space.
std::vector<Architecture> subnets_to_test(const Config& config, int64_t random) {
  std::vector<Architecture> subnets = {config.space.smallest(), config.space.middle(), config.space.largest()};
  Rng rng(0, Stream::search);
  for (int64_t i = 0; i < random; ++i) subnets.push_back(config.space.sample(rng));
  return subnets;
}

void evaluate_group(Group& group, const Flags& flags, DeviceKind device) {
  for (const RunRecord& run : group.runs) {
    const LoadedModel model = load_model(run.path + "/checkpoint.safetensors", "", device);
    const DataSource source = open_data_for(model.config);
    const EvaluationSet set = test_images(model.config, source, flags.images);
    group.test.emplace_back();
    for (const Architecture& a : subnets_to_test(model.config, flags.random)) {
      group.test.back().push_back(percent(evaluate(*model.supernet, a, set)));
    }
    std::printf("evaluated %s\n", run.path.c_str());
    std::fflush(stdout);
  }
}

// One value of each run.
template <class Value>
std::vector<double> of_runs(const Group& group, const Value& value) {
  std::vector<double> values;
  for (size_t i = 0; i < group.runs.size(); ++i) values.push_back(value(i));
  return values;
}

std::string curves_row(const Group& group) {
  const RunRecord& first = group.runs[0];
  const int64_t params = supernet_params(first.config.model);
  const auto tested = [&](size_t subnet) { return of_runs(group, [&](size_t i) { return group.test[i][subnet]; }); };
  const auto run = [&](size_t i) -> const RunRecord& { return group.runs[i]; };
  const std::vector<double> passes = of_runs(group, [&](size_t i) { return run(i).epochs.back().passes; });
  const std::vector<double> minutes = of_runs(group, [&](size_t i) { return run(i).minutes; });
  const std::vector<double> peak = of_runs(group, [&](size_t i) { return millions(run(i).peak_memory); });
  std::string random = "";
  if (group.test[0].size() > 3) {
    random = spread_text(of_runs(group,
                                 [&](size_t i) {
                                   double sum = 0;
                                   for (size_t k = 3; k < group.test[i].size(); ++k) sum += group.test[i][k];
                                   return sum / static_cast<double>(group.test[i].size() - 3);
                                 }),
                         2);
  }
  return concat("| ", group.label, " | ", group.runs.size(), " | ", first.config.train.epochs, " | ",
                spread_text(passes, 1), " | ", format("%.3f", millions(params)), " | ",
                format("%.1f", 16 * millions(params)), " | ", spread_text(peak, 1), " | ", spread_text(minutes, 1),
                " | ", spread_text(tested(0), 2), " | ", spread_text(tested(1), 2), " | ", spread_text(tested(2), 2),
                " | ", random, " |\n");
}

// The mean over a group's runs, epoch by epoch. subnet: of held_out; -1: the loss.
PlotSeries curve_of(const Group& group, int subnet, int colour) {
  PlotSeries series = {group.label, colour};
  for (size_t epoch = 0; epoch < group.runs[0].epochs.size(); ++epoch) {
    double sum = 0;
    for (const RunRecord& run : group.runs) {
      CHECK(run.epochs.size() == group.runs[0].epochs.size(), run.path, " has another number of epochs than ",
            group.runs[0].path, ": the seeds of a label differ in nothing else");
      const EpochRecord& record = run.epochs[epoch];
      if (subnet >= 0 && record.held_out.empty()) return {group.label, colour};
      sum += subnet < 0 ? record.loss : 100 * record.held_out[static_cast<size_t>(subnet)];
    }
    series.points.push_back({group.runs[0].epochs[epoch].passes, sum / static_cast<double>(group.runs.size())});
  }
  return series;
}

// A colour for each group, the same in every panel.
std::vector<PlotSeries> curves_of(const std::vector<Group>& groups, int subnet) {
  std::vector<PlotSeries> curves;
  for (size_t i = 0; i < groups.size(); ++i) curves.push_back(curve_of(groups[i], subnet, static_cast<int>(i)));
  return curves;
}

void report_curves(const Flags& flags, DeviceKind device) {
  std::vector<Group> groups;
  for (const std::string& text : flags.groups) groups.push_back(trainings_of(text));
  for (Group& group : groups) evaluate_group(group, flags, device);
  std::string text = concat(
      "Top-1 in per cent on ", flags.images > 0 ? concat(flags.images, " of the test images") : "all test images",
      "; of several seeds the mean, and from the lowest to the highest. *Passes*: over the training images, each "
      "subnet that a "
      "step trains counted. *State*: weights, gradients and two moments. *Peak*: of the allocator in any step, state "
      "included. *Random*: mean of ",
      flags.random, " random subnets, the same for every run.\n\n",
      "| | seeds | epochs | passes | supernet, M parameters | state, MB | peak, MB | minutes of steps | smallest | "
      "middle | "
      "largest | random |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Group& group : groups) text += curves_row(group);
  std::vector<Plot> panels;
  const char* const names[] = {"smallest", "middle", "largest"};
  for (int subnet = 0; subnet < 3; ++subnet) {
    Plot panel = {concat(names[subnet], " subnet"), {"passes over the training images"}, {"held-out top-1, %"}, {}};
    panel.series = curves_of(groups, subnet);
    const auto has_points = [](const PlotSeries& series) { return !series.points.empty(); };
    if (std::any_of(panel.series.begin(), panel.series.end(), has_points)) panels.push_back(panel);
  }
  panels.push_back({"training loss", {"passes over the training images"}, {"mean of an epoch"}, curves_of(groups, -1)});
  write_page(flags, text, panels);
}

std::string subnet_file(const std::string& work, int64_t index) { return concat(work, "/subnet-", index, ".json"); }

void draw_subnets(const Flags& flags) {
  const Config config = load_config(flags.run + "/config.yaml");
  std::filesystem::create_directories(flags.output);
  const std::vector<Architecture> subnets =
      spread_architectures(config, flags.count, static_cast<uint64_t>(flags.seed));
  for (size_t i = 0; i < subnets.size(); ++i) {
    write_file_atomically(subnet_file(flags.output, static_cast<int64_t>(i)), subnets[i].to_json() + "\n");
  }
  std::printf("wrote %zu architectures to %s\n", subnets.size(), flags.output.c_str());
}

// Top-1 in per cent of one subnet with three kinds of weights.
struct ThreeWays {
  Architecture architecture;
  int64_t params;
  double top1[3];
};
const char* const kWays[] = {"inherited", "finetuned", "retrained"};

double top1_of_run(const std::string& path, const Flags& flags, DeviceKind device) {
  const LoadedModel model = load_model(path + "/checkpoint.safetensors", "", device);
  const DataSource source = open_data_for(model.config);
  return percent(evaluate(*model.supernet, model.config.model.dense, test_images(model.config, source, flags.images)));
}

std::vector<ThreeWays> evaluate_three_ways(const Flags& flags, DeviceKind device) {
  const LoadedModel supernet = load_model(flags.work + "/supernet/checkpoint.safetensors", "", device);
  const DataSource source = open_data_for(supernet.config);
  const EvaluationSet set = test_images(supernet.config, source, flags.images);
  std::vector<ThreeWays> rows;
  for (int64_t i = 0; i < flags.count; ++i) {
    const Architecture a = resolve_architecture(subnet_file(flags.work, i), supernet.config);
    rows.push_back({a,
                    cost_of(supernet.config.model, a).params,
                    {percent(evaluate(*supernet.supernet, a, set)),
                     top1_of_run(concat(flags.work, "/finetuned-", i), flags, device),
                     top1_of_run(concat(flags.work, "/retrained-", i), flags, device)}});
    std::printf("evaluated subnet %lld of %lld\n", static_cast<long long>(i + 1), static_cast<long long>(flags.count));
    std::fflush(stdout);
  }
  return rows;
}

void report_subnets(const Flags& flags, DeviceKind device) {
  const std::vector<ThreeWays> rows = evaluate_three_ways(flags, device);
  std::string text =
      "Top-1 in per cent on test images.\n\n| parameters | inherited | finetuned | retrained | architecture |\n"
      "|---|---|---|---|---|\n";
  std::vector<double> values[3];
  Plot panel = {"one subnet, three ways to its weights", {"parameters, M"}, {"test top-1, %"}, {}};
  for (int way = 0; way < 3; ++way) panel.series.push_back({kWays[way], way});
  for (const ThreeWays& row : rows) {
    text += concat("| ", row.params);
    for (size_t way = 0; way < 3; ++way) {
      text += format(" | %.2f", row.top1[way]);
      values[way].push_back(row.top1[way]);
      panel.series[way].points.push_back({millions(row.params), row.top1[way]});
    }
    text += concat(" | `", row.architecture.to_json(), "` |\n");
  }
  std::vector<double> params;
  for (const ThreeWays& row : rows) params.push_back(static_cast<double>(row.params));
  text += "\nKendall's tau-b:";
  std::string at_size = "\nAt matched size (partial tau, given the number of parameters):";
  for (size_t a = 0; a < 3; ++a) {
    for (size_t b = a + 1; b < 3; ++b) {
      const std::string pair = concat(a + b == 1 ? " " : ", ", kWays[a], " and ", kWays[b], " ");
      text += pair + format("%.3f", kendall_tau(values[a], values[b]));
      at_size += pair + format("%.3f", partial_kendall_tau(values[a], values[b], params));
    }
  }
  write_page(flags, text + ".\n" + at_size + ".\n", {panel});
}

void report_front(const Flags& flags) {
  const std::vector<Candidate> candidates = read_candidates(flags.run + "/search.jsonl");
  const std::vector<Candidate> front = front_of(candidates, {Metric::params});
  Plot panel = {"subnets of one training", {"parameters, M"}, {"held-out top-1, %"}, {}};
  const auto series_of = [](const char* name, int colour, PlotSeries::Form form, const std::vector<Candidate>& some) {
    PlotSeries series = {name, colour, form};
    for (const Candidate& c : some) series.points.push_back({millions(get(c.costs, Metric::params)), 100 * c.accuracy});
    return series;
  };
  panel.series = {series_of("every subnet scored", 0, PlotSeries::Form::faint, candidates),
                  series_of("the front", 1, PlotSeries::Form::line, front)};
  std::string text = concat(candidates.size(), " subnets with inherited weights, each scored on ", candidates[0].images,
                            " held-out images; ", front.size(),
                            " of them make the front: no other is as small and as accurate.\n\n"
                            "| parameters | top-1, % | architecture |\n|---|---|---|\n");
  for (const Candidate& c : front) {
    text += concat("| ", get(c.costs, Metric::params), " | ", format("%.2f", 100 * c.accuracy), " | `",
                   c.architecture.to_json(), "` |\n");
  }
  write_page(flags, text, {panel});
}

void report_searches(const Flags& flags) {
  std::vector<SearchGroup> groups;
  for (const std::string& text : flags.groups) groups.push_back(parse_group(text));
  const SearchComparison comparison = compare_searches(groups);
  write_page(flags, comparison.text, comparison.panels);
}

CLI::App* page_command(CLI::App& app, const std::string& name, const std::string& help, Flags& flags) {
  CLI::App* command = app.add_subcommand(name, help)->fallthrough();
  command->add_option("--output", flags.output, "without ending: .md and .svg are written")->required();
  command->add_option("--title", flags.title, "of the page");
  command->add_option("--note", flags.note, "a paragraph below the title: how the runs were made");
  return command;
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Reports finished runs as a Markdown page and a plot (see tools/experiments).", kExamples);
  Flags flags;
  CLI::App& app = program.app();
  app.require_subcommand(1);
  program.number("--images", flags.images, "test images, evenly spread; 0 (default): all");
  CLI::App* curves = page_command(app, "curves", "supernet trainings side by side, over seeds", flags);
  curves->add_option("RUNS", flags.groups, "LABEL=DIR, or LABEL=DIR,DIR for several seeds")->required();
  curves->add_option("--random", flags.random, "random subnets to evaluate (default 20)")
      ->check(CLI::NonNegativeNumber);
  CLI::App* draw = app.add_subcommand("draw", "architectures spread over the sizes of a run's space")->fallthrough();
  draw->add_option("--run", flags.run, "the run")->required();
  draw->add_option("--output", flags.output, "directory for subnet-0.json, ...")->required();
  CLI::App* subnets = page_command(app, "subnets", "inherited against finetuned against retrained weights", flags);
  subnets->add_option("--work", flags.work, "directory with supernet, subnet-I.json, finetuned-I and retrained-I")
      ->required();
  for (CLI::App* command : {draw, subnets}) command->add_option("--count", flags.count, "subnets (default 9)");
  CLI::App* front = page_command(app, "front", "every subnet that a search scored, and the front", flags);
  front->add_option("--run", flags.run, "directory with search.jsonl")->required();
  CLI::App* searches = page_command(app, "searches", "searches of one supernet side by side, over seeds", flags);
  searches
      ->add_option("SEARCHES", flags.groups, "LABEL=DIR, or LABEL=DIR,DIR for several seeds; all compare with the last")
      ->required();
  return program.run(argc, argv, [&] {
    flags.seed = static_cast<int64_t>(program.seed().value_or(0));
    if (curves->parsed()) report_curves(flags, program.device());
    if (draw->parsed()) draw_subnets(flags);
    if (subnets->parsed()) report_subnets(flags, program.device());
    if (front->parsed()) report_front(flags);
    if (searches->parsed()) report_searches(flags);
  });
}
