#include "tools/common/latency.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/device.h"
#include "engine/parallel.h"
#include "nn/subnet.h"
#include "tools/common/config.h"
#include "tools/common/environment.h"
#include "tools/common/progress.h"

namespace entangle {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr int kPasses = 4;
constexpr int kLeastRuns = 5, kMostRuns = 100;
constexpr int64_t kEnoughNs = 40000000;  // of measuring one net in one pass
constexpr int64_t kUnits = 500;          // parts of the slowest block that latencies are rounded to
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

int64_t since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

// The subnet in dense weights of its own.
std::unique_ptr<Supernet> cut_out(const Supernet& supernet, const Architecture& a) {
  SupernetConfig config = supernet.config();
  config.dense = a;
  config.classical = {};
  config.embed_dim = a.embed_dim;
  config.depth = a.depth;
  config.num_heads = *std::max_element(a.num_heads.begin(), a.num_heads.end());
  config.mlp_ratio = *std::max_element(a.mlp_ratio.begin(), a.mlp_ratio.end());
  auto out = std::make_unique<Supernet>(config);
  out->parameters().allocate(supernet.parameters().device(), ArenaUse::inference);
  inherit_weights(supernet, a, *out);
  return out;
}

Tensor blank_images(const Supernet& supernet, int64_t batch) {
  const SupernetConfig& c = supernet.config();
  return Tensor::zeros({batch, c.in_channels, c.image_size, c.image_size}, supernet.parameters().device());
}

// The fastest times of a net's parts: stem and head together, and all blocks.
struct Parts {
  int64_t ends = kNever, blocks = kNever, whole = kNever;
};

Parts fastest(const Supernet& net, const Architecture& a, const Tensor& images) {
  const DeviceKind device = net.parameters().device();
  Parts best;
  int64_t spent = 0;
  for (int run = 0; run < kLeastRuns || (run < kMostRuns && spent < kEnoughNs); ++run) {
    const Clock::time_point start = Clock::now();
    ResidualStream stream = net.stem(images, a.embed_dim);
    synchronize(device);
    const int64_t stem = since(start);
    for (int64_t i = 0; i < a.depth; ++i) {
      const size_t at = static_cast<size_t>(i);
      stream = net.block(stream, i, a.num_heads[at], a.mlp_ratio[at]);
    }
    synchronize(device);
    const int64_t blocks = since(start) - stem;
    net.head(stream);
    synchronize(device);
    const int64_t whole = since(start);
    best = {std::min(best.ends, whole - blocks), std::min(best.blocks, blocks), std::min(best.whole, whole)};
    spent += whole;
  }
  return best;
}

int64_t fastest_forward(const Supernet& net, const Architecture& a, const Tensor& images) {
  int64_t best = kNever, spent = 0;
  for (int run = 0; run < kLeastRuns || (run < kMostRuns && spent < kEnoughNs); ++run) {
    const Clock::time_point start = Clock::now();
    net.forward(images, a);
    synchronize(net.parameters().device());
    best = std::min(best, since(start));
    spent += since(start);
  }
  return best;
}

bool fits(const LatencyTable& table, const SearchSpace& space) {
  const size_t widths = space.embed_dim.size(), choices = space.num_heads.size() * space.mlp_ratio.size();
  return table.stems.size() == widths && table.blocks.size() == widths &&
         std::all_of(table.blocks.begin(), table.blocks.end(),
                     [&](const std::vector<int64_t>& blocks) { return blocks.size() == choices; });
}

json read_tables(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return json::object();
  json tables = json::parse(read_text_file(path), nullptr, false);
  CHECK(tables.is_object(), path, " does not hold latencies: remove it, and they are measured again");
  return tables;
}

LatencyTable from_json(const std::string& path, const std::string& key, const json& table, const SearchSpace& space) {
  LatencyTable out;
  out.key = key;
  try {
    out.stems = table.at("stems_ns").get<std::vector<int64_t>>();
    out.blocks = table.at("blocks_ns").get<std::vector<std::vector<int64_t>>>();
  } catch (const json::exception&) {
  }
  CHECK(fits(out, space), path, " holds no table of the space for ", key, ": remove it, and it is measured again");
  return out;
}

template <class Number>
std::string words(const std::vector<Number>& list) {
  std::string text;
  for (const Number& value : list) text += concat(" ", value);
  return text;
}

}  // namespace

std::string latency_key(const Supernet& supernet, const SearchSpace& space, int64_t batch) {
  const SupernetConfig& c = supernet.config();
  const bool cpu = supernet.parameters().device() == DeviceKind::cpu;
  return concat(cpu ? "cpu " + processor_name() : "cuda", ", ", threads(), " threads, batch ", batch, ", ",
                c.precision == Precision::bf16 ? "bf16" : "fp32", ", ", c.tokens(), " tokens of patch ", c.patch_size,
                " by ", c.in_channels, ", head_dim ", c.head_dim, ", relative position ",
                c.relative_position ? c.max_relative_position : 0, ", ", c.num_classes, " classes; embed_dim",
                words(space.embed_dim), ", num_heads", words(space.num_heads), ", mlp_ratio", words(space.mlp_ratio),
                ", depth ", space.depth.back());
}

LatencyTable measure_latency(const Supernet& supernet, const SearchSpace& space, int64_t batch,
                             const LatencyProgress& progress) {
  const size_t widths = space.embed_dim.size(), heads = space.num_heads.size(), ratios = space.mlp_ratio.size();
  LatencyTable table = {latency_key(supernet, space, batch), std::vector<int64_t>(widths, kNever),
                        std::vector<std::vector<int64_t>>(widths, std::vector<int64_t>(heads * ratios, kNever))};
  const Tensor images = blank_images(supernet, batch);
  const int depth = space.depth.back();
  int64_t done = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (size_t i = 0; i < widths * heads * ratios; ++i) {
      const size_t width = i / (heads * ratios), choice = i % (heads * ratios);
      const Architecture a = Architecture::uniform(depth, space.embed_dim[width], space.num_heads[choice / ratios],
                                                   space.mlp_ratio[choice % ratios]);
      const Parts parts = fastest(*cut_out(supernet, a), a, images);
      table.stems[width] = std::min(table.stems[width], parts.ends);
      table.blocks[width][choice] = std::min(table.blocks[width][choice], parts.blocks / depth);
      if (progress) progress(++done, static_cast<int64_t>(kPasses * widths * heads * ratios));
    }
  }
  return table;
}

LatencyTable latency_table(const std::string& path, const Supernet& supernet, const SearchSpace& space, int64_t batch,
                           const LatencyProgress& progress) {
  json tables = read_tables(path);
  const std::string key = latency_key(supernet, space, batch);
  if (tables.contains(key)) return from_json(path, key, tables[key], space);
  const LatencyTable table = measure_latency(supernet, space, batch, progress);
  tables[key] = {{"stems_ns", table.stems}, {"blocks_ns", table.blocks}};
  write_file_atomically(path, tables.dump(1) + "\n");
  return table;
}

CostTable with_latency(const CostTable& costs, const LatencyTable& latency) {
  const SearchSpace& space = costs.space();
  CHECK(fits(latency, space), "the table of latencies is of another search space");
  int64_t slowest = 0;
  for (const std::vector<int64_t>& blocks : latency.blocks)
    slowest = std::max(slowest, *std::max_element(blocks.begin(), blocks.end()));
  const int64_t unit = std::max<int64_t>(slowest / kUnits, 1);
  const auto rounded = [&](int64_t ns) { return (ns + unit / 2) / unit * unit; };
  const auto place = [](const auto& choices, auto value) {
    return static_cast<size_t>(std::find(choices.begin(), choices.end(), value) - choices.begin());
  };
  return CostTable(
      space,
      [&](int embed_dim) {
        const size_t width = place(space.embed_dim, embed_dim);
        Costs out = costs.stem(width);
        out[static_cast<size_t>(Metric::latency)] = rounded(latency.stems[width]);
        return out;
      },
      [&](int embed_dim, int heads, double ratio) {
        const size_t width = place(space.embed_dim, embed_dim);
        const size_t choice = place(space.num_heads, heads) * space.mlp_ratio.size() + place(space.mlp_ratio, ratio);
        Costs out = costs.blocks(width)[choice];
        out[static_cast<size_t>(Metric::latency)] = rounded(latency.blocks[width][choice]);
        return out;
      });
}

std::vector<int64_t> measure_subnets(const Supernet& supernet, const std::vector<Architecture>& architectures,
                                     int64_t batch, const LatencyProgress& progress) {
  const Tensor images = blank_images(supernet, batch);
  std::vector<int64_t> best(architectures.size(), kNever);
  int64_t done = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (size_t i = 0; i < architectures.size(); ++i) {
      best[i] = std::min(best[i], fastest_forward(*cut_out(supernet, architectures[i]), architectures[i], images));
      if (progress) progress(++done, static_cast<int64_t>(kPasses * architectures.size()));
    }
  }
  return best;
}

}  // namespace entangle
