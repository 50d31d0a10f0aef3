// The winning subnet: what it is, what it costs, what is inside.
#include <algorithm>
#include <cmath>
#include <map>

#include "data/evaluation_images.h"
#include "engine/check.h"
#include "nn/checkpoint.h"
#include "tools/common/attention_maps.h"
#include "tools/common/encode.h"
#include "tools/common/html.h"
#include "tools/common/models.h"
#include "tools/common/progress.h"
#include "tools/common/report_sections.h"

namespace entangle {
namespace {

constexpr int kLevels = 10;  // of shade
constexpr double kPageWidth = 360;

std::string svg(double height, const std::string& label, const std::string& content) {
  return element(format("svg class=\"plot\" role=\"img\" viewBox=\"0 0 %.0f %.0f\" aria-label=\"", kPageWidth, height) +
                     escape_html(label) + "\"",
                 content);
}

std::string words(double x, double y, const char* anchor, const std::string& text, const char* style = "t") {
  return text_element(format("text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"", style, x, y, anchor), text);
}

std::string box(const char* style, double x, double y, double width, double height = 16) {
  return format("<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.0f\" rx=\"2\"/>", style, x, y,
                width, height);
}

// --- the architecture ---

constexpr double kHeadsAt = 24, kHeadsWidth = 128, kRatioAt = 164, kRatioWidth = 120, kRow = 21, kFirstRow = 44;

// The largest values that are drawn to scale: those of the supernet, where it is known.
struct Largest {
  double depth, width, heads, hidden;
};

double hidden_of(int64_t embed_dim, double ratio) { return static_cast<double>(hidden_width(embed_dim, ratio)); }

Largest largest_of(const RunData& run, const Architecture& a) {
  Largest largest = {static_cast<double>(a.depth), static_cast<double>(a.embed_dim),
                     static_cast<double>(*std::max_element(a.num_heads.begin(), a.num_heads.end())),
                     hidden_of(a.embed_dim, *std::max_element(a.mlp_ratio.begin(), a.mlp_ratio.end()))};
  if (!run.config) return largest;
  const SupernetConfig& model = run.config->model;
  largest.depth = std::max(largest.depth, static_cast<double>(model.depth));
  largest.width = std::max(largest.width, static_cast<double>(model.embed_dim));
  largest.heads = std::max(largest.heads, static_cast<double>(model.num_heads));
  largest.hidden = std::max(largest.hidden, hidden_of(model.embed_dim, model.mlp_ratio));
  return largest;
}

std::string block_row(const Architecture& a, const Largest& largest, size_t block) {
  const double y = kFirstRow + kRow * static_cast<double>(block), head = kHeadsWidth / largest.heads;
  std::string row = words(18, y + 12, "end", std::to_string(block + 1));
  row += box("ghost", kHeadsAt, y, kHeadsWidth) + box("ghost", kRatioAt, y, kRatioWidth);
  if (block >= static_cast<size_t>(a.depth))
    return row + words(kRatioAt + kRatioWidth + 8, y + 12, "start", "left out");
  for (int h = 0; h < a.num_heads[block]; ++h) row += box("heads", kHeadsAt + head * h + 0.5, y, head - 1);
  row += words(kHeadsAt + 6, y + 12, "start", std::to_string(a.num_heads[block]), "t inside");
  row += box("ratio", kRatioAt, y, kRatioWidth * hidden_of(a.embed_dim, a.mlp_ratio[block]) / largest.hidden);
  return row +
         words(kRatioAt + kRatioWidth + 8, y + 12, "start",
               concat("× ", short_number(a.mlp_ratio[block]), " = ", hidden_width(a.embed_dim, a.mlp_ratio[block])));
}

std::string architecture_figure(const RunData& run, const Architecture& a) {
  const Largest largest = largest_of(run, a);
  const double rows = std::min(largest.depth, static_cast<double>(LargestSize::depth)),
               width = kPageWidth - 8 - kHeadsAt;
  std::string out = box("ghost", kHeadsAt, 2, width) + box("width", kHeadsAt, 2, width * a.embed_dim / largest.width);
  out += words(kHeadsAt + 6, 14, "start",
               concat("width ", a.embed_dim, largest.width > a.embed_dim ? concat(" of ", largest.width) : ""),
               "t inside");
  out += words(kHeadsAt, kFirstRow - 7, "start", "attention heads") +
         words(kRatioAt, kFirstRow - 7, "start", concat("MLP: hidden width, at most ", largest.hidden));
  for (double block = 0; block < rows; ++block) out += block_row(a, largest, static_cast<size_t>(block));
  return figure(svg(kFirstRow + kRow * rows + 4, "The winning subnet: " + describe(a), out),
                "Block by block, from the image (top) to the classes (bottom). Dashed: what the supernet has and this "
                "subnet leaves out.");
}

std::string cost_table(const RunData& run) {
  std::vector<std::vector<std::string>> rows = {{"Subnet", escape_html(describe(run.winner->architecture))}};
  if (const auto costs = winner_costs(run)) {
    const int64_t bytes = get(*costs, Metric::activation_bytes), batch = run.config ? run.config->search.batch_size : 0;
    rows.push_back({"Parameters", grouped(get(*costs, Metric::params)) + limit_words(run, Metric::params)});
    rows.push_back(
        {"Multiply-accumulates of an image", grouped(get(*costs, Metric::macs)) + limit_words(run, Metric::macs)});
    rows.push_back({"Activations of a training step",
                    cost_words(Metric::activation_bytes, bytes) + limit_words(run, Metric::activation_bytes) + " (" +
                        grouped(bytes) + " bytes" +
                        (batch > 0 ? concat(", ", batch, batch == 1 ? " image" : " images") : "") + ")"});
    if (get(*costs, Metric::latency) > 0)
      rows.push_back({"Latency, predicted from blocks",
                      cost_words(Metric::latency, get(*costs, Metric::latency)) + limit_words(run, Metric::latency)});
  }
  const auto test = test_accuracy(run);
  rows.push_back({"Top-1, test images",
                  test ? percent_with_error(test->accuracy(), test->images) + " of " + grouped(test->images) +
                             " images (top-5 " +
                             percent(static_cast<double>(test->top5) / static_cast<double>(test->images)) + ")"
                       : "not recorded in this directory"});
  if (const auto accuracy = held_out_accuracy(run))
    rows.push_back(
        {run.winner->candidate ? "Top-1, held-out images, used by the search" : "Top-1, held-out images",
         percent(accuracy->first) + (accuracy->second > 0 ? " of " + grouped(accuracy->second) + " images" : "")});
  rows.push_back({"As a file", text_element("code", run.winner->architecture.to_json())});
  return table({}, rows);
}

// --- what is inside ---

std::string heat_row_label(double y, const std::string& text) { return words(18, y, "end", text); }

// Root mean square of each row of a table [rows, columns].
std::vector<double> row_sizes(const std::vector<float>& values, int64_t rows) {
  std::vector<double> sizes;
  const size_t columns = values.size() / static_cast<size_t>(rows);
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    double squares = 0;
    for (size_t i = 0; i < columns; ++i)
      squares += static_cast<double>(values[row * columns + i]) * static_cast<double>(values[row * columns + i]);
    sizes.push_back(std::sqrt(squares / static_cast<double>(columns)));
  }
  return sizes;
}

struct PositionTable {
  const char *name, *title;
};
constexpr PositionTable kTables[] = {{"k.embeddings_table_v", "Keys, rows apart"},
                                     {"k.embeddings_table_h", "Keys, columns apart"},
                                     {"v.embeddings_table_v", "Values, rows apart"},
                                     {"v.embeddings_table_h", "Values, columns apart"}};

std::vector<float> position_table(const Supernet& supernet, int block, const PositionTable& table) {
  const Parameter* parameter = supernet.parameters().find(concat("blocks.", block, ".attn.rel_pos_embed_", table.name));
  CHECK(parameter != nullptr, "the weights have no relative position table of block ", block + 1);
  return parameter->tensor.to_vector();
}

// Whether two patches can be that far apart: row 0 of a table is the class token's, row `most` + 1 is distance 0.
bool trained_row(const SupernetConfig& config, int64_t row) {
  return row == 0 || std::abs(row - 1 - config.max_relative_position) < config.side();
}

// Of a table [rows, columns], with NaN, which is not drawn, for rows that no image trains.
std::vector<double> trained_values(const SupernetConfig& config, std::vector<double> values, size_t columns) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!trained_row(config, static_cast<int64_t>(i / columns))) values[i] = NAN;
  }
  return values;
}

double largest_known(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::isfinite(value) ? std::max(largest, std::fabs(value)) : largest;
  return largest;
}

// Slanted lines over a rectangle.
std::string hatched(double x, double y, double width, double height) {
  std::string path;
  for (double at = 0; at + width <= height; at += 6)
    path += format("M%.1f %.1fl%.1f %.1f", x, y + at + width, width, -width);
  return "<path class=\"hatch\" d=\"" + path + "\"/>" +
         format("<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x, y, width, height);
}

// One row a block, one column a distance: how large the table's entries are there.
std::string sizes_figure(const Supernet& supernet, const Architecture& a, const PositionTable& table) {
  const int64_t most = supernet.config().max_relative_position, columns = 2 * most + 2;
  std::vector<double> sizes;
  for (int block = 0; block < a.depth; ++block) {
    const std::vector<double> row =
        trained_values(supernet.config(), row_sizes(position_table(supernet, block, table), columns), 1);
    sizes.insert(sizes.end(), row.begin(), row.end());
  }
  const double left = 24, top = 38, cell = (kPageWidth - 4 - left) / static_cast<double>(columns), height = 15;
  std::string out = words(0, 13, "start", table.title, "title");
  out += words(left + cell - 2, top - 5, "end", "class") + words(left + cell + 1, top - 5, "start", concat("−", most));
  out += words(left + cell * (static_cast<double>(most) + 1.5), top - 5, "middle", "0") +
         words(kPageWidth - 4, top - 5, "end", concat("+", most));
  for (int block = 0; block < a.depth; ++block)
    out += heat_row_label(top + height * (block + 0.75), std::to_string(block + 1));
  out += element(format("g transform=\"translate(%.0f %.0f) scale(%.3f %.0f)\"", left, top, cell, height),
                 heat_cells(sizes, columns));
  for (int64_t row = 1; row < columns; ++row) {
    if (!trained_row(supernet.config(), row))
      out += hatched(left + cell * static_cast<double>(row) + 1, top, cell - 2, height * a.depth);
  }
  out += words(kPageWidth - 4, 13, "end", format("strongest %.3g", largest_known(sizes)));
  return figure(svg(top + height * a.depth + 4, table.title, out));
}

// The four tables of a block themselves.
std::string raw_figure(const Supernet& supernet, int block) {
  const int64_t rows = 2 * supernet.config().max_relative_position + 2, columns = supernet.config().head_dim;
  const double width = 170, height = std::min(5.0 * static_cast<double>(rows), 120.0);
  std::string out = words(0, 13, "start", concat("Block ", block + 1), "title");
  for (int i = 0; i < 4; ++i) {
    const std::vector<float> table = position_table(supernet, block, kTables[i]);
    const std::vector<double> values =
        trained_values(supernet.config(), {table.begin(), table.end()}, static_cast<size_t>(columns));
    const double x = i % 2 * (width + 20), y = 36 + i / 2 * (height + 26);
    out += words(x, y - 5, "start", kTables[i].title);
    out += element(format("g transform=\"translate(%.0f %.0f) scale(%.3f %.3f)\"", x, y,
                          width / static_cast<double>(columns), height / static_cast<double>(rows)),
                   heat_cells(values, columns));
  }
  return figure(svg(36 + 2 * height + 30, concat("Relative position tables of block ", block + 1), out));
}

std::string position_part(const RunData& run, const Supernet& supernet) {
  if (!supernet.config().relative_position) return paragraph("This model has no relative position tables.");
  const Architecture& a = run.winner->architecture;
  std::string sizes, raw;
  for (const PositionTable& table : kTables) sizes += sizes_figure(supernet, a, table);
  for (int block = 0; block < a.depth; ++block) raw += raw_figure(supernet, block);
  std::string note =
      "What attention adds for each distance between two patches, and for the class token: the size (root mean square) "
      "of that row of the table, a line for each block. Distances beyond the last column count as the last.";
  const bool all_trained = supernet.config().side() - 1 >= supernet.config().max_relative_position;
  if (!all_trained)
    note += concat(" No two patches of this image size are more than ", supernet.config().side() - 1,
                   " apart: columns beyond that were never trained and are hatched.");
  const std::string key =
      "From zero to the panel's strongest value, which is written above it: each panel is scaled by its own.";
  return paragraph(note) + element("p class=\"rampkey\"", "<span class=\"ramp\"></span>" + text_element("span", key)) +
         grid(sizes) +
         details("The tables themselves: a row for each distance, a column for each entry of a head",
                 paragraph(concat("Blue is positive, orange negative; each table has a scale of its own.",
                                  all_trained ? "" : " Rows never trained are blank.")) +
                     grid(raw));
}

// The pixels that the network saw, as a picture.
std::string picture(const DataSource& source, const std::vector<float>& pixels, int64_t channels, int64_t size) {
  Image image = {size, size, channels == 1 ? 1 : 3, {}};
  for (int64_t p = 0; p < size * size; ++p) {
    for (int64_t c = 0; c < image.channels; ++c) {
      const size_t channel = static_cast<size_t>(std::min(c, channels - 1));
      const float value =
          pixels[channel * static_cast<size_t>(size * size) + static_cast<size_t>(p)] * source.std_dev[channel] +
          source.mean[channel];
      image.pixels.push_back(static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0f, 1.0f))));
    }
  }
  return "<img class=\"sample\" alt=\"the sample image\" src=\"" +
         data_uri("image/png", encode_png(image, "the sample")) + "\"/>";
}

// One map with its largest share, beneath it where that fits.
std::string map_drawing(const std::vector<double>& map, int64_t side, const std::string& name, double x, double y,
                        double cell) {
  const double largest = 100 * largest_known(map);
  std::string out =
      element(format("g transform=\"translate(%.1f %.1f) scale(%.4f)\"", x, y, cell / static_cast<double>(side)),
              text_element("title", name + format(": at most %.1f %% on one patch", largest)) + heat_cells(map, side));
  out += format("<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x, y, cell, cell);
  if (cell >= 45) out += words(x + cell / 2, y + cell + 11, "middle", format("max %.1f %%", largest));
  return out;
}

std::string maps_figure(const AttentionMaps& maps, const Architecture& a) {
  constexpr double kLeft = 24, kGap = 5, kTop = 18;
  const int heads = *std::max_element(a.num_heads.begin(), a.num_heads.end());
  const double cell = std::min(74.0, (kPageWidth - kLeft) / heads - kGap);
  const double row = cell + (cell >= 45 ? 18 : kGap);
  std::string out;
  for (int head = 0; head < heads; ++head)
    out += words(kLeft + head * (cell + kGap) + cell / 2, 12, "middle", concat(cell >= 45 ? "head " : "", head + 1));
  for (size_t block = 0; block < maps.maps.size(); ++block) {
    const double y = kTop + static_cast<double>(block) * row;
    out += heat_row_label(y + cell / 2 + 4, std::to_string(block + 1));
    for (size_t head = 0; head < maps.maps[block].size(); ++head)
      out += map_drawing(maps.maps[block][head], maps.side, concat("block ", block + 1, ", head ", head + 1),
                         kLeft + static_cast<double>(head) * (cell + kGap), y, cell);
  }
  return figure(svg(kTop + static_cast<double>(maps.maps.size()) * row + 2, "Attention maps", out),
                "A line for each block, a map for each of its heads. Darkest = that map's largest share, which differs "
                "from map to map.");
}

// Of an image that training held out, if there is one: test images are not looked at here.
std::string attention_part(const RunData& run, const Supernet& supernet) {
  Config config = *run.config;
  const auto record = run.checkpoint.find(kSplitRecord);
  if (record != run.checkpoint.end()) config.data.recorded_split = record->second;
  const DataSource source = open_data_for(config);
  const Split split = training_split(config.data, *source.train);
  const int64_t index = split.held_out.empty() ? 0 : split.held_out.front(), size = config.model.image_size;
  const Batch batch = load_for_evaluation(*source.train, source, {index}, 0, 1, size);
  const AttentionMaps maps = attention_maps(supernet, run.winner->architecture,
                                            Tensor::from({1, config.model.in_channels, size, size}, batch.images));
  const auto best = std::max_element(maps.logits.begin(), maps.logits.end());
  double sum = 0;
  for (const float logit : maps.logits) sum += std::exp(static_cast<double>(logit) - static_cast<double>(*best));
  const std::string what = split.held_out.empty() ? "a training image (none was held out)" : "a held-out image";
  const std::string sentence =
      concat("The sample is ", what, ", number ", source.train->name(index), " of class ",
             source.train->class_name(batch.labels[0]), "; the winner says ",
             source.train->class_name(best - maps.logits.begin()), format(" with %.1f %%.", 100 / sum));
  const std::string how = supernet.config().global_pool
                              ? " A map is the attention that each patch gets, as the mean over all patches that look."
                              : " A map is the attention that the class token pays to each patch.";
  return picture(source, batch.images, config.model.in_channels, size) + paragraph(sentence + how) +
         maps_figure(maps, run.winner->architecture);
}

// A part that needs something that may not be there.
template <class Part>
std::string attempt(const std::string& what, const Part& part) {
  try {
    return part();
  } catch (const std::exception& error) {
    return paragraph(concat(what, " cannot be shown: ", error.what(), "."));
  }
}

}  // namespace

std::string heat_cells(const std::vector<double>& values, int64_t columns) {
  double largest = 0;
  for (const double value : values) {
    if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
  }
  std::map<int, std::string> paths;  // by level; negative for negative values
  const size_t width = static_cast<size_t>(columns);
  const auto level = [&](size_t i) {
    return std::isfinite(values[i]) && largest > 0 ? static_cast<int>(std::lround(kLevels * values[i] / largest)) : 0;
  };
  for (size_t i = 0; i < values.size();) {
    size_t end = i + 1;  // of cells beside one another with one shade
    while (end < values.size() && end % width != 0 && level(end) == level(i)) ++end;
    if (level(i) != 0) paths[level(i)] += format("M%zu %zuh%zuv1h-%zuz", i % width, i / width, end - i, end - i);
    i = end;
  }
  std::string out;
  for (const auto& [shade, path] : paths)
    out += format("<path class=\"%s\" fill-opacity=\"%.1f\" d=\"", shade > 0 ? "hot" : "cold",
                  std::abs(shade) / static_cast<double>(kLevels)) +
           path + "\"/>";
  return out;
}

std::string winner_section(const RunData& run) {
  if (!run.winner)
    return paragraph("There is no winner: no best_architecture.json, and no candidate that was scored completely.");
  std::string out;
  if (!run.winner->final) out += paragraph("The search has not ended: this is the best candidate so far.");
  return out + element("div class=\"grid\"",
                       architecture_figure(run, run.winner->architecture) + element("div", cost_table(run)));
}

std::string inside_section(const RunData& run) {
  if (!run.winner) return paragraph("Without a winner there is nothing to look into.");
  if (!run.config || run.weights.empty())
    return paragraph(
        "Position tables and attention maps cannot be shown: the directory has no weights with their configuration.");
  return attempt("Position tables and attention maps", [&] {
    Supernet supernet(run.config->model);
    load_checkpoint(run.weights, supernet, false);
    run.config->model.check_fits(run.winner->architecture);
    return element("h4", "Relative position") +
           attempt("The position tables", [&] { return position_part(run, supernet); }) + element("h4", "Attention") +
           attempt("Attention maps", [&] { return attention_part(run, supernet); });
  });
}

}  // namespace entangle
