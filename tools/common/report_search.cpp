// What a search looked at, and how it got on.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "engine/check.h"
#include "nn/cost.h"
#include "search/front.h"
#include "tools/common/html.h"
#include "tools/common/progress.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

constexpr size_t kFrontRows = 40;

// Top-1 on ImageNet of the published subnets (Chen et al., arXiv 2107.00651), whose sizes are counted here.
struct PublishedPoint {
  const char* space;
  double top1, params, macs;
};

// That of a run's space; none when the space is none of the published ones.
std::optional<PublishedPoint> published_point(const RunData& run) {
  if (!run.config || run.config->model.num_classes != 1000) return std::nullopt;
  const SearchSpace& space = run.config->space;
  for (const auto& [name, top1] : {std::pair<const char*, double>{"T", 74.7}, {"S", 81.7}, {"B", 82.4}}) {
    const Config known = load_config(name);
    const SearchSpace& other = known.space;
    if (other.depth != space.depth || other.embed_dim != space.embed_dim || other.num_heads != space.num_heads ||
        other.mlp_ratio != space.mlp_ratio)
      continue;
    const Cost cost = cost_of(known.model, known.retrain);
    return PublishedPoint{name, top1, static_cast<double>(cost.params), static_cast<double>(cost.macs)};
  }
  return std::nullopt;
}

const char* axis_of(Metric metric) {
  const char* words[] = {"parameters", "multiply-accumulates", "activations, MB", "latency, ms"};
  return words[static_cast<size_t>(metric)];
}

double unit_of(Metric metric) { return metric == Metric::latency || metric == Metric::activation_bytes ? 1e6 : 1; }

double value_of(const Candidate& candidate, Metric metric) {
  return static_cast<double>(get(candidate.costs, metric)) / unit_of(metric);
}

std::string title_of(const Candidate& candidate) {
  return concat(candidate.stopped ? "at most " : "", percent(candidate.accuracy), ", ",
                grouped(get(candidate.costs, Metric::params)), " parameters: ", describe(candidate.architecture));
}

// The metrics worth a plot: parameters and multiply-accumulates, objectives, and what is limited.
std::vector<Metric> plotted_metrics(const SearchRecord& search) {
  std::vector<Metric> objectives;
  try {
    objectives = search.options.objective_metrics();
  } catch (const Error&) {  // a header that this program did not write
  }
  const CostLimits limits = search.options.limits();
  std::vector<Metric> metrics;
  for (const Metric metric : kAllMetrics) {
    const bool always = metric == Metric::params || metric == Metric::macs;
    const bool wanted =
        std::count(objectives.begin(), objectives.end(), metric) > 0 || limits[static_cast<size_t>(metric)].bounded();
    const bool known = std::any_of(search.candidates.begin(), search.candidates.end(),
                                   [&](const Candidate& c) { return get(c.costs, metric) > 0; });
    if (known && (always || wanted)) metrics.push_back(metric);
  }
  return metrics;
}

std::vector<PlotLimit> limit_lines(const SearchRecord& search, Metric metric) {
  const Limit limit = search.options.limits()[static_cast<size_t>(metric)];
  std::vector<PlotLimit> lines;
  const auto add = [&](int64_t value, const char* word) {
    const double x = static_cast<double>(value) / unit_of(metric);
    lines.push_back({x, concat(word, " ", short_number(x))});
  };
  if (limit.min > 0) add(limit.min, "at least");
  if (limit.max < std::numeric_limits<int64_t>::max()) add(limit.max, "at most");
  return lines;
}

// One series of all candidates that were given up, one of those scored completely: alike in every chart.
template <class X>
std::pair<PlotSeries, PlotSeries> candidate_marks(const SearchRecord& search, const X& x) {
  PlotSeries bounds = {"given up: a bound", -1, PlotSeries::Form::hollow},
             scored = {"scored completely", -1, PlotSeries::Form::solid};
  for (const Candidate& candidate : search.candidates) {
    (candidate.stopped ? bounds : scored)
        .points.push_back({x(candidate), 100 * candidate.accuracy, "", title_of(candidate)});
  }
  return {bounds, scored};
}

void drop_empty(Plot& plot) {
  plot.series.erase(
      std::remove_if(plot.series.begin(), plot.series.end(), [](const PlotSeries& s) { return s.points.empty(); }),
      plot.series.end());
}

std::string cost_figure(const RunData& run, const SearchRecord& search, Metric metric) {
  using Form = PlotSeries::Form;
  auto [bounds, scored] = candidate_marks(search, [&](const Candidate& c) { return value_of(c, metric); });
  PlotSeries front = {"front", 2, Form::steps}, on_front = {"", 2, Form::dots}, winner = {"winner", 1, Form::star};
  for (const Candidate& candidate : front_of(search.candidates, {metric})) {
    front.points.push_back({value_of(candidate, metric), 100 * candidate.accuracy});
    on_front.points.push_back({value_of(candidate, metric), 100 * candidate.accuracy, "", title_of(candidate)});
  }
  if (run.winner && run.winner->candidate) {
    const Candidate& best = *run.winner->candidate;
    winner.points.push_back({value_of(best, metric), 100 * best.accuracy, "", title_of(best)});
  }
  Plot plot = {concat("Accuracy against ", axis_of(metric)),
               {axis_of(metric)},
               {"top-1, %"},
               {bounds, scored, front, on_front, winner},
               limit_lines(search, metric)};
  const auto published = published_point(run);
  if (published && (metric == Metric::params || metric == Metric::macs)) {
    const double x = metric == Metric::params ? published->params : published->macs;
    plot.series.push_back({"published, on ImageNet",
                           4,
                           Form::rings,
                           {{x, published->top1, concat("AutoFormer-", published->space),
                             concat("published: ", published->top1, " %")}}});
  }
  drop_empty(plot);
  return plot_figure(plot);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

struct Generation {
  double best = 0, best_so_far = 0, median = 0, median_so_far = 0;
};

// Candidates that were given up count with the most that they could have reached, and are never the best.
std::map<int64_t, Generation> generations_of(const SearchRecord& search) {
  std::map<int64_t, std::vector<const Candidate*>> groups;
  for (const Candidate& candidate : search.candidates) groups[candidate.generation].push_back(&candidate);
  std::map<int64_t, Generation> out;
  std::vector<double> so_far;
  double best_so_far = NAN;
  for (const auto& [number, group] : groups) {
    Generation& generation = out[number];
    generation.best = NAN;
    std::vector<double> accuracies;
    for (const Candidate* candidate : group) {
      accuracies.push_back(candidate->accuracy);
      if (!candidate->stopped) generation.best = std::fmax(generation.best, candidate->accuracy);
    }
    so_far.insert(so_far.end(), accuracies.begin(), accuracies.end());
    generation.best_so_far = best_so_far = std::fmax(best_so_far, generation.best);
    generation.median = median(accuracies);
    generation.median_so_far = median(so_far);
  }
  return out;
}

std::string progress_figure(const RunData& run) {
  using Form = PlotSeries::Form;
  Plot plot = {"Progress", {"generation"}, {"top-1, %"}, {}};
  const bool alone = run.searches.size() == 1;
  for (size_t i = 0; i < run.searches.size(); ++i) {
    const SearchRecord& search = run.searches[i];
    const std::string prefix = alone ? "" : search.algorithm + ": ";
    const int colour = static_cast<int>(i);
    PlotSeries best = {prefix + "best so far", colour, Form::line},
               middle = {prefix + "median of all so far", colour, Form::dashed};
    for (const auto& [number, generation] : generations_of(search)) {
      best.points.push_back({static_cast<double>(number), 100 * generation.best_so_far});
      middle.points.push_back({static_cast<double>(number), 100 * generation.median_so_far});
    }
    if (alone) {
      auto [bounds, scored] = candidate_marks(search, [](const Candidate& c) { return double(c.generation); });
      plot.series = {std::move(bounds), std::move(scored)};
    }
    plot.series.push_back(std::move(middle));
    plot.series.push_back(std::move(best));
  }
  return plot_figure(plot);
}

std::string progress_table(const SearchRecord& search) {
  std::vector<std::vector<std::string>> rows;
  const auto cell = [](double value) { return std::isfinite(value) ? percent(value) : "–"; };
  for (const auto& [number, g] : generations_of(search))
    rows.push_back({std::to_string(number), cell(g.best), cell(g.best_so_far), cell(g.median), cell(g.median_so_far)});
  if (rows.empty()) return "";
  return details("Generations of " + search.file + ", as a table",
                 table({"generation", "best", "best so far", "median", "median so far"}, rows));
}

// "accuracy, parameters and multiply-accumulates".
std::string objective_words(const std::vector<Metric>& objectives) {
  std::string words = "accuracy";
  for (size_t i = 0; i < objectives.size(); ++i) {
    const char* names[] = {"parameters", "multiply-accumulates", "activation memory", "latency"};
    words += (i + 1 < objectives.size() ? ", " : " and ") + std::string(names[static_cast<size_t>(objectives[i])]);
  }
  return words;
}

int64_t scored_completely(const SearchRecord& search) {
  return std::count_if(search.candidates.begin(), search.candidates.end(),
                       [](const Candidate& c) { return !c.stopped; });
}

std::string front_part(const SearchRecord& search, const std::vector<Metric>& objectives,
                       const std::vector<Candidate>& front) {
  std::vector<std::vector<std::string>> rows;
  const size_t shown = std::min(kFrontRows, front.size());
  for (size_t i = 0; i < shown; ++i) {
    const Candidate& c = front[shown == 1 ? 0 : i * (front.size() - 1) / (shown - 1)];
    rows.push_back({percent(c.accuracy), grouped(get(c.costs, Metric::params)), grouped(get(c.costs, Metric::macs)),
                    escape_html(describe(c.architecture))});
  }
  if (rows.empty()) return "";
  return details(concat("The front of the ", grouped(scored_completely(search)), " candidates scored completely, in ",
                        objective_words(objectives), " (", front.size(), front.size() == 1 ? " subnet" : " subnets",
                        shown < front.size() ? concat(", ", shown, " of them shown") : "", ")"),
                 table({"top-1", "parameters", "multiply-accumulates", "subnet"}, rows));
}

// What differences the images that rank the candidates can tell apart.
std::string resolution_words(const SearchRecord& search, const std::vector<Candidate>& front) {
  const Candidate* best = nullptr;
  for (const Candidate& c : front) {
    if (best == nullptr || c.accuracy > best->accuracy) best = &c;
  }
  if (best == nullptr || best->images <= 0) return "";
  const double error = share_error(best->accuracy, best->images);
  if (!(error > 0)) return "";
  std::string words = concat("Resolution: the best top-1, ", percent(best->accuracy), " on ", grouped(best->images),
                             " images, has a standard error of ", format("%.2f", 100 * error), " points");
  const std::map<int64_t, Generation> generations = generations_of(search);
  const double first = generations.begin()->second.best_so_far, last = generations.rbegin()->second.best_so_far;
  if (generations.size() > 1 && std::isfinite(first))
    words += format("; from the first generation to the last the best rose by %.2f points, %s one standard error",
                    100 * (last - first), last - first > error ? "more than" : "no more than");
  const Candidate* cheapest = best;
  for (const Candidate& c : front) {
    if (c.accuracy >= best->accuracy - error && get(c.costs, Metric::params) < get(cheapest->costs, Metric::params))
      cheapest = &c;
  }
  if (cheapest == best)
    return words + "; no subnet of the front with fewer parameters is within one standard error of it.";
  return words + concat("; the subnet of the front with the fewest parameters within one standard error of it has ",
                        grouped(get(cheapest->costs, Metric::params)), " (", percent(cheapest->accuracy),
                        "), the best has ", grouped(get(best->costs, Metric::params)), ".");
}

// How the charts are to be read, and what the front is.
std::string front_words(const SearchRecord& search) {
  std::string words;
  if (scored_completely(search) > 0)
    words = concat("Each front is that of the ", grouped(scored_completely(search)),
                   " candidates scored completely, in accuracy and the cost of its chart.");
  if (scored_completely(search) < static_cast<int64_t>(search.candidates.size()))
    words += " Of those given up only bounds are known, drawn as hollow circles: none is more accurate than that.";
  return words + " The median is that of all candidates so far, those given up counted at their bounds.";
}

std::string front_section(const SearchRecord& search) {
  std::string out = paragraph(front_words(search));
  try {
    const std::vector<Metric> objectives = search.options.objective_metrics();
    const std::vector<Candidate> front = front_of(search.candidates, objectives);
    const std::string resolution = resolution_words(search, front);
    return (resolution.empty() ? "" : paragraph(resolution)) + out + front_part(search, objectives, front);
  } catch (const Error& error) {  // a header that this program did not write
    return out + paragraph(concat("The front is not shown: ", error.what(), "."));
  }
}

std::string words_of(const SearchRecord& search) {
  const auto all = static_cast<int64_t>(search.candidates.size());
  std::string words =
      concat(search.file, " (", search.algorithm, "): ", grouped(all), " candidates in ", generations_of(search).size(),
             " of ", search.options.generations, " generations, ", grouped(scored_completely(search)),
             " scored completely, ", grouped(all - scored_completely(search)),
             " given up once it was certain that they could not be among the parents or the best "
             "(drawn at the most that they could have reached).");
  const bool over = search.ended || all >= search.options.population * search.options.generations;
  return words + (over ? "" : " The search has not ended.");
}

}  // namespace

std::string search_section(const RunData& run) {
  if (run.searches.empty()) return paragraph("No search is recorded.");
  std::string out, figures = progress_figure(run);
  for (const SearchRecord& search : run.searches) out += paragraph(words_of(search));
  for (const Metric metric : plotted_metrics(run.searches.front()))
    figures += cost_figure(run, run.searches.front(), metric);
  if (figures.empty()) return out + paragraph("There is no candidate to draw.");
  out += grid(figures) + front_section(run.searches.front());
  for (const SearchRecord& search : run.searches) out += progress_table(search);
  return out;
}

}  // namespace entangle
