// Draws the table of tools/experiments/scaling.sh: images per second against the batch size, and the time of an image against
// its work, with what the FMA ceiling allows.
#include <algorithm>
#include <cstdio>
#include <sstream>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/plot.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./plot_scaling runs/scaling/scaling.tsv runs/scaling/scaling.svg --batch-size 16\n";

// series, label, batch, gflop_per_image, img_per_s, ceiling_gflops: a line of the table.
struct Row {
  std::string series, label;
  double batch, gflop, rate, ceiling;
};

std::vector<Row> read_table(const std::string& path) {
  std::istringstream in(read_text_file(path));
  std::string line;
  std::getline(in, line);  // the names
  std::vector<Row> rows;
  while (std::getline(in, line)) {
    std::istringstream cells(line);
    Row row;
    std::getline(cells, row.series, '\t');
    std::getline(cells, row.label, '\t');
    cells >> row.batch >> row.gflop >> row.rate >> row.ceiling;
    CHECK(cells && row.rate > 0 && row.gflop > 0 && row.ceiling > 0, path, ", line ", rows.size() + 2, ": '", line,
          "' is no measurement");
    rows.push_back(row);
  }
  CHECK(!rows.empty(), "no measurements in ", path);
  return rows;
}

std::vector<Plot> plots_of(const std::vector<Row>& rows, int64_t batch) {
  using Form = PlotSeries::Form;
  Plot batches = {"T, largest subnet, training", {"images of a step", true}, {"img/s", true}, {{"", 0, Form::line}}};
  Plot work = {
      concat("Batch ", batch, ", training"), {"GFLOP an image", false, true}, {"ms an image", false, true}, {}};
  PlotSeries sizes = {"T at image sizes", 0, Form::line};
  std::vector<PlotSeries> spaces;
  double least = 1e300, most = 0, ceiling = 0;
  for (const Row& row : rows) {
    ceiling = std::max(ceiling, row.ceiling);
    if (row.series == "batch") {
      batches.series[0].points.push_back({row.batch, row.rate});
      continue;
    }
    const std::string name = "subnets of " + row.label.substr(0, row.label.find(':'));
    const bool tokens = row.series == "tokens";
    if (!tokens && (spaces.empty() || spaces.back().name != name)) {
      spaces.push_back({name, static_cast<int>(spaces.size()) + 1, Form::line});
    }
    (tokens ? sizes : spaces.back()).points.push_back({row.gflop, 1000 / row.rate, "", row.label});
    least = std::min(least, row.gflop);
    most = std::max(most, row.gflop);
  }
  PlotSeries bound = {concat("FMA ceiling, ", short_number(ceiling), " GFLOP/s"), -1, Form::dashed};
  if (most > 0) bound.points = {{least, 1000 * least / ceiling}, {most, 1000 * most / ceiling}};
  work.series = {bound, sizes};
  work.series.insert(work.series.end(), spaces.begin(), spaces.end());
  return {batches, work};
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Draws the table of tools/experiments/scaling.sh.", kExamples);
  std::string table, output;
  int64_t batch = 16;
  program.app().add_option("table", table, "scaling.tsv")->required();
  program.app().add_option("output", output, "the SVG file to write")->required();
  program.number("--batch-size", batch, "images of a step in the right plot")->capture_default_str();
  return program.run(argc, argv, [&] { write_file_atomically(output, plot_file(plots_of(read_table(table), batch))); });
}
