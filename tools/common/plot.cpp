#include "tools/common/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/check.h"
#include "tools/common/html.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

constexpr double kWidth = 360, kLeft = 46, kRight = 12, kPanel = 176, kBelow = 36, kLegendRow = 16, kTitle = 22;
constexpr double kLetter = 5.9;     // width of a letter, about
constexpr double kLargest = 1e100;  // beyond that ranges overflow
constexpr size_t kLongestName = 44;

// One axis: from values to pixels.
struct Scale {
  double low, high;   // values, or their logarithms
  double begin, end;  // pixels
  bool logarithmic;

  bool shows(double value) const {
    return std::isfinite(value) && std::fabs(value) < kLargest && (!logarithmic || value > 0);
  }
  double inner(double value) const { return logarithmic ? std::log10(value) : value; }
  double place(double value) const { return begin + (end - begin) * (inner(value) - low) / (high - low); }
};

double step_above(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double digit : {1, 2, 5}) {
    if (digit * power >= value * (1 - 1e-9)) return digit * power;
  }
  return 10 * power;
}

Scale make_scale(const PlotAxis& axis, const std::vector<double>& values, double begin, double end) {
  Scale scale = {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), begin, end,
                 axis.logarithmic};
  for (const double value : values) {
    if (!scale.shows(value)) continue;
    scale.low = std::min(scale.low, scale.inner(value));
    scale.high = std::max(scale.high, scale.inner(value));
  }
  if (axis.from_zero && !axis.logarithmic) scale.low = std::min(scale.low, 0.0);
  // One value alone has room around it.
  const double least = 1e-9 * std::max(1e-9, std::max(std::fabs(scale.low), std::fabs(scale.high)));
  if (scale.high - scale.low < least) {
    const double room = scale.high == 0 ? 1 : 0.1 * std::fabs(scale.high);
    scale.low -= axis.from_zero ? 0 : room;
    scale.high += room;
  }
  const double margin = 0.05 * (scale.high - scale.low);
  scale.high += margin;
  if (!axis.from_zero) scale.low -= margin;
  return scale;
}

std::vector<double> ticks(const Scale& scale, int wanted) {
  std::vector<double> out;
  if (scale.logarithmic && scale.high - scale.low > 0.9) {
    const double every = scale.high - scale.low < 2.5 ? 3 : 1;  // 1, 2, 5 or 1 of a decade
    for (double power = std::floor(scale.low); power <= scale.high; ++power) {
      for (const double digit : {1, 2, 5}) {
        const double at = std::log10(digit) + power;
        if ((every > 1 || digit == 1) && at >= scale.low && at <= scale.high) out.push_back(std::pow(10, at));
      }
    }
    return out;
  }
  const double low = scale.logarithmic ? std::pow(10, scale.low) : scale.low;
  const double high = scale.logarithmic ? std::pow(10, scale.high) : scale.high;
  double step = step_above((high - low) / wanted);
  const auto within = [&] { return std::floor(high / step) - std::ceil(low / step) + 1; };
  if (within() < 3) step = step_above(step * 0.35);  // two ticks say little: the next finer step of 1, 2, 5
  for (double at = std::ceil(low / step); at <= std::floor(high / step) && out.size() < 50; ++at)
    out.push_back(at == 0 ? 0 : at * step);
  return out;
}

// All ticks of an axis with as many digits as their step needs.
std::vector<std::string> tick_texts(const std::vector<double>& at, bool logarithmic) {
  std::vector<std::string> out;
  double largest = 0;
  for (const double value : at) largest = std::max(largest, std::fabs(value));
  const double step = at.size() > 1 ? at[1] - at[0] : largest;
  const bool plain = !logarithmic && largest < 1e4 && (step >= 1e-3 || largest == 0);
  const int digits = step > 0 ? std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9))) : 0;
  for (const double value : at) out.push_back(plain ? format("%.*f", digits, value) : short_number(value));
  return out;
}

std::string text_at(double x, double y, const char* anchor, const std::string& words, const char* style = "t") {
  return text_element(format("text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"", style, x, y, anchor), words);
}

std::string line_at(const char* style, double x1, double y1, double x2, double y2) {
  return format("<path class=\"%s\" d=\"M%.1f %.1fL%.1f %.1f\"/>", style, x1, y1, x2, y2);
}

std::string colour_class(int colour) { return colour < 0 ? "cx" : "c" + std::to_string(colour % kPlotColours); }

std::string star_path(double x, double y) {
  std::string path;
  for (int i = 0; i < 10; ++i) {
    const double angle = 3.14159265358979 * (0.2 * i - 0.5), radius = i % 2 == 0 ? 7.5 : 3.2;
    path += format("%s%.1f %.1f", i == 0 ? "M" : "L", x + radius * std::cos(angle), y + radius * std::sin(angle));
  }
  return path + "Z";
}

std::string mark(PlotSeries::Form form, double x, double y) {
  using Form = PlotSeries::Form;
  if (form == Form::star) return "<path class=\"star\" d=\"" + star_path(x, y) + "\"";
  const bool small = form == Form::faint || form == Form::solid || form == Form::hollow;
  const double radius = small ? 2.2 : form == Form::rings ? 4.5 : 3;
  const char* style = form == Form::faint    ? "faint"
                      : form == Form::solid  ? "solid"
                      : form == Form::hollow ? "hollow"
                      : form == Form::rings  ? "ring"
                                             : "dot";
  return format("<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", style, x, y, radius);
}

class Drawing {
 public:
  explicit Drawing(const Plot& plot) : plot_(plot) {
    place_legend();
    const double top = kTitle + kLegendRow * static_cast<double>(legend_rows_) + 8;
    std::vector<double> xs, ys;
    for (const PlotLimit& limit : plot.limits) xs.push_back(limit.x);
    for (const PlotSeries& series : plot.series) {
      for (const PlotPoint& point : series.points) xs.push_back(point.x), ys.push_back(point.y);
      for (const auto& [low, high] : series.spread) ys.push_back(low), ys.push_back(high);
    }
    x_ = make_scale(plot.x, xs, kLeft, kWidth - kRight);
    y_ = make_scale(plot.y, ys, top + kPanel, top);
  }

  bool empty() const {
    for (const PlotSeries& series : plot_.series) {
      for (const PlotPoint& point : series.points) {
        if (shows(point)) return false;
      }
    }
    return true;
  }
  double height() const { return y_.begin + kBelow; }

  // The content of an <svg>.
  std::string draw() const {
    const std::string unit = plot_.y.label.empty() ? "" : "  " + text_element("tspan class=\"t plain\"", plot_.y.label);
    std::string out =
        element("text class=\"title\" x=\"0\" y=\"13\"", escape_html(plot_.title) + unit) + legend() + axes();
    for (const PlotLimit& limit : plot_.limits) out += limit_line(limit);
    for (const PlotSeries& series : plot_.series)
      out += element("g class=\"" + colour_class(series.colour) + "\"", shape(series));
    for (const PlotSeries& series : plot_.series) out += labels(series);
    return out;
  }

 private:
  bool shows(const PlotPoint& point) const { return x_.shows(point.x) && y_.shows(point.y); }

  // Names side by side, in as many rows as they need.
  void place_legend() {
    double x = 0;
    for (const PlotSeries& series : plot_.series) {
      const std::string name = series.name.substr(0, kLongestName);
      const double width = 20 + kLetter * static_cast<double>(name.size()) + 12;
      if (name.empty()) continue;
      if (legend_rows_ == 0 || x + width > kWidth + 12) ++legend_rows_, x = 0;
      legend_.push_back({&series, name, x, kTitle + kLegendRow * static_cast<double>(legend_rows_) - 4});
      x += width;
    }
  }

  std::string legend() const {
    std::string out;
    for (const auto& [series, name, x, y] : legend_) {
      using Form = PlotSeries::Form;
      const bool lined = series->form == Form::line || series->form == Form::dashed || series->form == Form::steps;
      const char* style = series->form == Form::dashed ? "l dash" : "l";
      const std::string key = lined ? line_at(style, x, y - 4, x + 16, y - 4) : mark(series->form, x + 8, y - 4) + "/>";
      out += element("g class=\"" + colour_class(series->colour) + "\"", key) + text_at(x + 20, y, "start", name);
    }
    return out;
  }

  std::string axes() const {
    std::string out;
    const std::vector<double> across = ticks(x_, 5), up = ticks(y_, 5);
    const std::vector<std::string> x_texts = tick_texts(across, plot_.x.logarithmic),
                                   y_texts = tick_texts(up, plot_.y.logarithmic);
    for (size_t i = 0; i < up.size(); ++i) {
      out += line_at("rule", kLeft, y_.place(up[i]), kWidth - kRight, y_.place(up[i]));
      out += text_at(kLeft - 5, y_.place(up[i]) + 3.5, "end", y_texts[i]);
    }
    for (size_t i = 0; i < across.size(); ++i) {
      out += line_at("rule", x_.place(across[i]), y_.end, x_.place(across[i]), y_.begin);
      out += text_at(x_.place(across[i]), y_.begin + 14, "middle", x_texts[i]);
    }
    out += line_at("axis", kLeft, y_.begin, kWidth - kRight, y_.begin);
    return out + text_at((kLeft + kWidth - kRight) / 2, y_.begin + 30, "middle", plot_.x.label);
  }

  std::string limit_line(const PlotLimit& limit) const {
    const double x = x_.place(limit.x);
    const bool left = x > kWidth / 2;
    return line_at("limit", x, y_.end, x, y_.begin) +
           text_at(left ? x - 4 : x + 4, y_.begin - 6, left ? "end" : "start", limit.label, "t halo");
  }

  std::string shape(const PlotSeries& series) const {
    using Form = PlotSeries::Form;
    const bool lined = series.form == Form::line || series.form == Form::dashed || series.form == Form::steps;
    std::string out = band(series);
    std::string path;
    size_t shown = 0;
    double last = 0;
    for (const PlotPoint& point : series.points) {
      if (!shows(point)) continue;
      const double x = x_.place(point.x), y = y_.place(point.y);
      if (series.form == Form::steps && shown > 0) path += format("L%.1f %.1f", x, last);
      path += format("%s%.1f %.1f", shown++ == 0 ? "M" : "L", x, y);
      last = y;
      if (!lined)
        out += mark(series.form, x, y) +
               (point.title.empty() ? "/>" : ">" + text_element("title", point.title) + close(series.form));
    }
    if (!lined || shown == 0) return out;
    if (shown <= 12 && series.form != Form::dashed) out += dots(series);
    return out + "<path class=\"" + (series.form == Form::dashed ? "l dash" : "l") + "\" d=\"" + path + "\"/>";
  }

  static std::string close(PlotSeries::Form form) { return form == PlotSeries::Form::star ? "</path>" : "</circle>"; }

  // Few points of a line can be told apart, and pointed at.
  std::string dots(const PlotSeries& series) const {
    std::string out;
    for (const PlotPoint& point : series.points) {
      if (!shows(point)) continue;
      out += format("<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\">", x_.place(point.x), y_.place(point.y)) +
             text_element("title", concat(series.name, series.name.empty() ? "" : ": ", short_number(point.y), " at ",
                                          short_number(point.x))) +
             "</circle>";
    }
    return out;
  }

  std::string band(const PlotSeries& series) const {
    std::string there, back;
    for (size_t i = 0; i < series.spread.size() && i < series.points.size(); ++i) {
      const auto [low, high] = series.spread[i];
      if (!shows(series.points[i]) || !y_.shows(low) || !y_.shows(high)) continue;
      const double x = x_.place(series.points[i].x);
      there += format("%s%.1f %.1f", there.empty() ? "M" : "L", x, y_.place(high));
      back = format("L%.1f %.1f", x, y_.place(low)) + back;
    }
    return there.empty() ? "" : "<path class=\"band\" d=\"" + there + back + "Z\"/>";
  }

  std::string labels(const PlotSeries& series) const {
    std::string out;
    for (const PlotPoint& point : series.points) {
      if (point.label.empty() || !shows(point)) continue;
      const double x = x_.place(point.x), y = y_.place(point.y);
      const bool left = x + 10 + kLetter * static_cast<double>(point.label.size()) > kWidth;
      out += text_at(left ? x - 9 : x + 9, std::max(y - 5, y_.end + 9), left ? "end" : "start", point.label, "t halo");
    }
    return out;
  }

  struct LegendEntry {
    const PlotSeries* series;
    std::string name;
    double x, y;
  };

  const Plot& plot_;
  std::vector<LegendEntry> legend_;
  int legend_rows_ = 0;
  Scale x_ = {}, y_ = {};
};

}  // namespace

std::string plot_svg(const Plot& plot) {
  const Drawing drawing(plot);
  if (drawing.empty()) return "";
  const std::string open =
      format("svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" role=\"img\" viewBox=\"0 0 %.0f %.0f\"", kWidth,
             drawing.height());
  return element(open + " aria-label=\"" + escape_html(plot.title) + "\"", drawing.draw());
}

std::string plot_style() {
  const char* light[] = {"#2a78d6", "#c4571f", "#138a5f", "#8a6a00", "#6b4fc0", "#c23b6f", "#3d7a1f", "#555e6b"};
  const char* dark[] = {"#5aa2f2", "#f08a53", "#3fbf8f", "#d9b13b", "#a78bf0", "#ee7ba6", "#86c95a", "#a9b3c1"};
  const auto colours = [](const char* const(&list)[kPlotColours]) {
    std::string out;
    for (int i = 0; i < kPlotColours; ++i) out += format("--c%d:%s;", i, list[i]);
    return out;
  };
  std::string style =
      ":root{color-scheme:light dark;--paper:#fcfcfb;--ink:#16191d;--soft:#5b636e;--line:#e2e4e8;--cx:#16191d;" +
      colours(light) +
      "}\n@media screen and (prefers-color-scheme:dark)"
      "{:root{--paper:#16181b;--ink:#eceef0;--soft:#a4abb5;--line:#31353b;--cx:#eceef0;" +
      colours(dark) + "}}\n";
  for (int i = 0; i < kPlotColours; ++i) style += format(".c%d{color:var(--c%d)}", i, i);
  return style +
         ".cx{color:var(--ink)}\n"
         "svg.plot{display:block;width:100%;font:11px system-ui,sans-serif}\n"
         ".t,.title{fill:var(--soft)}.title{fill:var(--ink);font-weight:600;font-size:12px}.plain{font-weight:400}\n"
         ".halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px;fill:var(--ink)}\n"
         ".rule{stroke:var(--line);fill:none}.axis{stroke:var(--soft);fill:none}\n"
         ".limit{stroke:var(--soft);stroke-dasharray:4 3;fill:none}\n"
         ".l{stroke:currentColor;stroke-width:1.8;fill:none;stroke-linejoin:round}.dash{stroke-dasharray:5 3}\n"
         ".band{fill:currentColor;opacity:.18}\n"
         ".dot,.star{fill:currentColor;stroke:var(--paper);stroke-width:1}\n"
         ".faint{fill:currentColor;opacity:.4}.solid{fill:currentColor;opacity:.8}\n"
         ".hollow{fill:none;stroke:currentColor;stroke-width:.9;opacity:.45}.ring{fill:none;stroke:currentColor;stroke-"
         "width:1.6}\n";
}

std::string plot_file(const std::vector<Plot>& plots) {
  std::string content;
  double x = 10, height = 0;
  for (const Plot& plot : plots) {
    const Drawing drawing(plot);
    content += element(format("g transform=\"translate(%.0f 10)\"", x), drawing.empty() ? "" : drawing.draw());
    x += kWidth + 30;
    height = std::max(height, drawing.height());
  }
  return element(format("svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 %.0f %.0f\"", x - 20,
                        height + 20),
                 element("style", plot_style()) + "<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>" +
                     content) +
         "\n";
}

std::string short_number(double value) {
  const double size = std::fabs(value);
  if (size >= 1e13 || (size > 0 && size < 1e-3)) return format("%.3g", value);
  for (const auto& [unit, suffix] : {std::pair<double, const char*>{1e9, "G"}, {1e6, "M"}, {1e4, "k"}}) {
    if (size >= unit) return format("%.4g%s", value / (unit == 1e4 ? 1e3 : unit), suffix);
  }
  return format("%.4g", value);
}

}  // namespace entangle
