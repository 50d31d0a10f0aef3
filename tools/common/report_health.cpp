#include "tools/common/report_health.h"

#include <algorithm>

#include "engine/check.h"
#include "tools/common/correlation.h"
#include "tools/common/html.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

constexpr size_t kFewestSteps = 20;       // that a course can be told from
constexpr size_t kFewestCandidates = 10;  // that a rank correlation is told of
constexpr size_t kTenths = 10;
constexpr double kIllCorrelation = 0.5;
constexpr double kErrors = 2;  // standard errors that make a difference

// The mean of some numbers and its standard error.
struct Mean {
  double value = 0, error = 0;
  size_t count = 0;
};

Mean mean_of(const std::vector<double>& values) {
  Mean mean;
  mean.count = values.size();
  if (values.empty()) return mean;
  for (const double v : values) mean.value += v / static_cast<double>(values.size());
  double squares = 0;
  for (const double v : values) squares += (v - mean.value) * (v - mean.value);
  const double n = static_cast<double>(values.size());
  mean.error = n > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
  return mean;
}

double error_of_difference(const Mean& a, const Mean& b) { return std::sqrt(a.error * a.error + b.error * b.error); }

std::string percent(double share) { return format("%.1f %%", 100 * share); }

Finding judge_finite(const RunData& run) {
  const TrainingLog& log = run.log;
  const std::string question = "Was every loss a finite number?";
  if (log.steps.empty()) return {Verdict::unknown, question, "No steps are logged."};
  const auto known = [](const StepRecord& step) { return std::isfinite(step.loss); };
  const auto count = static_cast<int64_t>(std::count_if(log.steps.begin(), log.steps.end(), known));
  if (log.not_finite > 0)
    return {Verdict::bad, question,
            concat("No: ", log.not_finite, " of ", grouped(static_cast<int64_t>(log.steps.size())),
                   " steps have a loss that is no finite number.")};
  if (count == 0) return {Verdict::unknown, question, "No step says its loss."};
  return {Verdict::good, question, "Yes, in all " + grouped(count) + " steps that were logged."};
}

Finding judge_fall(const RunData& run) {
  const std::string question = "Did the loss fall?";
  std::vector<double> losses;
  for (const StepRecord& step : run.log.steps) {
    if (std::isfinite(step.loss)) losses.push_back(step.loss);
  }
  if (losses.size() < kFewestSteps)
    return {Verdict::unknown, question,
            concat("Too few steps to say: ", losses.size(), " of at least ", kFewestSteps, ".")};
  std::vector<Mean> tenths;
  for (size_t i = 0; i < kTenths; ++i) {
    const auto at = [&](size_t part) {
      return losses.begin() + static_cast<std::ptrdiff_t>(losses.size() * part / kTenths);
    };
    tenths.push_back(mean_of(std::vector<double>(at(i), at(i + 1))));
  }
  const Mean &first = tenths.front(), &last = tenths.back();
  const auto lowest =
      std::min_element(tenths.begin(), tenths.end(), [](const Mean& a, const Mean& b) { return a.value < b.value; });
  const double error = kErrors * error_of_difference(first, last);
  const std::string figures =
      format("mean over the first tenth of the steps %.4f, over the last tenth %.4f", first.value, last.value);
  const std::string counts = format(" (a difference counts from %.4f, two standard errors)", error);
  if (!(first.value - last.value > error)) return {Verdict::bad, question, "No: " + figures + counts + "."};
  const double fall = first.value - lowest->value, rise = last.value - lowest->value;
  if (rise > 0.1 * fall && rise > kErrors * error_of_difference(last, *lowest))
    return {Verdict::bad, question,
            concat("It fell and rose again: ", figures, ", with ", format("%.4f", lowest->value), " over tenth ",
                   1 + (lowest - tenths.begin()), " of 10.")};
  return {Verdict::good, question, "Yes: " + figures + counts + "."};
}

// How many images a held-out accuracy is of.
double health_images(const RunData& run) {
  const int64_t images = run.config ? std::min(run.config->train.health_images, run.config->data.split.empty()
                                                                                    ? run.config->data.held_out
                                                                                    : run.config->train.health_images)
                                    : 0;
  return static_cast<double>(std::max<int64_t>(images, 1));
}

double difference_error(double a, double b, double images) { return std::sqrt((a * (1 - a) + b * (1 - b)) / images); }

Finding judge_lead(const RunData& run) {
  const std::string question = "Does the largest subnet lead?";
  if (run.log.held_out.empty()) return {Verdict::unknown, question, "No held-out accuracies are logged."};
  const auto& last = run.log.held_out.back().accuracy;
  const auto largest = last.find("largest");
  if (largest == last.end() || last.size() < 2)
    return {Verdict::unknown, question, "The last held-out accuracies are not of subnets of several sizes."};
  std::pair<std::string, double> rival = {"", -1};
  std::string figures;
  for (const auto& [name, accuracy] : last) {
    if (name.rfind("quarter_", 0) == 0) continue;
    if (name != "largest" && accuracy > rival.second) rival = {name, accuracy};
    figures += (figures.empty() ? "" : ", ") + name + " " + percent(accuracy);
  }
  const double lead = largest->second - rival.second;
  const double error = kErrors * difference_error(largest->second, rival.second, health_images(run));
  figures += format(" on %.0f held-out images; a difference counts from %.1f points, two standard errors",
                    health_images(run), 100 * error);
  if (lead > error) return {Verdict::good, question, "Yes (" + figures + ")."};
  if (lead < -error) return {Verdict::bad, question, "No: the " + rival.first + " is ahead (" + figures + ")."};
  const std::string state = lead > 0   ? "It leads the " + rival.first + ", but by less"
                            : lead < 0 ? "It trails the " + rival.first + ", but by less"
                                       : "It is level with the " + rival.first + ", as far";
  return {Verdict::unclear, question,
          state + (lead == 0 ? " as so few images can tell (" : " than so few images can tell (") + figures + ")."};
}

// Over the whole training, epoch by epoch: quarters of the subnets by size, or the smallest and the largest.
Finding judge_epochs(const RunData& run) {
  const std::string question = "Did large subnets fall behind small ones in held-out accuracy?";
  const bool quarters = !run.log.held_out.empty() && run.log.held_out.back().accuracy.count("quarter_1") > 0;
  const std::string kind = quarters ? " quarter" : "";
  int64_t epochs = 0, behind = 0, ahead = 0, last = 0;
  double error = 0;
  for (const HeldOutRecord& record : run.log.held_out) {
    const auto small = record.accuracy.find(quarters ? "quarter_1" : "smallest");
    const auto large = record.accuracy.find(quarters ? "quarter_4" : "largest");
    if (small == record.accuracy.end() || large == record.accuracy.end()) continue;
    ++epochs;
    error = kErrors * difference_error(small->second, large->second, health_images(run));
    const bool less = small->second - large->second > error;
    behind += less;
    ahead += large->second > small->second;
    if (less) last = record.epoch;
  }
  if (epochs == 0)
    return {Verdict::unknown, question, "No held-out accuracies of the smallest and the largest subnet are logged."};
  const std::string counts =
      format("; in the last a difference counts from %.1f points, two standard errors", 100 * error);
  if (behind == 0)  // nor was it often ahead: then noise may hide that it is behind
    return {ahead * 2 > epochs ? Verdict::good : Verdict::unclear, question,
            concat("No: after none of ", epochs, epochs == 1 ? " epoch" : " epochs", " was the largest", kind,
                   " clearly behind the smallest (it was ahead after ", ahead, counts, ").")};
  const std::string answer = concat("after ", behind, " of ", epochs, " epochs the largest", kind,
                                    " was clearly behind the smallest, last after epoch ", last, ".");
  const bool early = last * 2 <= run.log.held_out.back().epoch;
  return {early ? Verdict::good : Verdict::bad, question, (early ? "Only early: " : "Yes: ") + answer};
}

// The drawn subnets by size, in the last quarter of the steps.
Finding judge_sizes(const RunData& run) {
  const std::string question = "Is the loss of large drawn subnets below that of small ones?";
  std::vector<std::pair<double, double>> drawn;  // parameters, loss
  const auto& steps = run.log.steps;
  for (size_t i = steps.size() * 3 / 4; i < steps.size(); ++i) {
    if (std::isfinite(steps[i].loss) && std::isfinite(steps[i].params))
      drawn.emplace_back(steps[i].params, steps[i].loss);
  }
  if (drawn.size() < kFewestSteps)
    return {Verdict::unknown, question, "Too few steps with a known subnet in the last quarter to say."};
  std::sort(drawn.begin(), drawn.end());
  const size_t third = drawn.size() / 3;
  const double smallest = drawn[third - 1].first, largest = drawn[drawn.size() - third].first;
  if (smallest >= largest) return {Verdict::unknown, question, "Too many of the subnets drawn are of one size to say."};
  // Equals are all in: choosing among them, by loss or by time, would tilt the comparison.
  std::vector<double> small, large;
  for (const auto& [params, loss] : drawn) {
    if (params <= smallest) small.push_back(loss);
    if (params >= largest) large.push_back(loss);
  }
  const Mean low = mean_of(small), high = mean_of(large);
  const std::string figures = format(
      "%.4f for the largest third of the subnets drawn in the last quarter of the steps, %.4f for the smallest third",
      high.value, low.value);
  const double error = kErrors * error_of_difference(low, high);
  const std::string counts = format(" (a difference counts from %.4f, two standard errors)", error);
  if (high.value - low.value > error) return {Verdict::bad, question, "No, it is above: " + figures + counts + "."};
  const bool below = low.value - high.value > error;
  return {below ? Verdict::good : Verdict::unclear, question,
          (below ? "Yes: " : "They are level within noise: ") + figures + counts + "."};
}

// Of a search's first candidates, which are drawn at random.
Finding judge_search(const RunData& run) {
  const std::string question = "Are larger candidates of the search more accurate?";
  std::vector<double> params, accuracy;
  if (run.searches.empty()) return {Verdict::unknown, question, "There was no search."};
  for (const Candidate& candidate : run.searches.front().candidates) {
    if (candidate.generation != 0 || candidate.stopped) continue;
    params.push_back(static_cast<double>(get(candidate.costs, Metric::params)));
    accuracy.push_back(candidate.accuracy);
  }
  if (params.size() < kFewestCandidates)
    return {Verdict::unknown, question,
            concat("Too few candidates of the first, random generation were scored completely to say: ", params.size(),
                   ".")};
  const double correlation = rank_correlation(params, accuracy);
  if (!std::isfinite(correlation)) return {Verdict::unknown, question, "They are all of one size, or of one accuracy."};
  // Spearman's correlation of two unrelated lists of n has variance 1 / (n - 1). Within limits a weak negative one need
  // not be ill: deep and narrow subnets against shallow and wide ones.
  const double error = kErrors / std::sqrt(static_cast<double>(params.size() - 1));
  const std::string figures = format(
      "rank correlation of parameters and accuracy %.2f over the %zu candidates of the first, random generation that "
      "were scored completely (it counts from %.2f, two standard errors of unrelated lists)",
      correlation, params.size(), error);
  if (correlation < -std::max(kIllCorrelation, error)) return {Verdict::bad, question, "No, less: " + figures + "."};
  if (correlation > error) return {Verdict::good, question, "Yes: " + figures + "."};
  return {Verdict::unclear, question, "Too weak to say: " + figures + "."};
}

std::ptrdiff_t count_of(const Health& health, Verdict verdict) {
  return std::count_if(health.findings.begin(), health.findings.end(),
                       [&](const Finding& f) { return f.verdict == verdict; });
}

// "4 checks good, 2 unclear, 1 not made".
std::string tally(const Health& health) {
  std::string words;
  for (const auto& [verdict, name] : {std::pair<Verdict, const char*>{Verdict::bad, "bad"},
                                      {Verdict::good, "good"},
                                      {Verdict::unclear, "unclear"},
                                      {Verdict::unknown, "not made"}}) {
    const auto count = count_of(health, verdict);
    if (count > 0)
      words +=
          concat(words.empty() ? "" : ", ", count, words.empty() ? (count == 1 ? " check " : " checks ") : " ", name);
  }
  return words;
}

void conclude(Health& health, bool subnet) {
  const std::string what = subnet ? "the training" : "the supernet";
  const auto good = count_of(health, Verdict::good), unclear = count_of(health, Verdict::unclear);
  const auto verdict_of = [&](size_t finding) { return health.findings[finding].verdict; };
  const bool judged =
      verdict_of(1) == Verdict::good && (subnet || verdict_of(2) == Verdict::good || verdict_of(2) == Verdict::unclear);
  if (count_of(health, Verdict::bad) > 0) {
    health.verdict = Verdict::bad;
    health.words = "T" + what.substr(1) + " is not healthy";
  } else if (judged && (!subnet || verdict_of(0) == Verdict::good)) {
    health.verdict = good > unclear ? Verdict::good : Verdict::unclear;
    health.words =
        good > unclear ? "T" + what.substr(1) + " looks healthy" : "Whether " + what + " is healthy is unclear";
  } else {
    health.words = "Whether " + what + " is healthy cannot be said";
  }
  health.words += ": " + tally(health) + ".";
}

}  // namespace

Health judge_health(const RunData& run) {
  Health health;
  const bool subnet = run.config && run.config->subnet;
  health.findings = {judge_finite(run), judge_fall(run)};
  if (!subnet) {
    for (const auto judge : {judge_lead, judge_epochs, judge_sizes, judge_search})
      health.findings.push_back(judge(run));
  }
  conclude(health, subnet);
  return health;
}

}  // namespace entangle
