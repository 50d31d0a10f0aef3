#include "tools/common/report.h"

#include <cstdio>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "tools/common/html.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

constexpr const char* kStyle = R"(
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:16px;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:26px;line-height:1.2;margin:8px 0 16px}h2{font-size:21px;margin:36px 0 8px}h3{font-size:17px;margin:26px 0 6px}h4{font-size:15px;margin:18px 0 4px}
p{margin:6px 0;max-width:75ch}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:20px 28px;margin:12px 0;align-items:start}
.grid>*{min-width:0}
figure{margin:0;max-width:560px}figcaption{font-size:13px;color:var(--soft);margin-top:4px}
.card{border:1px solid var(--line);border-radius:8px;padding:12px 16px;margin:12px 0}
.card h3{margin:0 0 6px}
.tiles{display:flex;flex-wrap:wrap;gap:8px 28px;margin:10px 0;padding:0;list-style:none}
.tiles b{display:block;font-size:21px;line-height:1.2}.tiles span{font-size:13px;color:var(--soft)}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:14px;margin:8px 0;font-variant-numeric:tabular-nums}
td,th{text-align:left;vertical-align:top;padding:4px 14px 4px 0;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:600}
code,pre{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}
summary{cursor:pointer;padding:6px 0;color:var(--soft)}
.good,.bad,.unknown{font-weight:600;white-space:nowrap}.good{color:var(--c2)}.bad{color:var(--c1)}.unknown{color:var(--soft)}
.missing{border-left:3px solid var(--c1);padding:2px 0 2px 12px;margin:10px 0}.missing ul{margin:4px 0;padding-left:18px}
.key{display:inline-block;width:12px;height:12px;border-radius:3px;background:currentColor;margin-right:8px}
.bar{fill:var(--c0)}.mark{stroke:var(--ink);stroke-width:1.5;fill:none}
.ghost{fill:none;stroke:var(--soft);stroke-dasharray:3 2;opacity:.6}.heads,.width{fill:var(--c0)}.ratio{fill:var(--c2)}
.inside{fill:var(--paper);font-weight:600}
.hot{fill:var(--c0)}.cold{fill:var(--c1)}.frame{fill:none;stroke:var(--line)}
.sample{width:140px;image-rendering:pixelated;border:1px solid var(--line);display:block;margin:8px 0}
footer{margin:40px 0 8px;color:var(--soft);font-size:13px}
@media print{body{font-size:11pt;max-width:none}figure,.card,tr{break-inside:avoid}details>*{display:block}h2,h3,h4{break-after:avoid}}
)";

std::string tile(const std::string& value, const std::string& name) {
  return element("li", text_element("b", value) + text_element("span", name));
}

std::string winner_words(const RunData& run) {
  if (!run.winner)
    return run.searches.empty() ? "No subnet has won: this run has not been searched (there is no search.jsonl)."
                                : "No subnet has won: the search has scored no candidate completely.";
  const std::string what = describe(run.winner->architecture);
  if (run.config && run.config->subnet) return "One subnet was trained: " + what + ".";
  return (run.winner->final ? "The winner: " : "Best so far, the search has not ended: ") + what + ".";
}

std::string tiles(const RunData& run) {
  std::string out;
  if (const auto accuracy = held_out_accuracy(run))
    out +=
        tile(percent(accuracy->first),
             "top-1, " + (accuracy->second > 0 ? grouped(accuracy->second) + " " : std::string()) + "held-out images");
  if (const auto test = test_accuracy(run))
    out += tile(percent(test->accuracy()), "top-1, " + grouped(test->images) + " test images");
  if (const auto costs = winner_costs(run)) {
    out += tile(grouped(get(*costs, Metric::params)), "parameters");
    out += tile(short_number(static_cast<double>(get(*costs, Metric::macs))), "multiply-accumulates an image");
  }
  return out.empty() ? "" : element("ul class=\"tiles\"", out);
}

std::string missing_part(const RunData& run) {
  if (run.missing.empty()) return "";
  std::string items;
  for (const std::string& sentence : run.missing) items += text_element("li", sentence);
  return element("div class=\"missing\"", "Missing in this directory, or not readable:" + element("ul", items)) + "\n";
}

// Who won, at what cost, and whether the supernet can be trusted.
std::string card(const RunData& run, const Health& health, size_t index, bool several) {
  const std::string key = several ? "<span class=\"key c" + std::to_string(index % kPlotColours) + "\"></span>" : "";
  return element("div class=\"card\"",
                 element("h3", key + escape_html(run.name)) + paragraph(winner_words(run)) + tiles(run) +
                     element("p", verdict_mark(health.verdict) + " " + escape_html(health.words)) + missing_part(run)) +
         "\n";
}

std::string part(const std::string& heading, const std::string& content) {
  return text_element("h3", heading) + "\n" + content;
}

std::string run_part(const RunData& run, const Health& health) {
  const bool subnet = run.config && run.config->subnet;
  std::string out = part(subnet ? "Was training healthy?" : "Is the supernet healthy?", health_section(health));
  if (!subnet) out += part("What was drawn", draws_section(run)) + part("Search", search_section(run));
  return out + part(subnet ? "The subnet" : "The winner", winner_section(run)) +
         part("Inside it", inside_section(run)) + part("Configuration and environment", setup_section(run));
}

std::string title_of(const std::vector<RunData>& runs) {
  std::string names;
  for (const RunData& run : runs) names += (names.empty() ? "" : ", ") + run.name;
  return (runs.size() == 1 ? "Run " : "Runs ") + names;
}

}  // namespace

std::string report_page(const std::vector<RunData>& runs) {
  const bool several = runs.size() > 1;
  std::string cards, rest;
  for (size_t i = 0; i < runs.size(); ++i) {
    const Health health = judge_health(runs[i]);
    cards += card(runs[i], health, i, several);
    rest += element("section", text_element("h2", several ? "Run " + runs[i].name : "In detail") + "\n" +
                                   run_part(runs[i], health)) +
            "\n";
  }
  const std::string title = title_of(runs);
  const std::string head =
      "<meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>" +
      text_element("title", title) + element("style", plot_style() + kStyle);
  const std::string body =
      text_element("h1", title) + "\n" + element("section", text_element("h2", "Summary") + "\n" + cards) + "\n" +
      element("section", text_element("h2", "Training") + "\n" + training_section(runs)) + "\n" + rest +
      text_element("footer",
                   "Written by render_report from the files in the directories named above. Top-1: the share of images "
                   "whose most likely class is right.");
  return "<!DOCTYPE html>\n" + element("html lang=\"en\"", element("head", head) + "\n" + element("body", body)) + "\n";
}

void write_report(const std::vector<std::string>& runs, const std::string& file) {
  std::vector<RunData> data;
  for (const std::string& run : runs) data.push_back(read_run(run));
  write_file_atomically(file, report_page(data));
}

void report_run(const std::string& run, const std::string& weights) {
  const std::string file = run + "/report.html";
  try {
    write_file_atomically(file, report_page({read_run(run, weights)}));
    std::printf("report: %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::printf("no report: %s\n", error.what());
  }
}

}  // namespace entangle
