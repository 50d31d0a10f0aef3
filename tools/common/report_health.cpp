#include "tools/common/report_health.h"

#include <algorithm>

#include "engine/check.h"
#include "tools/common/html.h"
#include "tools/common/latency.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

constexpr size_t kFewestSteps = 20;       // that a course can be told from
constexpr size_t kFewestCandidates = 10;  // that a rank correlation is told of
constexpr size_t kTenths = 10;
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
  const std::string figures =
      format("from %.4f (mean of the first tenth of the steps) to %.4f (of the last)", first.value, last.value);
  if (!(first.value - last.value > kErrors * error_of_difference(first, last)))
    return {Verdict::bad, question, "No: it went " + figures + "."};
  const double fall = first.value - lowest->value, rise = last.value - lowest->value;
  if (rise > 0.1 * fall && rise > kErrors * error_of_difference(last, *lowest))
    return {Verdict::bad, question,
            concat("It fell and rose again: ", figures, ", with ", format("%.4f", lowest->value), " in the ",
                   1 + (lowest - tenths.begin()), "th tenth.")};
  return {Verdict::good, question, "Yes, " + figures + "."};
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
    if (name != "largest" && accuracy > rival.second) rival = {name, accuracy};
    figures += (figures.empty() ? "" : ", ") + name + " " + percent(accuracy);
  }
  figures += format(" on %.0f held-out images", health_images(run));
  const double lead = largest->second - rival.second;
  const bool noise = std::fabs(lead) <= kErrors * difference_error(largest->second, rival.second, health_images(run));
  if (lead < 0 && !noise) return {Verdict::bad, question, "No: the " + rival.first + " is ahead (" + figures + ")."};
  if (lead <= 0)
    return {Verdict::good, question,
            "It is level with the " + rival.first + ", within what so few images can tell (" + figures + ")."};
  return {Verdict::good, question,
          std::string("Yes") + (noise ? ", though by less than so few images can tell" : "") + " (" + figures + ")."};
}

// Over the whole training, epoch by epoch.
Finding judge_epochs(const RunData& run) {
  const std::string question = "Did large subnets fall behind small ones in held-out accuracy?";
  int64_t epochs = 0, behind = 0, last = 0;
  for (const HeldOutRecord& record : run.log.held_out) {
    const auto small = record.accuracy.find("smallest"), large = record.accuracy.find("largest");
    if (small == record.accuracy.end() || large == record.accuracy.end()) continue;
    ++epochs;
    const bool less =
        small->second - large->second > kErrors * difference_error(small->second, large->second, health_images(run));
    behind += less;
    if (less) last = record.epoch;
  }
  if (epochs == 0)
    return {Verdict::unknown, question, "No held-out accuracies of the smallest and the largest subnet are logged."};
  if (behind == 0)
    return {Verdict::good, question,
            concat("No: after none of ", epochs, epochs == 1 ? " epoch" : " epochs",
                   " was the largest clearly behind the smallest.")};
  const std::string answer =
      concat("after ", behind, " of ", epochs, " epochs the largest was clearly behind the smallest, last after epoch ",
             last, ".");
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
  std::stable_sort(drawn.begin(), drawn.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<double> small, large;
  const size_t third = drawn.size() / 3;
  for (size_t i = 0; i < third; ++i)
    small.push_back(drawn[i].second), large.push_back(drawn[drawn.size() - 1 - i].second);
  const Mean low = mean_of(small), high = mean_of(large);
  const std::string figures = format(
      "%.4f for the largest third of the subnets drawn in the last quarter of the steps, %.4f for the smallest third",
      high.value, low.value);
  const double error = kErrors * error_of_difference(low, high);
  if (high.value - low.value > error) return {Verdict::bad, question, "No, it is above: " + figures + "."};
  return {Verdict::good, question,
          (low.value - high.value > error ? "Yes: " : "They are level within noise: ") + figures + "."};
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
  const std::string figures = format(
      "rank correlation of parameters and accuracy %.2f over the %zu candidates of the first, random generation that "
      "were scored completely",
      correlation, params.size());
  if (!std::isfinite(correlation)) return {Verdict::unknown, question, "They are all of one size, or of one accuracy."};
  if (correlation < -0.5) return {Verdict::bad, question, "No, less: " + figures + "."};
  return {Verdict::good, question,
          (correlation > 0.2 ? "Yes: " : "Neither more nor less within the limits: ") + figures + "."};
}

void conclude(Health& health, bool subnet) {
  const auto count = [&](Verdict verdict) {
    return std::count_if(health.findings.begin(), health.findings.end(),
                         [&](const Finding& f) { return f.verdict == verdict; });
  };
  const char* what = subnet ? "The training" : "The supernet";
  const auto bad = count(Verdict::bad), good = count(Verdict::good),
             all = static_cast<std::ptrdiff_t>(health.findings.size());
  const bool enough =
      subnet ? good == all : health.findings[2].verdict == Verdict::good && health.findings[1].verdict == Verdict::good;
  if (bad > 0) {
    health.verdict = Verdict::bad;
    health.words = concat(what, subnet ? " is" : " is", " not healthy: ", bad, " of ", all, " checks failed.");
  } else if (enough) {
    health.verdict = Verdict::good;
    health.words = concat(what, " looks healthy: ", good, " of ", all, " checks passed",
                          good == all ? "." : ", the others could not be made.");
  } else {
    health.words = concat("Whether ", subnet ? "the training" : "the supernet",
                          " is healthy cannot be said: ", all - good, " of ", all, " checks could not be made.");
  }
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
