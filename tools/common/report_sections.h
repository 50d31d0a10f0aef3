// The parts of a report, each a piece of HTML. Everything that comes from files is escaped here.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/common/plot.h"
#include "tools/common/report_data.h"
#include "tools/common/report_health.h"

namespace entangle {

// Pieces. Cells and sentences are markup already.
std::string figure(const std::string& svg, const std::string& caption = "");
std::string plot_figure(const Plot& plot, const std::string& caption = "");  // empty when nothing can be drawn
std::string grid(const std::string& figures);                                // side by side where there is room
std::string table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows);
std::string details(const std::string& summary, const std::string& content);
std::string paragraph(const std::string& text);          // escapes
std::string verdict_mark(Verdict verdict);               // a word in a colour
std::string percent(double share);                       // 0.854 -> "85.40 %"
std::string describe(const Architecture& architecture);  // in words

double share_error(double share, int64_t images);  // binomial standard error
// "87.55 ± 0.33 %"; without the error where it is not known, or where all or no images are right.
std::string percent_with_error(double share, int64_t images);
std::string cost_words(Metric metric, int64_t value);  // "623,146", "1.62 MB", "3.25 ms"
// " of at most 680,000": what the winner's search allowed; empty where it allowed everything.
std::string limit_words(const RunData& run, Metric metric);

// What was trained, on what, and what words of this page mean. Empty without a configuration.
std::string introduction(const RunData& run);
// Who won, at what cost, and whether the supernet can be trusted; `key` is markup before its name. With the introduction
// where the page has not given it.
std::string summary_card(const RunData& run, const Health& health, const std::string& key, bool introduced);
// Curves of all runs, in the runs' colours.
std::string training_section(const std::vector<RunData>& runs);
std::string draws_section(const RunData& run);
std::string health_section(const Health& health);
std::string search_section(const RunData& run);
std::string winner_section(const RunData& run);
// Relative position tables, and where the winner looks in an image. Opens weights and data; what cannot be opened is said.
std::string inside_section(const RunData& run);
std::string setup_section(const RunData& run);

// Top-1 of the winner on held-out images, with how many; as the search or, for weights of their own, the training found it.
std::optional<std::pair<double, int64_t>> held_out_accuracy(const RunData& run);
std::optional<Evaluation> test_accuracy(const RunData& run);

// Values [rows, columns] as shades, one unit a cell, positive and negative ones in two colours, the largest magnitude full;
// to be put in an <svg>.
std::string heat_cells(const std::vector<double>& values, int64_t columns);

}  // namespace entangle
