// What the sections of a report are made of.
#include <algorithm>

#include "engine/check.h"
#include "tools/common/html.h"
#include "tools/common/progress.h"
#include "tools/common/report_sections.h"

namespace entangle {

std::string figure(const std::string& svg, const std::string& caption) {
  return element("figure", svg + (caption.empty() ? "" : text_element("figcaption", caption))) + "\n";
}

std::string plot_figure(const Plot& plot, const std::string& caption) {
  const std::string svg = plot_svg(plot);
  return svg.empty() ? "" : figure(svg, caption);
}

std::string grid(const std::string& figures) { return element("div class=\"grid\"", figures) + "\n"; }

std::string table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows) {
  std::string text, top;
  for (const std::string& cell : head) top += element("th", cell);
  for (const std::vector<std::string>& row : rows) {
    std::string cells;
    for (const std::string& cell : row) cells += element("td", cell);
    text += element("tr", cells) + "\n";
  }
  const std::string header = head.empty() ? "" : element("thead", element("tr", top)) + "\n";
  return element("div class=\"wide\"", element("table", header + element("tbody", text))) + "\n";
}

std::string details(const std::string& summary, const std::string& content) {
  return element("details", text_element("summary", summary) + content) + "\n";
}

std::string paragraph(const std::string& text) { return text_element("p", text) + "\n"; }

std::string verdict_mark(Verdict verdict) {
  switch (verdict) {
    case Verdict::good:
      return "<span class=\"good\">✓ good</span>";
    case Verdict::bad:
      return "<span class=\"bad\">✗ bad</span>";
    case Verdict::unclear:
      return "<span class=\"unknown\">~ unclear</span>";
    default:
      return "<span class=\"unknown\">? open</span>";
  }
}

std::string percent(double share) { return format("%.2f %%", 100 * share); }

std::string describe(const Architecture& a) {
  std::string heads, ratios;
  for (const int h : a.num_heads) heads += concat(heads.empty() ? "" : " ", h);
  for (const double r : a.mlp_ratio) ratios += concat(ratios.empty() ? "" : " ", r);
  return concat("depth ", a.depth, ", width ", a.embed_dim, ", heads ", heads, ", MLP ratios ", ratios);
}

std::optional<std::pair<double, int64_t>> held_out_accuracy(const RunData& run) {
  if (run.winner && run.winner->candidate)
    return std::make_pair(run.winner->candidate->accuracy, run.winner->candidate->images);
  if (!run.config || !run.config->subnet || run.log.held_out.empty()) return std::nullopt;
  const auto& last = run.log.held_out.back().accuracy;
  const auto found = last.find("subnet");
  if (found == last.end()) return std::nullopt;
  return std::make_pair(found->second, int64_t{0});
}

// That of the search's end is the winner's.
std::optional<Evaluation> test_accuracy(const RunData& run) {
  const bool searched = run.winner && run.winner->candidate && !run.searches.empty();
  return searched ? run.searches.front().test : std::nullopt;
}

std::string setup_section(const RunData& run) {
  std::vector<std::vector<std::string>> rows = {{"Directory", escape_html(run.path)}};
  for (const auto& [name, value] : run.environment) rows.push_back({escape_html(name), escape_html(value)});
  if (run.environment.empty()) rows.push_back({"Machine", "not recorded (there is no environment.json)"});
  if (run.config) {
    const Config& c = *run.config;
    rows.push_back({"Data", escape_html(c.data.spec.empty() ? "not named" : c.data.spec)});
    rows.push_back({"Model", concat(c.model.image_size, " × ", c.model.image_size, " pixels, ", c.model.in_channels,
                                    c.model.in_channels == 1 ? " channel" : " channels", ", patches of ",
                                    c.model.patch_size, ", ", c.model.num_classes, " classes")});
    rows.push_back({"Space", c.subnet ? "one subnet" : format("%.4g architectures", c.space.count())});
    rows.push_back({"Recipe", concat(c.train.epochs, c.train.epochs == 1 ? " epoch" : " epochs", ", batch ",
                                     c.train.batch_size, ", learning rate ", c.train.lr, ", seed ", c.train.seed)});
  }
  double seconds = 0;
  for (const StepRecord& step : run.log.steps) {
    if (run.config && step.img_per_s > 0) seconds += static_cast<double>(run.config->train.batch_size) / step.img_per_s;
  }
  if (!run.log.steps.empty())
    rows.push_back(
        {"Logged", concat("steps ", grouped(run.log.steps.front().step), " to ", grouped(run.log.steps.back().step),
                          seconds > 0 ? ", " + duration_text(seconds) + " in steps" : "")});
  const auto step = run.checkpoint.find("step");
  if (step != run.checkpoint.end()) rows.push_back({"Checkpoint", "after step " + escape_html(step->second)});
  if (!run.searches.empty() && !run.searches.front().options.subject.empty())
    rows.push_back({"Searched", escape_html(run.searches.front().options.subject)});
  std::string out = table({}, rows);
  if (run.config) out += details("config.yaml: the whole configuration", text_element("pre", run.config->to_yaml()));
  return out;
}

}  // namespace entangle
