// What a reader sees first: what was trained and how, who won at what cost, and whether it can be trusted.
#include <cmath>
#include <limits>

#include "engine/check.h"
#include "tools/common/html.h"
#include "tools/common/progress.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

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

// The accuracy on which the search chose is the largest of many, each with an error: its expectation lies above what the
// winner would have on new images. So the test figure, which chose nothing, comes first.
std::string tiles(const RunData& run) {
  std::string out;
  if (const auto test = test_accuracy(run))
    out += tile(percent_with_error(test->accuracy(), test->images), "top-1, " + grouped(test->images) + " test images");
  if (const auto accuracy = held_out_accuracy(run))
    out += tile(percent(accuracy->first),
                "top-1, " + (accuracy->second > 0 ? grouped(accuracy->second) + " " : std::string()) +
                    "held-out images" + (run.winner->candidate ? ", used by the search" : ""));
  if (const auto costs = winner_costs(run)) {
    out += tile(grouped(get(*costs, Metric::params)), "parameters" + limit_words(run, Metric::params));
    const std::string macs = limit_words(run, Metric::macs);
    out += tile(short_number(static_cast<double>(get(*costs, Metric::macs))),
                "multiply-accumulates an image" + (macs.empty() ? "" : "," + macs));
    if (const std::string limit = limit_words(run, Metric::activation_bytes); !limit.empty())
      out += tile(cost_words(Metric::activation_bytes, get(*costs, Metric::activation_bytes)),
                  "activations of a training step" + limit);
    if (const std::string limit = limit_words(run, Metric::latency); !limit.empty())
      out += tile(cost_words(Metric::latency, get(*costs, Metric::latency)), "latency" + limit);
  }
  return out.empty() ? "" : element("ul class=\"tiles\"", out);
}

// How far the figures can be trusted.
std::string caution(const RunData& run) {
  const auto test = test_accuracy(run);
  std::string words = test ? "± is one standard error of that many images." : "";
  if (!run.winner || !run.winner->candidate) return words.empty() ? "" : paragraph(words);
  const auto all = static_cast<int64_t>(run.searches.front().candidates.size());
  words += concat(words.empty() ? "" : " ", "The search chose the best of ", grouped(all),
                  " candidates on the held-out images, so that its figure there is biased upward",
                  test ? "." : "; the test images, which would tell, have not been read.");
  return paragraph(words);
}

std::string missing_part(const RunData& run) {
  if (run.missing.empty()) return "";
  std::string items;
  for (const std::string& sentence : run.missing) items += text_element("li", sentence);
  return element("div class=\"missing\"", "Missing in this directory, or not readable:" + element("ul", items)) + "\n";
}

// Cross-entropy with a smoothed label is least where the output is that label's distribution: its entropy. That of mixed
// labels is no less, since entropy is concave.
double least_loss(double smoothing, double classes) {
  const double off = smoothing / classes, on = 1 - smoothing + off;
  return smoothing > 0 ? -on * std::log(on) - (classes - 1) * off * std::log(off) : 0;
}

std::string target_words(const Config& config) {
  const Augmentation& augmentation = config.data.augmentation;
  const double smoothing = augmentation.label_smoothing;
  const bool mixed =
      augmentation.mix_probability > 0 && (augmentation.mixup_alpha > 0 || augmentation.cutmix_alpha > 0);
  if (smoothing <= 0 && !mixed) return "";
  std::string words = " The training loss is that of labels which leave doubt (";
  if (smoothing > 0) words += concat("label smoothing ", smoothing);
  if (mixed) words += concat(smoothing > 0 ? ", " : "", "mixed images");
  words += ")";
  // A teacher's labels are added, of another entropy.
  if (smoothing > 0 && config.train.teacher.empty())
    words += format(": it cannot fall below %.2f, however many images are right",
                    least_loss(smoothing, static_cast<double>(config.model.num_classes)));
  return words + ".";
}

}  // namespace

double share_error(double share, int64_t images) {
  return std::sqrt(share * (1 - share) / static_cast<double>(images));
}

std::string percent_with_error(double share, int64_t images) {
  const double error = images > 0 ? share_error(share, images) : 0;
  return error > 0 ? format("%.2f ± %.2f %%", 100 * share, 100 * error) : percent(share);
}

std::string cost_words(Metric metric, int64_t value) {
  if (metric == Metric::latency) return show(metric, value);
  if (metric != Metric::activation_bytes) return grouped(value);
  const double bytes = static_cast<double>(value);
  for (const auto& [unit, name] : {std::pair<double, const char*>{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}}) {
    if (bytes >= unit) return format("%.3g %s", bytes / unit, name);
  }
  return format("%.0f bytes", bytes);
}

std::string limit_words(const RunData& run, Metric metric) {
  if (run.searches.empty() || !run.winner || !run.winner->candidate) return "";
  const Limit limit = run.searches.front().options.limits()[static_cast<size_t>(metric)];
  std::string words = limit.min > 0 ? " of at least " + cost_words(metric, limit.min) : "";
  if (limit.max < std::numeric_limits<int64_t>::max())
    words += (words.empty() ? " of at most " : " and at most ") + cost_words(metric, limit.max);
  return words;
}

std::string introduction(const RunData& run) {
  if (!run.config) return "";
  const Config& config = *run.config;
  const double count = config.space.count();
  std::string words = "One subnet";
  if (!config.subnet)
    words = concat("A supernet of ",
                   count < 1e15 ? grouped(static_cast<int64_t>(std::llround(count))) : format("%.3g", count),
                   " architectures");
  words += concat(
      ", trained on ", config.data.spec.empty() ? "data that the configuration does not name" : config.data.spec, " (",
      config.model.image_size, " × ", config.model.image_size, " pixels, ", config.model.num_classes, " classes)");
  if (!run.log.steps.empty()) {
    const StepRecord& last = run.log.steps.back();
    words += concat(" in ", grouped(last.step), " steps of ", grouped(config.train.batch_size), " images",
                    last.epoch > 0 ? concat(", up to epoch ", last.epoch, " of ", config.train.epochs) : "");
  }
  words += "." + target_words(config);
  if (!config.subnet)
    words +=
        " Smallest, middle and largest are the subnets that take the smallest, middle or largest value of every choice."
        " A search scores its candidates with the weights that they inherit from the supernet, without retraining.";
  return paragraph(words);
}

std::string summary_card(const RunData& run, const Health& health, const std::string& key, bool introduced) {
  return element("div class=\"card\"",
                 element("h3", key + escape_html(run.name)) + (introduced ? "" : introduction(run)) +
                     paragraph(winner_words(run)) + tiles(run) + caution(run) +
                     element("p", verdict_mark(health.verdict) + " " + escape_html(health.words)) + missing_part(run)) +
         "\n";
}

}  // namespace entangle
