// How training went, and what it drew.
#include <algorithm>
#include <cmath>
#include <functional>

#include "engine/check.h"
#include "tools/common/html.h"
#include "tools/common/progress.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

constexpr size_t kBuckets = 200;  // points of a curve: more cannot be told apart
constexpr double kMiB = 1 << 20;
constexpr const char* kMemoryTitle = "Memory of a step";

// What a curve shows of a step, and how it is averaged.
struct Quantity {
  const char* title;
  const char* axis;
  bool from_zero;
  std::function<double(const StepRecord&)> value;
  bool rate = false;  // means of rates are harmonic: steps are equally many images, not equally long
};

std::vector<Quantity> quantities() {
  return {
      {"Training loss", "cross-entropy", false, [](const StepRecord& s) { return s.loss; }},
      {"Learning rate", "", true, [](const StepRecord& s) { return s.lr; }},
      {"Speed", "images a second", true, [](const StepRecord& s) { return s.img_per_s > 0 ? s.img_per_s : NAN; }, true},
      {kMemoryTitle, "", true, [](const StepRecord& s) { return s.memory / kMiB; }}};
}

// The steps in equal groups: mean, lowest and highest of each.
PlotSeries curve(const TrainingLog& log, const Quantity& quantity, bool with_spread) {
  PlotSeries series;
  const size_t steps = log.steps.size(), groups = std::min(steps, kBuckets);
  for (size_t group = 0; group < groups; ++group) {
    double sum = 0, low = INFINITY, high = -INFINITY, count = 0;
    const size_t begin = group * steps / groups, end = (group + 1) * steps / groups;
    for (size_t i = begin; i < end; ++i) {
      const double value = quantity.value(log.steps[i]);
      if (!std::isfinite(value)) continue;
      sum += quantity.rate ? 1 / value : value;
      low = std::min(low, value);
      high = std::max(high, value);
      ++count;
    }
    if (count == 0) continue;
    const double middle = static_cast<double>(log.steps[begin].step + log.steps[end - 1].step) / 2;
    series.points.push_back({middle, quantity.rate ? count / sum : sum / count});
    if (with_spread) series.spread.emplace_back(low, high);
  }
  return series;
}

// Memory grows with the batch: of a run that cuts its batch into parts, with a part.
std::string memory_axis(const std::vector<RunData>& runs) {
  std::vector<std::string> batches;
  for (const RunData& run : runs) {
    if (!run.config) return "MiB at the peak";
    const TrainConfig& train = run.config->train;
    const std::string batch =
        concat(train.batch_size, train.accumulate > 1 ? concat(" in ", train.accumulate, " parts") : "");
    if (std::count(batches.begin(), batches.end(), batch) == 0) batches.push_back(batch);
  }
  return batches.size() == 1 ? "MiB at the peak, batch size " + batches[0] : "MiB at the peak, each at its batch size";
}

std::string curve_figure(const std::vector<RunData>& runs, const Quantity& quantity) {
  const bool memory = std::string(quantity.title) == kMemoryTitle;
  Plot plot = {quantity.title, {"step"}, {memory ? memory_axis(runs) : quantity.axis, quantity.from_zero}, {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    PlotSeries series = curve(runs[i].log, quantity, runs.size() == 1);
    series.colour = static_cast<int>(i);
    if (runs.size() > 1) series.name = runs[i].name;
    plot.series.push_back(std::move(series));
  }
  return plot_figure(plot);
}

PlotSeries accuracy_series(const RunData& run, const std::string& subnet) {
  PlotSeries series;
  for (const HeldOutRecord& record : run.log.held_out) {
    const auto found = record.accuracy.find(subnet);
    if (found != record.accuracy.end())
      series.points.push_back({static_cast<double>(record.step), 100 * found->second});
  }
  return series;
}

// Subnets that are followed while a run trains, by their keys in the log and their names.
struct Followed {
  std::string title;
  std::vector<std::pair<std::string, std::string>> subnets;
};

std::vector<Followed> all_followed() {
  return {{"Held-out accuracy",
           {{"largest", "largest"}, {"middle", "middle"}, {"smallest", "smallest"}, {"subnet", "subnet"}}},
          {"Held-out accuracy by size",
           {{"quarter_4", "largest quarter"},
            {"quarter_3", "third"},
            {"quarter_2", "second"},
            {"quarter_1", "smallest quarter"}}}};
}

// Of one run a plot of all subnets; of several a plot for each subnet.
std::string accuracy_figures(const std::vector<RunData>& runs, const Followed& followed) {
  std::string figures;
  Plot together = {followed.title, {"step"}, {"top-1, %"}, {}};
  for (size_t subnet = 0; subnet < followed.subnets.size(); ++subnet) {
    const auto& [key, name] = followed.subnets[subnet];
    Plot plot = {followed.title + ", " + name, {"step"}, {"top-1, %"}, {}};
    for (size_t i = 0; i < runs.size(); ++i) {
      PlotSeries series = accuracy_series(runs[i], key);
      if (series.points.empty()) continue;
      series.name = runs.size() == 1 ? name : runs[i].name;
      series.colour = static_cast<int>(runs.size() == 1 ? subnet : i);
      (runs.size() == 1 ? together : plot).series.push_back(std::move(series));
    }
    figures += plot_figure(plot);
  }
  return plot_figure(together) + figures;
}

std::string accuracy_table(const RunData& run) {
  std::vector<std::string> names, head = {"epoch", "step"};
  for (const char* name :
       {"smallest", "middle", "largest", "subnet", "quarter_1", "quarter_2", "quarter_3", "quarter_4"}) {
    for (const HeldOutRecord& record : run.log.held_out) {
      if (record.accuracy.count(name) == 0 || std::count(names.begin(), names.end(), name) > 0) continue;
      names.push_back(name);
      head.push_back(name);
    }
  }
  std::vector<std::vector<std::string>> rows;
  for (const HeldOutRecord& record : run.log.held_out) {
    rows.push_back({std::to_string(record.epoch), grouped(record.step)});
    for (const std::string& name : names) {
      const auto found = record.accuracy.find(name);
      rows.back().push_back(found == record.accuracy.end() ? "–" : percent(found->second));
    }
  }
  return rows.empty() ? "" : details("Held-out accuracy of " + run.name + ", as a table", table(head, rows));
}

// One row: choice, a bar of its share with a line at what is expected, the figures.
std::string draw_row(const DrawShare& share, double largest, double y) {
  constexpr double kLeft = 40, kBar = 190;
  const auto x = [&](double value) { return kLeft + kBar * value / largest; };
  std::string row = text_element(format("text class=\"t\" x=\"34\" y=\"%.0f\" text-anchor=\"end\"", y + 11),
                                 short_number(share.choice));
  row += format("<rect class=\"bar\" x=\"%.0f\" y=\"%.0f\" width=\"%.1f\" height=\"12\"/>", kLeft, y + 1,
                std::max(0.0, x(share.share) - kLeft));
  row += format("<path class=\"mark\" d=\"M%.1f %.0fv16\"/>", x(share.expected), y - 1);
  return row + text_element(format("text class=\"t\" x=\"352\" y=\"%.0f\" text-anchor=\"end\"", y + 11),
                            format("%s · %.2f %%", grouped(share.drawn).c_str(), 100 * share.share));
}

std::string draw_figure(const std::string& title, const std::vector<DrawShare>& shares) {
  double largest = 0, y = 22;
  for (const DrawShare& share : shares) largest = std::max({largest, share.share, share.expected});
  std::string rows = text_element("text class=\"title\" x=\"0\" y=\"13\"", title);
  for (const DrawShare& share : shares) rows += draw_row(share, largest, y), y += 18;
  return figure(element(format("svg class=\"plot\" role=\"img\" viewBox=\"0 0 360 %.0f\" aria-label=\"", y + 4) +
                            escape_html(title) + "\"",
                        rows));
}

// In words: what was drawn too often or too rarely.
std::string draw_verdict(const std::vector<std::pair<std::string, std::vector<DrawShare>>>& all) {
  std::string unusual;
  for (const auto& [name, shares] : all) {
    for (const DrawShare& share : shares) {
      if (std::fabs(share.share - share.expected) <= 3 * share.error) continue;
      unusual +=
          concat(unusual.empty() ? "" : "; ", name, " ", short_number(share.choice), " in ",
                 format("%.2f", 100 * share.share), " % instead of ", format("%.2f", 100 * share.expected), " %");
    }
  }
  if (unusual.empty())
    return "Every choice was drawn as often as it should be, within three standard errors. The line marks the expected "
           "share.";
  return "Drawn more or less often than chance explains (by over three standard errors): " + unusual +
         ". The line marks the expected share.";
}

}  // namespace

std::string training_section(const std::vector<RunData>& runs) {
  std::string figures;
  for (const Quantity& quantity : quantities()) figures += curve_figure(runs, quantity);
  std::string accuracies;
  for (const Followed& followed : all_followed()) accuracies += accuracy_figures(runs, followed);
  figures = accuracies + figures;
  if (figures.empty()) return paragraph("No training is logged, so there are no curves.");
  std::string out = grid(figures);
  if (runs.size() == 1)
    out += paragraph(
        "Lines are means over equal groups of steps, the shade behind them reaches from the lowest to the highest step "
        "of a group: each step trains another subnet, so losses, speed and memory differ from step to step.");
  for (const RunData& run : runs) out += accuracy_table(run);
  return out;
}

std::string draws_section(const RunData& run) {
  const DrawCounts& drawn = run.log.drawn;
  if (run.config && run.config->subnet) return paragraph("This run trains one subnet: every step takes it.");
  if (drawn.depth.empty()) return paragraph("No step says which subnet it drew.");
  if (!run.config) return paragraph("Without a configuration it is not known what the choices are.");
  const SearchSpace& space = run.config->space;
  const std::vector<std::pair<std::string, std::vector<DrawShare>>> all = {
      {"depth", draw_shares(drawn.depth, space.depth)},
      {"width", draw_shares(drawn.embed_dim, space.embed_dim)},
      {"heads", draw_shares(drawn.num_heads, space.num_heads)},
      {"MLP ratio", draw_shares(drawn.mlp_ratio, space.mlp_ratio)}};
  const std::string titles[] = {"Depth, of all steps", "Width (embed_dim), of all steps", "Heads, of all blocks drawn",
                                "MLP ratio, of all blocks drawn"};
  std::string figures;
  for (size_t i = 0; i < all.size(); ++i) figures += draw_figure(titles[i], all[i].second);
  return paragraph(draw_verdict(all)) + grid(figures);
}

std::string health_section(const Health& health) {
  std::vector<std::vector<std::string>> rows;
  for (const Finding& finding : health.findings)
    rows.push_back({verdict_mark(finding.verdict), escape_html(finding.question), escape_html(finding.answer)});
  return paragraph(health.words) + table({"", "question", "answer"}, rows);
}

}  // namespace entangle
