// The scripts of tools/experiments: their errors, and what they write. The PyTorch peer is played by a shell script.
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

#include "tests/files.h"
#include "tests/shell.h"
#include "tests/temporary_directory.h"
#include "tests/tools/page_checker.h"
#include "tests/tools/programs_fixture.h"

namespace entangle {
namespace {

void expect_one_line(const ShellResult& result, const std::string& part) {
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.text.rfind("error: ", 0), 0u) << result.text;
  EXPECT_EQ(std::count(result.text.begin(), result.text.end(), '\n'), 1) << result.text;
  EXPECT_NE(result.text.find(part), std::string::npos) << part << " in " << result.text;
}

// `python` answers as a machine with PyTorch 9.9 would: 2 img/s, 4 compiled; "none" fails.
void write_python(const std::string& path) {
  write_raw(path, R"(#!/bin/sh
case "$*" in
  -c*) echo 9.9 ;;
  *none*) echo "out of luck" >&2; exit 1 ;;
  *--compile*) echo '{"step_s": 0.5, "img_per_s": 4.0}' ;;
  *) echo '{"step_s": 0.5, "img_per_s": 2.0}' ;;
esac
)");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

TEST(GpuReport, SaysWhatItCannotDo) {
  expect_one_line(run_shell("tools/gpu_report.sh steps everything"),
                  "there is no part everything; the parts are build");
  expect_one_line(run_shell("BACKEND=tpu tools/gpu_report.sh steps"), "BACKEND is tpu; use cuda or emulated");
}

// A part that fails is written down, does not stop the next one, and shows in the exit status.
TEST(GpuReport, WritesDownWhatFails) {
  const TemporaryDirectory dir;
  const ShellResult result =
      run_shell("BACKEND=emulated PEER=" + dir.path("none") + " DATA=fashion-mnist:" + dir.path("none") +
                " OUT=" + dir.path("out") + " tools/gpu_report.sh train peer");
  EXPECT_EQ(result.status, 1) << result.text;
  const std::string page = read_raw(dir.path("out/report.md"));
  for (const char* part : {"# GPU report", "## train", "**train failed**", "## peer", "not compared"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << " in " << page;
  }
}

const std::string kCompare = "tools/experiments/compare_peers.sh ";

TEST(ComparePeers, SaysWhatIsMissing) {
  const TemporaryDirectory dir;
  write_raw(dir.path("peer.py"), "");
  expect_one_line(run_shell("ENTANGLE_PEER= " + kCompare), "ENTANGLE_PEER");
  expect_one_line(run_shell(kCompare + dir.path("none.py")), "there is no file " + dir.path("none.py"));
  expect_one_line(run_shell("PYTHON=" + dir.path("python") + " " + kCompare + dir.path("peer.py")),
                  "there is no " + dir.path("python"));
  expect_one_line(run_shell("PYTHON=false " + kCompare + dir.path("peer.py")), "false has no PyTorch");
  expect_one_line(run_shell("ENTANGLE_PROGRAMS=" + dir.root() + " " + kCompare + dir.path("peer.py")), "run make");
}

TEST(ComparePeers, TableHasTheBestOfEachAndTheRatios) {
  const TemporaryDirectory dir;
  write_raw(dir.path("peer.py"), "");
  write_python(dir.path("python"));
  const ShellResult result = run_shell(
      "SPACES=fashion-mnist ROUNDS=1 BATCH=1 VARIANTS='gather none gather+compile' PYTHON=" + dir.path("python") + " " +
      kCompare + dir.path("peer.py"));
  EXPECT_EQ(result.status, 0) << result.text;
  for (const char* part : {"PyTorch 9.9", "fashion-mnist training none failed: out of luck",
                           "| space | work | entangle | PyTorch gather | PyTorch none | PyTorch gather+compile | "
                           "entangle / best PyTorch |"}) {
    EXPECT_NE(result.text.find(part), std::string::npos) << part << " in " << result.text;
  }
  for (const std::string work : {"training", "forward"}) {
    const size_t at = result.text.find("| fashion-mnist | " + work + " | ");
    ASSERT_NE(at, std::string::npos) << result.text;
    double ours = 0, ratio = 0;
    const std::string format = "| fashion-mnist | " + work + " | %lf | 2.0 | failed | 4.0 | %lf |";
    ASSERT_EQ(std::sscanf(result.text.c_str() + at, format.c_str(), &ours, &ratio), 2) << result.text.substr(at);
    EXPECT_GT(ours, 0);
    EXPECT_NEAR(ratio, ours / 4, 0.006);
  }
}

TEST(Scaling, WritesATableAndAPlot) {
  const TemporaryDirectory dir;
  const ShellResult result = run_shell(
      "BATCHES='1 2' IMAGE_SIZES=32 SUBNETS='fashion-mnist:min' BATCH=1 "
      "tools/experiments/scaling.sh " +
      dir.path("out"));
  ASSERT_EQ(result.status, 0) << result.text;
  const std::string table = read_raw(dir.path("out/scaling.tsv")), plot = read_raw(dir.path("out/scaling.svg"));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 1 + 4) << table;
  EXPECT_NE(table.find("\ntokens\t32 px\t1\t"), std::string::npos) << table;
  size_t points = 0;
  for (size_t at = 0; (at = plot.find("<title>", at)) != std::string::npos; ++at) ++points;
  EXPECT_EQ(points, 4u);
  EXPECT_EQ(PageChecker("<!DOCTYPE html>\n" + plot).fault(), "");
  EXPECT_EQ(plot.rfind("</svg>\n"), plot.size() - 7);
  for (const char* broken : {"nan", "inf", "NaN"}) EXPECT_EQ(plot.find(broken), std::string::npos) << broken;
  expect_one_line(run_shell("ENTANGLE_PROGRAMS=" + dir.root() + " tools/experiments/scaling.sh " + dir.path("other")),
                  "run make");
  EXPECT_FALSE(std::filesystem::exists(dir.path("other")));
}

// The experiments on a training of a few steps.
class Experiments : public Programs {
 protected:
  ShellResult run_experiment(const std::string& script, const std::string& more = "") const {
    return run_shell("CONFIG=" + dir.path("tiny.yaml") + " DATA=fashion-mnist:" + dir.path("data") +
                     " EPOCHS=1 SEEDS=0 IMAGES=20 RANDOM_SUBNETS=2 THREADS=1 WORK=" + dir.path("work") + " " + more +
                     " tools/experiments/" + script + ".sh " + dir.path("out/page"));
  }
  std::string page() const { return read_raw(dir.path("out/page.md")); }

  // The rows of a table have as many cells as its head, and nothing in page or plot is not a number.
  void expect_page(size_t rows, size_t panels) const {
    const std::string text = page(), plot = read_raw(dir.path("out/page.svg"));
    std::istringstream in(text);
    size_t cells = 0, lines = 0;
    for (std::string line; std::getline(in, line);) {
      if (line.rfind("|", 0) != 0) continue;
      const size_t bars = static_cast<size_t>(std::count(line.begin(), line.end(), '|'));
      EXPECT_EQ(bars, cells == 0 ? bars : cells) << line;
      cells = bars;
      ++lines;
    }
    EXPECT_EQ(lines, 2 + rows) << text;
    EXPECT_NE(text.find("![page](page.svg)"), std::string::npos) << text;
    EXPECT_EQ(plot.rfind("</svg>\n"), plot.size() - 7);
    size_t axes = 0;  // one below each panel
    for (size_t at = 0; (at = plot.find("class=\"axis\"", at)) != std::string::npos; ++at) ++axes;
    EXPECT_EQ(axes, panels);
    for (const char* broken : {"nan", "inf", "NaN"}) {
      EXPECT_EQ(plot.find(broken), std::string::npos) << broken;
    }
  }
};

TEST_F(Experiments, SharingsAreComparedAndAFinishedOneIsNotRepeated) {
  const ShellResult first = run_experiment("compare_sharing");
  ASSERT_EQ(first.status, 0) << first.text;
  expect_page(2, 4);
  EXPECT_NE(page().find("| entangled | 1 | 1 | 1.0 |"), std::string::npos) << page();
  EXPECT_NE(page().find("| classical | 1 | 1 | 1.0 |"), std::string::npos) << page();
  const std::string before = page();
  const ShellResult second = run_experiment("compare_sharing");
  EXPECT_EQ(second.status, 0) << second.text;
  EXPECT_EQ(second.text.find("epoch 1/1"), std::string::npos) << second.text;
  EXPECT_EQ(page(), before);
  expect_one_line(run_experiment("compare_sharing", "EPOCHS=2"), "was trained with other arguments");
  std::filesystem::remove(dir.path("work/entangled-0/FINISHED"));
  std::filesystem::resize_file(dir.path("work/entangled-0/log.jsonl"), 0);
  expect_one_line(run_shell("${ENTANGLE_PROGRAMS:-./}report_experiment curves --output " + dir.path("x") +
                            " a=" + dir.path("work/entangled-0")),
                  "finish it before it is reported");
}

TEST_F(Experiments, StrategiesAreComparedOverSeeds) {
  const ShellResult result = run_experiment("compare_strategies", "SEEDS='0 1'");
  ASSERT_EQ(result.status, 0) << result.text;
  expect_page(4, 4);
  EXPECT_NE(page().find("| uniform | 2 | 1 | 1.0 (1.0 to 1.0) |"), std::string::npos) << page();
  EXPECT_NE(page().find("| sandwich-distilled | 2 | 1 | 4.0 (4.0 to 4.0) |"), std::string::npos) << page();
}

TEST_F(Experiments, BiasesAreCompared) {
  const ShellResult result = run_experiment("compare_bias");
  ASSERT_EQ(result.status, 0) << result.text;
  expect_page(2, 4);
  EXPECT_NE(read_raw(dir.path("work/contiguous-0/config.yaml")).find("qkv_bias: contiguous"), std::string::npos);
}

TEST_F(Experiments, InheritedWeightsAreComparedWithOnesTrainedAlone) {
  const ShellResult result = run_experiment("compare_inheritance", "COUNT=3 RETRAIN_EPOCHS=1");
  ASSERT_EQ(result.status, 0) << result.text;
  expect_page(3, 1);
  EXPECT_NE(page().find("Kendall's tau-b: inherited and finetuned "), std::string::npos) << page();
}

TEST_F(Experiments, EverySubnetScoredIsDrawnAndTheFrontMarked) {
  const ShellResult result = run_experiment("plot_front", "SUBNETS=12 RANK_IMAGES=40");
  ASSERT_EQ(result.status, 0) << result.text;
  EXPECT_NE(page().find("12 subnets with inherited weights, each scored on 40 held-out images"), std::string::npos)
      << page();
  const size_t at = page().find("images; ");
  ASSERT_NE(at, std::string::npos);
  expect_page(std::stoul(page().substr(at + 8)), 1);
}

TEST_F(Experiments, SearchesAreComparedOverSeedsAndGoOnWhereTheyWere) {
  const std::string more = "SEEDS='0 1' MAX_PARAMS=1M";
  const ShellResult result = run_experiment("compare_searches", more);
  ASSERT_EQ(result.status, 0) << result.text;
  expect_page(3, 2);
  const std::string before = page(), front = read_raw(dir.path("out/page-front.md"));
  for (const char* row : {"| evolution | 2 | 8 | ", "| evolution, predictor | 2 | 8 | ", "| random | 2 | 8 | "}) {
    EXPECT_NE(before.find(row), std::string::npos) << row << " in " << before;
  }
  EXPECT_NE(front.find("| NSGA-II | 2 | 8 | "), std::string::npos) << front;
  EXPECT_NE(front.find(" | 2 of 2 | – |\n\n![page-front](page-front.svg)"), std::string::npos)
      << "random search is as good as itself in every seed: " << front;
  const ShellResult again = run_experiment("compare_searches", more);
  EXPECT_EQ(again.status, 0) << again.text;
  EXPECT_EQ(page(), before);
  const std::string report = "${ENTANGLE_PROGRAMS:-./}report_experiment searches --output " + dir.path("x") + " ";
  const std::string work = dir.path("work/");
  expect_one_line(run_shell(report + "a=" + work + "evolution-0 b=" + work + "nsga2-0"),
                  "has other objectives or limits than the first search");
  expect_one_line(run_shell(report + "a=" + work + "evolution-0," + work + "evolution-1 b=" + work + "random-0"),
                  "b has 1 seeds, a 2");
  std::string log = read_raw(work + "random-0/search.jsonl");
  write_raw(work + "random-0/search.jsonl", log.substr(0, log.rfind("{\"end\"")));
  expect_one_line(run_shell(report + "a=" + work + "random-0"), "its search is not finished");
}

TEST_F(Experiments, SayWhatIsMissing) {
  expect_one_line(run_experiment("plot_front", "ENTANGLE_PROGRAMS=" + dir.root()), "run make");
  EXPECT_FALSE(std::filesystem::exists(dir.path("work")));
}

}  // namespace
}  // namespace entangle
