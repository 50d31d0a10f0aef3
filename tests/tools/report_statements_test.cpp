// What the page claims about figures: how far they can be trusted, what they are limited by, and what cannot be said.
#include <cmath>

#include "nn/checkpoint.h"
#include "tests/small_supernet.h"
#include "tests/tools/programs_fixture.h"
#include "tests/tools/report_fixture.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

const char* const kTested =
    "{\"end\":{\"candidates\":2,\"test\":{\"images\":10000,\"loss\":0.4,\"top1\":8755,\"top5\":9966}}}\n";

int count_in(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
  return count;
}

std::string header(const std::string& options) {
  return R"({"format":"search log","format_version":2,"options":{"algorithm":"evolution","population":3,"generations":2,)"
         R"("objectives":"params,macs")" +
         options + "},\"space\":{}}\n";
}

std::string configuration(const std::vector<std::string>& settings) {
  return parse_config(kTinyConfig, "tiny", settings).to_yaml();
}

TEST_F(Report, TheTestFigureComesFirstAndTheSearchsIsCalledBiased) {
  write("run", "config.yaml", kTinyConfig);
  const std::string found = std::string(kHeader) + "\n" + candidate_line(0.5, 5000) + candidate_line(0.875, 7000);
  write("run", "search.jsonl", found + kTested);
  std::string words = words_of({"run"});
  expect_words(words,
               {"87.55 ± 0.33 % top-1, 10,000 test images", "87.50 % top-1, 40 held-out images, used by the search",
                "± is one standard error", "the best of 2 candidates on the held-out images", "biased upward."});
  EXPECT_LT(words.find("10,000 test images"), words.find("40 held-out images"));
  EXPECT_EQ(count_in(words, "87.55 ± 0.33 %"), 2) << "in the summary, and of the winner";
  EXPECT_LT(words.find("Top-1, test images"), words.find("Top-1, held-out images, used by the search"));
  write("run", "search.jsonl", found);
  words = words_of({"run"});
  expect_words(words, {"87.50 % top-1, 40 held-out images, used by the search",
                       "biased upward; the test images, which would tell, have not been read",
                       "Top-1, test images not recorded"});
  EXPECT_EQ(words.find("±"), std::string::npos);
}

TEST(ReportWords, ErrorsAndCosts) {
  EXPECT_DOUBLE_EQ(share_error(0.5, 100), 0.05);
  EXPECT_EQ(percent_with_error(0.8755, 10000), "87.55 ± 0.33 %");
  EXPECT_EQ(percent_with_error(0.5, 0), "50.00 %");
  EXPECT_EQ(percent_with_error(1, 30), "100.00 %") << "an error of nothing would be a lie";
  EXPECT_EQ(cost_words(Metric::params, 623146), "623,146");
  EXPECT_EQ(cost_words(Metric::activation_bytes, 1621604), "1.62 MB");
  EXPECT_EQ(cost_words(Metric::activation_bytes, 999), "999 bytes");
  EXPECT_EQ(cost_words(Metric::activation_bytes, 2500), "2.5 kB");
  EXPECT_EQ(cost_words(Metric::latency, 3250000), "3.25 ms");
}

TEST_F(Report, LimitsStandBesideWhatTheyLimit) {
  write("run", "config.yaml", kTinyConfig);
  const std::string found = candidate_line(0.5, 7000, ",\"activation_bytes\":1621604,\"latency_ns\":2000000");
  write("run", "search.jsonl", std::string(kHeader) + "\n" + found);
  std::string words = words_of({"run"});
  expect_words(words, {"7,000 parameters of at most 9,000", "Parameters 7,000 of at most 9,000",
                       "14k multiply-accumulates an image "});
  EXPECT_EQ(words.find("latency of"), std::string::npos);
  write(
      "run", "search.jsonl",
      header(
          R"(,"min_params":1000,"max_params":9000,"max_macs":20000,"max_activation_bytes":2000000,"min_latency_ms":1,)"
          R"("max_latency_ms":3.25)") +
          found);
  words = words_of({"run"});
  expect_words(
      words,
      {"parameters of at least 1,000 and at most 9,000", "multiply-accumulates an image, of at most 20,000",
       "1.62 MB activations of a training step of at most 2 MB", "2 ms latency of at least 1 ms and at most 3.25 ms",
       "Multiply-accumulates of an image 14,000 of at most 20,000",
       "1.62 MB of at most 2 MB (1,621,604 bytes, 1 image)", "2 ms of at least 1 ms and at most 3.25 ms"});
  expect_words(words, {"Accuracy against activations, MB"});
  EXPECT_EQ(count_in(page, ">at most 2</text>"), 1) << "in the unit of the axis";
  // Of a subnet that this search did not find nothing was asked.
  write("run", "best_architecture.json", small().to_json());
  words = words_of({"run"});
  EXPECT_EQ(words.find("parameters of at"), std::string::npos);
  EXPECT_EQ(words.find("used by the search"), std::string::npos);
}

TEST_F(Report, SaysWhatTheSearchCanTellApart) {
  write("run", "config.yaml", kTinyConfig);
  const std::string images = ",\"images\":400";
  const auto words = [&](double middle, double best, const std::string& more) {
    write("run", "search.jsonl",
          header("") + candidate_line(0.8, 4000, images) + candidate_line(middle, 5000, images) +
              candidate_line(best, 8000, images + ",\"generation\":1") + more);
    return words_of({"run"});
  };
  // 0.85 of 400 images: 1.79 points. One candidate with fewer parameters was given up: it is not of the front.
  const std::string given_up = candidate_line(0.845, 1000, images + ",\"stopped\":true");
  expect_words(
      words(0.84, 0.85, given_up),
      {"85.00 % on 400 images, has a standard error of 1.79 points",
       "the best rose by 1.00 points, no more than one standard error",
       "fewest parameters within one standard error of it has 5,000 (84.00 %), the best has 8,000",
       "Each front is that of the 3 candidates scored completely",
       "Of those given up only bounds are known, drawn as hollow circles: none is more accurate than that",
       "The front of the 3 candidates scored completely, in accuracy, parameters and multiply-accumulates (3 subnets)",
       "The median is that of all candidates so far"});
  const std::string sure = words(0.81, 0.9, "");
  expect_words(sure, {"the best rose by 9.00 points, more than one standard error",
                      "no subnet of the front with fewer parameters is within one standard error of it"});
  EXPECT_EQ(sure.find("Of those given up"), std::string::npos);
  write("run", "search.jsonl", header("") + candidate_line(0.8, 4000, ",\"images\":0"));
  EXPECT_EQ(words_of({"run"}).find("standard error of"), std::string::npos) << "of how many images is not known";
  write("run", "search.jsonl", header("") + candidate_line(1, 4000, images));
  EXPECT_EQ(words_of({"run"}).find("standard error of"), std::string::npos) << "an error of nothing";
  write("run", "search.jsonl", header("") + candidate_line(0.8, 4000, ",\"stopped\":true"));
  EXPECT_EQ(words_of({"run"}).find("Each front"), std::string::npos);
}

TEST_F(Report, ChartsOfASearchMarkItsCandidatesAlike) {
  write("run", "config.yaml", kTinyConfig);
  write("run", "search.jsonl",
        header("") + candidate_line(0.8, 4000) + candidate_line(0.85, 8000) +
            candidate_line(0.7, 5000, ",\"stopped\":true") + candidate_line(0.75, 6000, ",\"stopped\":true") +
            candidate_line(0.76, 6500, ",\"stopped\":true"));
  words_of({"run"});
  for (const char* title : {"Progress", "Accuracy against parameters", "Accuracy against multiply-accumulates"}) {
    const size_t begin = page.find("aria-label=\"" + std::string(title) + "\"");
    ASSERT_NE(begin, std::string::npos) << title;
    const std::string chart = page.substr(begin, page.find("</svg>", begin) - begin);
    EXPECT_EQ(count_in(chart, "class=\"hollow\""), 3 + 1) << title << ": those and the legend's";
    EXPECT_EQ(count_in(chart, "class=\"solid\""), 2 + 1) << title;
    EXPECT_LT(chart.find("class=\"hollow\""), chart.find("class=\"solid\"")) << title;
    for (const char* name : {">given up: a bound</text>", ">scored completely</text>"})
      EXPECT_EQ(count_in(chart, name), 1) << title << name;
    EXPECT_EQ(count_in(chart, ">median of all so far</text>"), std::string(title) == "Progress" ? 1 : 0);
  }
}

// Hidden widths are drawn to the supernet's, 16 x 2: 120 pixels.
TEST_F(Report, TheWinnerIsDrawnToTheSupernetsScale) {
  write("run", "config.yaml", kTinyConfig);
  write("run", "best_architecture.json", Architecture::uniform(1, 8, 1, 2).to_json());
  expect_words(words_of({"run"}), {"MLP: hidden width, at most 32", "× 2 = 16"});
  EXPECT_EQ(count_in(page, "class=\"ratio\" x=\"164.0\" y=\"44.0\" width=\"60.0\""), 1);
  write("run", "best_architecture.json", large().to_json());
  words_of({"run"});
  EXPECT_EQ(count_in(page, "class=\"ratio\" x=\"164.0\" y=\"44.0\" width=\"120.0\""), 1);
}

class ReportHealth : public Report {
 protected:
  static constexpr size_t kLead = 2, kEpochsBehind = 3, kSizes = 4, kSearch = 5;
  Health judge(const std::string& log, const std::string& search = "") {
    write("run", "config.yaml", kTinyConfig);
    write("run", "log.jsonl", log);
    if (!search.empty()) write("run", "search.jsonl", search);
    return judge_health(read_run(dir.path("run")));
  }
  static void expect_finding(const Health& health, size_t which, Verdict verdict, const std::string& answer) {
    const Finding& finding = health.findings[which];
    EXPECT_EQ(finding.verdict, verdict) << finding.answer;
    EXPECT_NE(finding.answer.find(answer), std::string::npos) << finding.answer;
  }
  static std::string held_out(double smallest, double middle, double largest) {
    return concat("{\"smallest\":", smallest, ",\"middle\":", middle, ",\"largest\":", largest, "}");
  }
  // Twelve random candidates of rising size; `place` is the rank of the i-th one's accuracy.
  template <class Place>
  static std::string searched(const Place& place) {
    std::string text = std::string(kHeader) + "\n";
    for (int i = 0; i < 12; ++i) text += candidate_line(0.5 + 0.01 * place(i), 5000 + 100 * i);
    return text;
  }
};

// On twenty images, 0.5 and 0.55 are 0.16 apart by chance: 31.5 points are two standard errors.
TEST_F(ReportHealth, WhatIsBelowItsThresholdIsUnclear) {
  const auto lead = [&](double middle, double largest, Verdict verdict, const std::string& answer) {
    expect_finding(judge(log_text(200, held_out(0.1, middle, largest))), kLead, verdict, answer);
  };
  lead(0.55, 0.5, Verdict::unclear, "It trails the middle, but by less than so few images can tell");
  lead(0.55, 0.5, Verdict::unclear, "on 20 held-out images; a difference counts from 31.5 points, two standard errors");
  lead(0.5, 0.55, Verdict::unclear, "It leads the middle, but by less than");
  lead(0.5, 0.5, Verdict::unclear, "It is level with the middle, as far as so few images can tell");
  lead(0.1, 0.9, Verdict::good, "a difference counts from 19.0 points");
  lead(0.9, 0.1, Verdict::bad, "No: the middle is ahead");
  const std::string even = held_out(0.5, 0.5, 0.5);
  expect_finding(judge(log_text(200, even)), kEpochsBehind, Verdict::unclear, "it was ahead after 0; in the last a");
  expect_finding(judge(log_text(200, held_out(0.5, 0.5, 0.55))), kEpochsBehind, Verdict::good, "it was ahead after 1;");
  expect_finding(judge(log_text(200, held_out(0.9, 0.5, 0.1))), kEpochsBehind, Verdict::bad, "after 1 of 1 epochs");
  expect_finding(judge(log_text(200, even)), kSizes, Verdict::unclear, "level within noise");
  for (const bool below : {true, false}) {
    std::string sizes;
    for (int i = 1; i <= 200; ++i)
      sizes += step_line(i, ((i % 2 == 0) == below ? 1.0 : 1.5) + 1.0 / i, i % 2 == 0 ? large() : small());
    expect_finding(judge(sizes), kSizes, below ? Verdict::good : Verdict::bad, "(a difference counts from 0.00");
  }
  expect_finding(judge(log_text(200, even)), 1, Verdict::good,
                 "over the last tenth 1.0475 (a difference counts from 0.0");
}

// Of twelve, 2 / sqrt(11) = 0.60 counts.
TEST_F(ReportHealth, ARankCorrelationCountsWhenItIsSignificant) {
  const std::string log = log_text(200, held_out(0.1, 0.1, 0.9)), counts = "it counts from 0.60, two standard errors";
  expect_finding(judge(log, searched([](int i) { return i; })), kSearch, Verdict::good, "Yes: rank correlation");
  expect_finding(judge(log, searched([](int i) { return i; })), kSearch, Verdict::good, counts);
  expect_finding(judge(log, searched([](int i) { return 5 * i % 12; })), kSearch, Verdict::unclear, "Too weak to say");
  const Health sick = judge(log, searched([](int i) { return -i; }));
  expect_finding(sick, kSearch, Verdict::bad, "No, less: rank correlation of parameters and accuracy -1.00");
  EXPECT_EQ(sick.verdict, Verdict::bad);
  EXPECT_EQ(sick.words, "The supernet is not healthy: 1 check bad, 4 good, 1 unclear.");
}

TEST_F(ReportHealth, TheSummaryCountsWhatIsUnclear) {
  const std::string rises = searched([](int i) { return i; }), mixed = searched([](int i) { return 5 * i % 12; });
  const Health good = judge(log_text(200, held_out(0.1, 0.55, 0.5)), rises);
  EXPECT_EQ(good.words, "The supernet looks healthy: 4 checks good, 2 unclear.");
  EXPECT_EQ(good.verdict, Verdict::good);
  const Health unclear = judge(log_text(200, held_out(0.5, 0.5, 0.5)), mixed);
  EXPECT_EQ(unclear.words, "Whether the supernet is healthy is unclear: 2 checks good, 4 unclear.");
  EXPECT_EQ(unclear.verdict, Verdict::unclear);
  expect_words(words_of({"run"}),
               {"~ unclear Whether the supernet is healthy is unclear", "~ unclear Does the largest"});
  EXPECT_EQ(judge(log_text(200, held_out(0.9, 0.5, 0.1)), rises).words,
            "The supernet is not healthy: 2 checks bad, 3 good, 1 unclear.");
  EXPECT_EQ(judge(log_text(3, "{}"), rises).verdict, Verdict::unknown);
}

TEST_F(Report, AnIntroductionSaysWhatWasTrainedAndWhatWordsMean) {
  const std::string log = log_text(30, R"({"smallest":0.5,"largest":0.5})");
  write("run", "config.yaml", configuration({"DATA.spec=fashion-mnist"}));
  write("run", "log.jsonl", log);
  std::string words = words_of({"run"});
  expect_words(
      words, {"A supernet of 40 architectures, trained on fashion-mnist (28 × 28 pixels, 10 classes) in 30 steps of 8 "
              "images, up to epoch 1 of 6.",
              "(label smoothing 0.1, mixed images): it cannot fall below 0.50, however many images are right",
              "Smallest, middle and largest are", "inherit from the supernet, without retraining"});
  EXPECT_LT(words.find("A supernet of 40"), words.find("Summary"));
  EXPECT_EQ(count_in(words, "A supernet of 40"), 1);
  write("one", "config.yaml", parse_config(kTinyConfig, "tiny").dense(large()).to_yaml());
  words = words_of({"one"});
  expect_words(words, {"One subnet, trained on data"});
  EXPECT_EQ(words.find("without retraining"), std::string::npos);
  write("plain", "config.yaml", configuration({"DATA.label_smoothing=0", "DATA.mixup_alpha=0", "DATA.cutmix_alpha=0"}));
  words = words_of({"plain"});
  expect_words(words, {"trained on data that the configuration does not name"});
  for (const char* absent : {"leave doubt", "steps of"}) EXPECT_EQ(words.find(absent), std::string::npos) << absent;
  EXPECT_EQ(count_in(words_of({"run", "plain"}), "A supernet of 40"), 2) << "of several runs, each in its card";
  write("taught", "config.yaml", configuration({"TRAIN.teacher=weights"}));
  EXPECT_EQ(words_of({"taught"}).find("cannot fall below"), std::string::npos)
      << "a teacher's labels have another floor";
}

TEST_F(Report, MemoryIsThatOfABatch) {
  const std::string log = log_text(30, "{}");
  write("run", "log.jsonl", log);
  write("run", "config.yaml", kTinyConfig);
  expect_words(words_of({"run"}), {"MiB at the peak, batch size 8 "});
  write("parts", "log.jsonl", log);
  write("parts", "config.yaml", configuration({"TRAIN.accumulate=2"}));
  expect_words(words_of({"parts"}), {"MiB at the peak, batch size 8 in 2 parts "});
  expect_words(words_of({"run", "parts"}), {"MiB at the peak, each at its batch size "});
}

// Three patches a side: of distances up to 5 those beyond 2 are no two patches'.
TEST_F(Report, DistancesThatNothingTrainedAreHatched) {
  SupernetConfig model = small_config();
  model.max_relative_position = 5;
  const Supernet supernet(model, 3);
  for (const char* axis :
       {"k.embeddings_table_v", "k.embeddings_table_h", "v.embeddings_table_v", "v.embeddings_table_h"}) {
    for (int block = 0; block < model.depth; ++block) {
      const Tensor table = supernet.parameters().find(concat("blocks.", block, ".attn.rel_pos_embed_", axis))->tensor;
      for (int64_t i = 0; i < table.count(); ++i) {
        const int64_t row = i / model.head_dim, distance = row - 6;
        table.data()[i] = row == 0 ? 0.5f : std::abs(distance) > 2 ? 1000.0f : 0.25f;
      }
    }
  }
  save_checkpoint(dir.path("weights.safetensors"), supernet, {});
  RunData run;
  run.weights = dir.path("weights.safetensors");
  run.config = Config();
  run.config->model = model;
  run.winner = Winner{mixed_architecture(), std::nullopt, true};
  const std::string part = inside_section(run);
  EXPECT_EQ(count_in(part, "class=\"hatch\""), 4 * 6) << "three at each end of four panels";
  EXPECT_EQ(count_in(part, ">strongest 0.5</text>"), 4) << "what was never trained is no maximum";
  EXPECT_EQ(count_in(part, ">−5</text>"), 4);
  EXPECT_EQ(count_in(part, ">+5</text>"), 4);
  // Two cells of the class token and ten of patches, in two shades; nothing is drawn elsewhere.
  EXPECT_EQ(count_in(part, "fill-opacity=\"1.0\" d=\"M0 0h1v1h-1zM0 1h1v1h-1z\""), 4);
  EXPECT_EQ(count_in(part, "fill-opacity=\"0.5\" d=\"M4 0h5v1h-5zM4 1h5v1h-5z\""), 4);
  for (const char* words :
       {"are more than 2 apart", "are hatched", "each panel is scaled by its own", "Rows never trained are blank"})
    EXPECT_NE(part.find(words), std::string::npos) << words;
}

}  // namespace
}  // namespace entangle
