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
.hot{fill:var(--c0)}.cold{fill:var(--c1)}.frame{fill:none;stroke:var(--line)}.hatch{fill:none;stroke:var(--soft);stroke-width:.8;opacity:.6}
.ramp{display:inline-block;width:80px;height:10px;border:1px solid var(--line);background:linear-gradient(to right,var(--paper),var(--c0));margin-right:8px}
.rampkey{font-size:13px;color:var(--soft)}
.sample{width:140px;image-rendering:pixelated;border:1px solid var(--line);display:block;margin:8px 0}
footer{margin:40px 0 8px;color:var(--soft);font-size:13px}
@media print{body{font-size:11pt;max-width:none}figure,.card,tr{break-inside:avoid}details>*{display:block}h2,h3,h4{break-after:avoid}}
)";

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
    const std::string key = several ? "<span class=\"key c" + std::to_string(i % kPlotColours) + "\"></span>" : "";
    cards += summary_card(runs[i], health, key, !several);
    rest += element("section", text_element("h2", several ? "Run " + runs[i].name : "In detail") + "\n" +
                                   run_part(runs[i], health)) +
            "\n";
  }
  const std::string title = title_of(runs);
  const std::string head =
      "<meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>" +
      text_element("title", title) + element("style", plot_style() + kStyle);
  const std::string body =
      text_element("h1", title) + "\n" + (several ? "" : introduction(runs.front())) +
      element("section", text_element("h2", "Summary") + "\n" + cards) + "\n" +
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
