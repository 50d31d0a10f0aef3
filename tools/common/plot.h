// Plots as SVG, drawn for a screen 360 pixels wide and scaled from there. Colours and fonts are classes of plot_style(), for
// light and dark.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace entangle {

struct PlotPoint {
  double x, y;                         // not drawn when one is not finite, or not positive on a logarithmic axis
  std::string label = {}, title = {};  // beside it; shown when pointed at
};

struct PlotSeries {
  // faint, solid and hollow are small, for many points: solid for what is known, hollow and pale for what is less so.
  enum class Form { line, dashed, steps, dots, faint, solid, hollow, rings, star };
  std::string name;  // in the legend; empty: not there
  int colour = 0;    // of kPlotColours, counted round; negative: that of text
  Form form = Form::line;
  std::vector<PlotPoint> points = {};
  std::vector<std::pair<double, double>> spread = {};  // lowest and highest at each point; empty: none
};
inline constexpr int kPlotColours = 8;

struct PlotAxis {
  std::string label;
  bool from_zero = false, logarithmic = false;
};

// A dashed line across the plot at a value of x.
struct PlotLimit {
  double x;
  std::string label;
};

struct Plot {
  std::string title;
  PlotAxis x, y;
  std::vector<PlotSeries> series;
  std::vector<PlotLimit> limits = {};
};

// An <svg> element; empty when no point can be drawn.
std::string plot_svg(const Plot& plot);

// What the classes mean, for a <style> element.
std::string plot_style();

// A file of its own: plots beside one another.
std::string plot_file(const std::vector<Plot>& plots);

// A number in few characters: "1.5k", "0.002", "300M".
std::string short_number(double value);

}  // namespace entangle
