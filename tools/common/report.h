// A page that tells what runs did: one HTML file that needs nothing else, for a screen of any size and for paper.
#pragma once

#include <string>
#include <vector>

#include "tools/common/report_data.h"

namespace entangle {

// The page: a summary, curves of all runs together, then each run on its own.
std::string report_page(const std::vector<RunData>& runs);

// Reads the runs and writes their page. Throws Error when a path is no run directory or the file cannot be written; what is
// missing or broken in a run is said in its page.
void write_report(const std::vector<std::string>& runs, const std::string& file);

// At the end of a program: RUN/report.html, or why there is none, on a line of its own. A run that succeeded does not fail
// by its report. `weights` as in read_run.
void report_run(const std::string& run, const std::string& weights = "");

}  // namespace entangle
