// The page about runs: whole and strict markup, the right figures, and a page from whatever is left of a run.
#include "tools/common/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "nn/cost.h"
#include "tests/tools/page_checker.h"
#include "tests/tools/programs_fixture.h"
#include "tests/tools/report_fixture.h"
#include "tools/common/html.h"
#include "tools/common/plot.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

using nlohmann::json;

const std::string kDocument = "<!DOCTYPE html>\n";

TEST(PageChecker, RefusesWhatIsBroken) {
  EXPECT_EQ(PageChecker(kDocument + "<p class=\"a\">x &amp; y<br/></p>\n").fault(), "");
  EXPECT_EQ(PageChecker(kDocument + "<p>x  &lt; <b>y</b>\n</p>").words(), "x < y ");
  for (const char* broken :
       {"<p>", "<p></b></p>", "<p></p><p></p>", "<p>a & b</p>", "<p>a &nbsp; b</p>", "<p class=a></p>",
        "<p a=\"1\" a=\"2\"></p>", "<p a=\"<\"></p>", "<p a=\"1\"b=\"2\"></p>", "<p>1 < 2</p>", "<p><br></p>",
        "<p><script></script></p>", "<p>\x01</p>", "<p><img src=\"x.png\"/></p>", "<p><a href=\"http://x\"></a></p>",
        "<p onload=\"x\"></p>", "<style>p{background:url(x)}</style>", ""}) {
    EXPECT_NE(PageChecker(kDocument + broken).fault(), "") << broken;
  }
}

TEST(Html, EscapesWhateverComes) {
  EXPECT_EQ(escape_html("<a href='x'>\"&\"</a>\n"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;\n");
  EXPECT_EQ(escape_html("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"), "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(escape_html(std::string("a\0b\x1b\x7f", 5)), "a" + bad + "b" + bad + bad);
  EXPECT_EQ(escape_html("\xff\xc0\xaf"), bad + bad + bad);  // no UTF-8, overlong
  EXPECT_EQ(escape_html("\xed\xa0\x80"), bad + bad + bad);  // half of a surrogate pair
  EXPECT_EQ(escape_html("\xe2\x82"), bad + bad);            // cut off
  EXPECT_EQ(data_uri("t", "Man"), "data:t;base64,TWFu");
  EXPECT_EQ(data_uri("t", "Ma"), "data:t;base64,TWE=");
  EXPECT_EQ(data_uri("t", "M"), "data:t;base64,TQ==");
  EXPECT_EQ(grouped(0) + grouped(-999) + grouped(1000) + grouped(-1234567), "0-9991,000-1,234,567");
}

TEST(PlotSvg, PutsValuesWhereTheAxesSay) {
  const Plot plot = {"P",
                     {"x"},
                     {"y", true},
                     {{"s", 0, PlotSeries::Form::dots, {{0, 0}, {5, 50}, {10, 100}, {NAN, 1}, {1, INFINITY}}}}};
  const std::string svg = plot_svg(plot);
  std::vector<double> x, y;
  for (size_t at = svg.find("</text><g"); (at = svg.find("<circle class=\"dot\"", at)) != std::string::npos; ++at) {
    double cx = 0, cy = 0;
    if (std::sscanf(svg.c_str() + at, "<circle class=\"dot\" cx=\"%lf\" cy=\"%lf\"", &cx, &cy) == 2)
      x.push_back(cx), y.push_back(cy);
  }
  ASSERT_GE(x.size(), 3u) << svg;
  x.erase(x.begin(), x.end() - 3), y.erase(y.begin(), y.end() - 3);  // without the legend's
  EXPECT_NEAR(x[1] - x[0], x[2] - x[1], 0.11);
  EXPECT_NEAR(y[0] - y[1], y[1] - y[2], 0.11);
  EXPECT_GT(y[0] - y[2], 100) << "rising values go up";
  // A tick is where its value is drawn.
  double tick = 0;
  const size_t at = svg.find(">50</text>");
  ASSERT_NE(at, std::string::npos) << svg;
  ASSERT_EQ(std::sscanf(svg.c_str() + svg.rfind(" y=\"", at), " y=\"%lf", &tick), 1);
  EXPECT_NEAR(tick - 3.5, y[1], 0.11);
  EXPECT_EQ(PageChecker(kDocument + svg).fault(), "");
}

TEST(PlotSvg, HasNothingToDrawWithoutFiniteValues) {
  EXPECT_EQ(plot_svg({"P", {"x"}, {"y"}, {{"s", 0, PlotSeries::Form::line, {{NAN, 1}, {1, 1e300}}}}}), "");
  EXPECT_EQ(plot_svg({"P", {"x", false, true}, {"y"}, {{"s", 0, PlotSeries::Form::line, {{0, 1}, {-1, 1}}}}}), "");
  const std::string one =
      plot_svg({"P", {"x", false, true}, {"y", false, true}, {{"s", 0, PlotSeries::Form::line, {{3e9, 1e-9}}}}});
  EXPECT_NE(one, "");
  for (const char* broken : {"nan", "inf"}) EXPECT_EQ(one.find(broken), std::string::npos) << one;
}

TEST(PlotSvg, HasMoreThanTwoTicks) {
  const std::string svg = plot_svg({"P", {"x"}, {"y"}, {{"s", 0, PlotSeries::Form::dots, {{0, 85.4}, {5, 87.8}}}}});
  for (const char* tick : {">85.5</text>", ">86.0</text>", ">86.5</text>", ">87.0</text>", ">87.5</text>"})
    EXPECT_NE(svg.find(tick), std::string::npos) << tick;
  EXPECT_NE(plot_svg({"P", {"x"}, {"y"}, {{"s", 0, PlotSeries::Form::dots, {{0, 78}, {5, 88.5}}}}}).find(">84</text>"),
            std::string::npos);
}

TEST(HeatCells, AreShadesOfTheLargestMagnitude) {
  EXPECT_EQ(heat_cells({1, 1, -2, 0, NAN, 2}, 3),
            "<path class=\"cold\" fill-opacity=\"1.0\" d=\"M2 0h1v1h-1z\"/><path class=\"hot\" fill-opacity=\"0.5\" "
            "d=\"M0 0h2v1h-2z\"/>"
            "<path class=\"hot\" fill-opacity=\"1.0\" d=\"M2 1h1v1h-1z\"/>");
  EXPECT_EQ(heat_cells({0, 0}, 2), "");
}

TEST_F(Report, SaysWhatIsNoRun) {
  write_raw(dir.path("file"), "x");
  directory("empty");
  expect_error(error_of([&] { read_run(dir.path("none")); }),
               {"there is no " + dir.path("none"), "name the directory of a run"});
  expect_error(error_of([&] { read_run(dir.path("file")); }), {dir.path("file") + " is a file"});
  expect_error(error_of([&] { read_run(dir.path("empty")); }),
               {dir.path("empty") + " is no run directory", "log.jsonl"});
}

TEST_F(Report, TornLogsAndOtherKeysAreReadAsFarAsTheyGo) {
  const std::string whole = log_text(40, R"({"smallest":0.25,"middle":0.5,"largest":0.75})");
  write("run", "config.yaml", kTinyConfig);
  write("run", "log.jsonl", whole + "{\"step\":41,\"loss\":1.0,\"archi");
  expect_words(words_of({"run"}),
               {"The last line of log.jsonl is torn", "Yes, in all 40 steps that were logged", "75.00 %"});
  write("run", "log.jsonl",
        "{\"step\":1}\n[1]\n\x01\xff\n{\"loss\":1,\"step\":\"two\"}\n{\"step\":3,\"novel\":{\"a\":[1]},\"loss\":2.5,"
        "\"architecture\":{\"depth\":-1}}\n" +
            std::string(64, '\0') + "\n");
  expect_words(words_of({"run"}), {"3 lines of log.jsonl cannot be read", "1 records of log.jsonl have no step",
                                   "do not follow one another in 1 place", "No step says which subnet it drew",
                                   "Too few steps to say: 1"});
  write("run", "log.jsonl", "");
  expect_words(words_of({"run"}), {"log.jsonl holds no steps", "No training is logged", "cannot be said"});
}

TEST_F(Report, MissingFilesAreNamed) {
  write("run", "log.jsonl", log_text(3, "{}"));
  expect_words(words_of({"run"}), {"There is no config.yaml", "There is no checkpoint.safetensors",
                                   "there is no search.jsonl", "No subnet has won"});
  write("other", "config.yaml", "MODEL: {unheard_of: 1}\n");
  write("other", "checkpoint.safetensors", "damaged");
  write("other", "best_architecture.json", "{}");
  expect_words(words_of({"other"}),
               {"config.yaml cannot be read", "unheard_of", "checkpoint.safetensors cannot be read",
                "There is no log.jsonl", "best_architecture.json cannot be read"});
}

TEST_F(Report, EmptySearchesAndLimitsThatNothingMeets) {
  write("run", "config.yaml", kTinyConfig);
  for (const std::string& text : {std::string(), std::string(kHeader), std::string(kHeader) + "\n",
                                  std::string(kHeader) + "\n{\"accuracy\":0.5}\n"}) {
    write("run", "search.jsonl", text);
    expect_words(words_of({"run"}), {"search.jsonl holds no candidates",
                                     "No subnet has won: the search has scored no candidate completely"});
  }
  write("run", "search.jsonl", std::string(kHeader) + "\n" + candidate_line(0.5, 5000) + candidate_line(0.625, 7000));
  expect_words(words_of({"run"}), {"Best so far, the search has not ended", "62.50 %", "7,000",
                                   "2 candidates in 1 of 1 generations", "The search has not ended", "at most 9000"});
}

// In steps of known loss and size each check is made to pass and to fail.
TEST_F(Report, HealthIsJudgedByTheFigures) {
  write("run", "config.yaml", kTinyConfig);
  const auto judge = [&](const std::string& log) {
    write("run", "log.jsonl", log);
    return judge_health(read_run(dir.path("run")));
  };
  const std::string leads = R"({"smallest":0.2,"middle":0.5,"largest":0.95})",
                    behind = R"({"smallest":0.95,"middle":0.5,"largest":0.2})";
  const Health good = judge(log_text(200, leads));
  EXPECT_EQ(good.verdict, Verdict::good) << good.words;
  EXPECT_NE(good.words.find("looks healthy: 4 checks good, 1 unclear, 1 not made."), std::string::npos) << good.words;
  EXPECT_NE(good.findings[1].answer.find("mean over the first tenth of the steps 1.9475, over the last tenth 1.0475"),
            std::string::npos)
      << good.findings[1].answer;
  const auto expect_bad = [&](const std::string& log, size_t which, const std::string& answer) {
    const Health health = judge(log);
    EXPECT_EQ(health.verdict, Verdict::bad);
    EXPECT_EQ(health.findings[which].verdict, Verdict::bad) << health.findings[which].question;
    EXPECT_NE(health.findings[which].answer.find(answer), std::string::npos) << health.findings[which].answer;
  };
  expect_bad(log_text(200, leads) + "{\"step\":201,\"loss\":null}\n", 0, "1 of 201 steps");
  expect_bad(log_text(200, leads, 1), 1, "No: mean over the first tenth of the steps 2.0525");
  expect_bad(log_text(200, behind), 2, "No: the smallest is ahead");
  expect_bad(log_text(200, behind), 3, "after 1 of 1 epochs");
  std::string sizes, rises;
  for (int i = 1; i <= 200; ++i)
    sizes += step_line(i, (i % 2 == 0 ? 1.5 : 1.0) + 1.0 / i, i % 2 == 0 ? large() : small());
  expect_bad(sizes, 4, "No, it is above: 1.50");
  for (int i = 1; i <= 200; ++i) rises += step_line(i, std::fabs(i - 120) / 100 + 0.1, small());
  expect_bad(rises, 1, "fell and rose again");
}

TEST_F(Report, CountsWhatWasDrawn) {
  write("run", "config.yaml", kTinyConfig);
  std::string log;
  for (int i = 1; i <= 100; ++i) log += step_line(i, 1, i <= 51 ? small() : large());
  write("run", "log.jsonl", log);
  const RunData run = read_run(dir.path("run"));
  EXPECT_EQ(run.log.drawn.depth, (std::map<double, int64_t>{{1, 51}, {2, 49}}));
  EXPECT_EQ(run.log.drawn.num_heads, (std::map<double, int64_t>{{1, 51}, {2, 98}})) << "once a block";
  const auto shares = draw_shares(run.log.drawn.num_heads, run.config->space.num_heads);
  EXPECT_DOUBLE_EQ(shares[1].share, 98.0 / 149);
  EXPECT_DOUBLE_EQ(shares[1].error, std::sqrt(0.25 / 149));
  // Depth is as it should be, heads are not.
  expect_words(words_of({"run"}), {"51 · 51.00 %", "98 · 65.77 %", "heads 2 in 65.77 % instead of 50.00 %"});
  EXPECT_EQ(page.find("depth 1 in 51.00"), std::string::npos);
}

TEST_F(Report, SeveralRunsShareTheirCurves) {
  for (const char* name : {"first", "second"}) {
    write(name, "config.yaml", kTinyConfig);
    write(name, "log.jsonl", log_text(30, R"({"smallest":0.5,"largest":0.5})"));
  }
  const std::string both = words_of({"first", "second"});
  expect_words(both, {"Runs first, second", "Run first", "Run second", "Held-out accuracy, largest"});
  const size_t loss = page.find("aria-label=\"Training loss\"");
  ASSERT_NE(loss, std::string::npos);
  const std::string plot = page.substr(loss, page.find("</svg>", loss) - loss);
  size_t lines = 0;
  for (size_t at = 0; (at = plot.find("<path class=\"l\"", at)) != std::string::npos; ++at) ++lines;
  EXPECT_EQ(lines, 4u) << "two curves, two keys of the legend";
  for (const char* name : {">first</text>", ">second</text>"}) EXPECT_NE(plot.find(name), std::string::npos) << plot;
}

TEST_F(Report, EscapesEverythingThatFilesSay) {
  const std::string evil = "<script>alert(1)</script>\"'&", run = "<b>&\"'";
  write(run, "config.yaml", kTinyConfig);
  write(run, "environment.json", json({{evil, evil}}).dump());
  const json header = {{"format", evil},
                       {"options", {{"algorithm", evil}, {"objectives", evil}, {"subject", evil}, {"population", 2}}}};
  write(run, "search.jsonl", header.dump() + "\n" + candidate_line(0.5, 5000));
  write(run, "search-" + std::string("<i>.jsonl"), header.dump() + "\n" + candidate_line(0.5, 5000));
  write(run, "log.jsonl", log_text(30, json({{evil, 0.5}}).dump()));
  write(run, "best_architecture.json", "{\"" + std::string("<u>") + "\":1}");
  expect_words(words_of({run}), {"Run " + run, "(" + evil + ")", "search-<i>.jsonl"});
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("<b>&"), std::string::npos);
}

TEST_F(Report, APublishedSpaceHasItsPublishedSubnet) {
  for (const auto& [space, top1] : {std::pair<std::string, std::string>{"T", "74.7"}, {"S", "81.7"}, {"B", "82.4"}}) {
    const Config config = load_config(space);
    write(space, "config.yaml", config.to_yaml());
    write(space, "search.jsonl", std::string(kHeader) + "\n" + candidate_line(0.5, 8000000));
    expect_words(words_of({space}), {"AutoFormer-" + space, "published: " + top1 + " %"});
  }
  write("tiny", "config.yaml", kTinyConfig);
  write("tiny", "search.jsonl", std::string(kHeader) + "\n" + candidate_line(0.5, 5000));
  EXPECT_EQ(words_of({"tiny"}).find("published: "), std::string::npos);
}

// The number before some words in the page, without its commas.
double number_before(const std::string& words, const std::string& what) {
  size_t end = words.find(what);
  if (end == std::string::npos) return NAN;
  end = words.find_last_of("0123456789", end) + 1;
  const size_t begin = words.find_last_not_of("0123456789,.", end - 1) + 1;
  std::string digits = words.substr(begin, end - begin);
  digits.erase(std::remove(digits.begin(), digits.end(), ','), digits.end());
  return std::strtod(digits.c_str(), nullptr);
}

// What programs write by themselves; its figures are those of the run's files.
TEST_F(Programs, PagesSayWhatTheRunsFilesSay) {
  const Outcome trained = run(train("run", {"--epochs", "2"}));
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_NE(trained.out.find("report: " + dir.path("run/report.html")), std::string::npos) << trained.out;
  const PageChecker before(read_raw(dir.path("run/report.html")));
  EXPECT_EQ(before.fault(), "");
  EXPECT_NE(before.words().find("this run has not been searched"), std::string::npos);
  const Outcome found = run({"search_subnets", "--run", dir.path("run"), "--max-params", "8k"});
  ASSERT_EQ(found.status, 0) << found.err;
  EXPECT_NE(found.out.find("report: "), std::string::npos) << found.out;

  const std::string page = read_raw(dir.path("run/report.html"));
  const PageChecker checker(page);
  EXPECT_EQ(checker.fault(), "");
  const std::string& words = checker.words();
  const RunData data = read_run(dir.path("run"));
  EXPECT_TRUE(data.missing.empty()) << data.missing.front();
  ASSERT_TRUE(data.winner && data.winner->final && data.winner->candidate);
  const Candidate& best = *data.winner->candidate;
  EXPECT_EQ(best.architecture.to_json() + "\n", read_raw(dir.path("run/best_architecture.json")));
  EXPECT_EQ(number_before(words, " parameters "),
            static_cast<double>(cost_of(data.config->model, best.architecture).params));
  EXPECT_NEAR(number_before(words, " % top-1, 40 held-out images, used by the search"), 100 * best.accuracy, 0.005);
  const json end = json::parse(line_with(read_raw(dir.path("run/search.jsonl")), "{\"end\""))["end"]["test"];
  const double top1 = end["top1"].get<double>() / 30;
  ASSERT_TRUE(top1 > 0 && top1 < 1) << top1;
  EXPECT_NEAR(number_before(words, " % top-1, 30 test images"), 100 * std::sqrt(top1 * (1 - top1) / 30), 0.005);
  EXPECT_NEAR(number_before(words, " ± "), 100 * top1, 0.005);
  for (const std::string& part :
       {describe(best.architecture), std::string("Keys, rows apart"), std::string("The sample is a held-out image"),
        std::string(" head 1 "), std::string("Darkest = that map's largest share"), std::string(" max "),
        std::string("block 1, head 1: at most "), std::string("cpu"), std::string("entangle 0.1.0")}) {
    EXPECT_NE(words.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(checker.count("img"), 1);
  EXPECT_EQ(words.find("cannot be shown"), std::string::npos);

  // render_report finds the same, here and elsewhere, and several at once.
  const Outcome rendered = run({"render_report", dir.path("run"), "--output", dir.path("again.html")});
  EXPECT_EQ(rendered.status, 0) << rendered.err;
  EXPECT_TRUE(read_raw(dir.path("again.html")) == page);
  EXPECT_EQ(run({"render_report", dir.path("run"), dir.path("run")}).status, 0);
  EXPECT_EQ(PageChecker(read_raw(dir.path("report.html"))).fault(), "");
  expect_user_error({"render_report", dir.path("none")}, {"there is no " + dir.path("none")});
  expect_user_error({"render_report", dir.path("run"), "--output", dir.path("none/x.html")}, {"none/x.html"});
  EXPECT_EQ(run({"render_report"}).status, 2);

  // Without the data all but the attention maps is there.
  std::filesystem::remove_all(dir.path("data"));
  EXPECT_EQ(run({"render_report", dir.path("run")}).status, 0);
  const std::string without = PageChecker(read_raw(dir.path("run/report.html"))).words();
  EXPECT_NE(without.find("Attention maps cannot be shown"), std::string::npos);
  EXPECT_NE(without.find("Keys, rows apart"), std::string::npos);
}

TEST_F(Programs, PagesCanBeLeftOut) {
  const Outcome trained = run(train("run", {"--epochs", "1", "--no-report"}));
  ASSERT_EQ(trained.status, 0) << trained.err;
  const Outcome found = run({"search_subnets", "--run", dir.path("run"), "--no-report"});
  ASSERT_EQ(found.status, 0) << found.err;
  EXPECT_FALSE(std::filesystem::exists(dir.path("run/report.html")));
  EXPECT_EQ((trained.out + found.out).find("report"), std::string::npos);
}

}  // namespace
}  // namespace entangle
