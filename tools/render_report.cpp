// Writes a page about runs: what was trained, what was found, and whether it can be trusted.
#include <cstdio>

#include "tools/common/cli.h"
#include "tools/common/report.h"

namespace {

constexpr const char* kExamples =
    "  ./render_report runs/fashion-mnist                writes runs/fashion-mnist/report.html\n"
    "  ./render_report runs/a runs/b --output both.html  two runs in one page, their curves in one plot\n"
    "The page is one file that needs neither network nor scripts. It says of a run that is cut off what is missing.\n";

}  // namespace

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Writes a page about runs: curves, draws, search, winner.", kExamples);
  std::vector<std::string> runs;
  std::string output;
  program.app().add_option("run", runs, "directories of runs")->required();
  program.app().add_option("--output", output, "the page (default RUN/report.html; of several runs report.html)");
  return program.run(argc, argv, [&] {
    if (output.empty()) output = runs.size() == 1 ? runs.front() + "/report.html" : "report.html";
    write_report(runs, output);
    std::printf("wrote %s\n", output.c_str());
  });
}
