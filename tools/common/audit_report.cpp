#include "tools/common/audit_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/common/progress.h"

namespace entangle {
namespace {

using nlohmann::ordered_json;

std::string number(double value, const char* form) { return std::isfinite(value) ? format(form, value) : "not finite"; }

std::string error_of(const AuditedPlace& p) {
  if (p.compared == 0) return "-";
  return number(p.error, "%.1e") + " of " + number(p.allowed, "%.1e");
}
std::string difference_of(const AuditedPlace& p) { return p.differences == 0 ? "-" : number(p.difference, "%.0e"); }
std::string bits_of(const AuditedPlace& p) {
  if (p.reruns == 0) return "-";
  return p.differing == 0 ? "same" : format("%lld differ", static_cast<long long>(p.differing));
}
std::string time_of(const AuditedPlace& p) { return p.seconds > 0 ? format("%.3f", 1e3 * p.seconds) : "-"; }
std::string percent_of(const AuditedPlace& p) { return p.seconds > 0 ? format("%.0f", p.percent) : "-"; }
const char* verdict_of(const AuditedPlace& p) { return p.faults.empty() ? "right" : "WRONG"; }

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::string summary(const Audit& audit) {
  const auto wrong =
      std::count_if(audit.kernels.begin(), audit.kernels.end(), [](const AuditedKernel& k) { return !k.right(); });
  return format("%zu kernels, %lld wrong", audit.kernels.size(), static_cast<long long>(wrong));
}

std::string ceilings_of(const Audit& audit) {
  std::string text;
  for (const AuditedCeiling& c : audit.ceilings) {
    text += format("ceilings, %s on %d threads: %.1f GFLOP/s, copy %.1f GB/s\n", c.place.c_str(), audit.threads,
                   c.gflops, c.copy);
  }
  return text;
}

std::string cost_of(const AuditedKernel& k) {
  if (k.bytes == 0) return "";
  return format("%.3f MFLOP, %.3f MB a call", 1e-6 * static_cast<double>(k.flops), 1e-6 * static_cast<double>(k.bytes));
}

std::string place_text(const AuditedPlace& p) {
  std::string text = format("  %-16s %-5s  %-18s  %6s  %-9s %10s  %5s  %s\n", p.place.c_str(), verdict_of(p),
                            error_of(p).c_str(), difference_of(p).c_str(), bits_of(p).c_str(), time_of(p).c_str(),
                            percent_of(p).c_str(), p.resources.c_str());
  constexpr size_t kShown = 3;
  for (size_t i = 0; i < std::min(p.faults.size(), kShown); ++i) text += "    " + p.faults[i] + "\n";
  if (p.faults.size() > kShown) text += format("    and %zu more\n", p.faults.size() - kShown);
  return text;
}

ordered_json place_json(const AuditedPlace& p) {
  const auto finite = [](double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); };
  ordered_json json = {{"place", p.place},       {"right", p.faults.empty()}, {"faults", p.faults},
                       {"compared", p.compared}, {"error", finite(p.error)},  {"allowed", finite(p.allowed)}};
  json["finite_difference"] = p.differences > 0 ? finite(p.difference) : ordered_json(nullptr);
  json["same_bits"] = p.reruns > 0 && p.differing == 0;
  json["same_bits_in"] = p.variations;
  json["ms"] = p.seconds > 0 ? ordered_json(1e3 * p.seconds) : ordered_json(nullptr);
  json["percent_of_ceiling"] = p.seconds > 0 ? ordered_json(p.percent) : ordered_json(nullptr);
  if (!p.resources.empty()) json["resources"] = p.resources;
  return json;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

std::string cell(const std::string& text) { return "<td>" + escaped(text) + "</td>"; }

std::string place_html(const AuditedPlace& p) {
  std::string html = p.faults.empty() ? "<tr>" : "<tr class=wrong>";
  for (const std::string& text : {p.place, std::string(verdict_of(p)), error_of(p), difference_of(p), bits_of(p),
                                  time_of(p), percent_of(p), p.resources}) {
    html += cell(text);
  }
  html += "</tr>\n";
  for (const std::string& fault : p.faults) html += "<tr class=wrong><td colspan=8>" + escaped(fault) + "</td></tr>\n";
  return html;
}

constexpr const char* kPage =
    "<!doctype html><meta charset=utf-8><title>Kernels</title>\n<style>\n"
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em}table{border-collapse:collapse}\n"
    "td,th{padding:.15em .7em;text-align:left;border-bottom:1px solid #ddd}\n"
    ".kernel td{background:#f3f3f3;padding-top:.6em}.wrong td{background:#fbb}code{font-size:13px}\n</style>\n";

constexpr const char* kLegend =
    "error: of the element whose error is the largest part of what it may be, of how much it may be. diff: of the "
    "reference's gradient from finite differences, of the largest gradient. bits: of reruns, thread counts and orders. "
    "ms: of a call at the size of T's largest subnet with four images. %: of what the ceilings allow; more than 100 "
    "means that "
    "operands came from a cache. On a GPU also what its kernels ask for: those called after the kernel, or else all "
    "that the "
    "rows launch.\n";

}  // namespace

bool AuditedKernel::right() const {
  return faults.empty() && !places.empty() &&
         std::all_of(places.begin(), places.end(), [](const AuditedPlace& p) { return p.faults.empty(); });
}

bool Audit::right() const {
  return !kernels.empty() &&
         std::all_of(kernels.begin(), kernels.end(), [](const AuditedKernel& k) { return k.right(); });
}

std::string audit_text(const Audit& audit) {
  std::string text = kLegend + ceilings_of(audit);
  text += format("  %-16s %-5s  %-18s  %6s  %-9s %10s  %5s\n", "place", "", "error", "diff", "bits", "ms", "%");
  for (const AuditedKernel& k : audit.kernels) {
    text += "\n" + k.name + ": " + k.formula + "\n  " + k.source.cpu + "  " + k.source.gpu +
            "  rows: " + joined(k.rows, ", ") + "  " + cost_of(k) + "\n";
    for (const std::string& fault : k.faults) text += "  WRONG: " + fault + "\n";
    for (const AuditedPlace& p : k.places) text += place_text(p);
  }
  return text + "\n" + summary(audit) + "\n";
}

std::string audit_json(const Audit& audit) {
  ordered_json json = {{"right", audit.right()}, {"threads", audit.threads}};
  json["ceilings"] = ordered_json::array();
  for (const AuditedCeiling& c : audit.ceilings) {
    json["ceilings"].push_back({{"place", c.place}, {"gflops", c.gflops}, {"copy_gbytes", c.copy}});
  }
  json["kernels"] = ordered_json::array();
  for (const AuditedKernel& k : audit.kernels) {
    ordered_json kernel = {
        {"name", k.name},  {"formula", k.formula}, {"cpu_source", k.source.cpu}, {"gpu_source", k.source.gpu},
        {"rows", k.rows},  {"right", k.right()},   {"faults", k.faults},         {"flops", k.flops},
        {"bytes", k.bytes}};
    kernel["places"] = ordered_json::array();
    for (const AuditedPlace& p : k.places) kernel["places"].push_back(place_json(p));
    json["kernels"].push_back(std::move(kernel));
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string audit_html(const Audit& audit) {
  std::string html = std::string(kPage) + "<h1>" + summary(audit) + "</h1>\n<p>" + escaped(kLegend) + "</p>\n<pre>" +
                     escaped(ceilings_of(audit)) + "</pre>\n<table>\n<tr>";
  for (const char* head : {"place", "", "error", "diff", "bits", "ms", "%", "GPU resources"}) {
    html += std::string("<th>") + head + "</th>";
  }
  html += "</tr>\n";
  for (const AuditedKernel& k : audit.kernels) {
    html += "<tr class=kernel><td colspan=8><b>" + k.name + "</b> <code>" + escaped(k.formula) + "</code><br>" +
            k.source.cpu + " " + k.source.gpu + " rows: " + joined(k.rows, ", ") + " " + cost_of(k) + "</td></tr>\n";
    for (const std::string& fault : k.faults)
      html += "<tr class=wrong><td colspan=8>" + escaped(fault) + "</td></tr>\n";
    for (const AuditedPlace& p : k.places) html += place_html(p);
  }
  return html + "</table>\n";
}

}  // namespace entangle
