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
