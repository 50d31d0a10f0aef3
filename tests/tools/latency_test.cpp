#include "tools/common/latency.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "search/feasible.h"
#include "tests/search/small_search.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"
#include "tools/common/correlation.h"
#include "tools/common/model_costs.h"
#include "tools/common/search_report.h"

namespace entangle {
namespace {

using namespace small_search;

SearchSpace net_space() { return {{1, 3}, {8, 24}, {1, 2}, {1, 3}}; }

TEST(Latency, TheTableIsMeasuredOncePerKey) {
  TemporaryDirectory dir;
  const std::string path = dir.path("latency.json");
  const Supernet net(small_config(), 1);
  int64_t parts = 0;
  const LatencyProgress count = [&](int64_t done, int64_t total) {
    EXPECT_EQ(done, ++parts);
    EXPECT_EQ(total, 32);
  };
  const LatencyTable table = latency_table(path, net, net_space(), 2, count);
  EXPECT_EQ(parts, 32);
  ASSERT_EQ(table.stems.size(), 2u);
  for (const std::vector<int64_t>& blocks : table.blocks) {
    ASSERT_EQ(blocks.size(), 4u);
    for (const int64_t ns : blocks) EXPECT_TRUE(ns > 0 && ns < 1000000000) << ns;
  }
  const LatencyTable again = latency_table(path, net, net_space(), 2, count);
  EXPECT_EQ(parts, 32) << "read, not measured";
  EXPECT_EQ(again.blocks, table.blocks);
  EXPECT_EQ(again.stems, table.stems);
  // Another batch is another key, beside the first; so is another space.
  EXPECT_NE(latency_key(net, net_space(), 1), latency_key(net, net_space(), 2));
  latency_table(path, net, net_space(), 1);
  EXPECT_EQ(latency_table(path, net, net_space(), 2, count).blocks, table.blocks);
  SearchSpace other = net_space();
  other.mlp_ratio = {1, 1.5};
  EXPECT_NE(latency_key(net, other, 2), latency_key(net, net_space(), 2));
  for (const char* text : {"notes", "[1]", ""}) {
    write(path, text);
    expect_contains(message_of([&] { latency_table(path, net, net_space(), 2); }), "does not hold latencies");
    EXPECT_EQ(read(path), text);
  }
  write(path, "{\"" + latency_key(net, net_space(), 2) + "\":{\"stems_ns\":[1],\"blocks_ns\":[]}}");
  expect_contains(message_of([&] { latency_table(path, net, net_space(), 2); }), "holds no table of the space");
}

TEST(Latency, ASubnetsIsTheSumOfItsPartsRoundedToAUnit) {
  const SupernetConfig config = small_config();
  LatencyTable table;
  table.stems = {100000, 300000};
  table.blocks = {{50000, 70000, 60000, 90000}, {150000, 250000, 200000, 500499}};
  const CostTable costs = with_latency(model_costs(config, net_space(), 1), table);
  Architecture a = Architecture::uniform(3, 24, 1, 1);
  a.num_heads = {1, 3, 3}, a.mlp_ratio = {2, 1, 2};
  // Rounded to thousands: 250,000 (one head, ratio 2), 200,000 (three, 1), 500,499 (three, 2).
  EXPECT_EQ(get(costs.of(a), Metric::latency), 300300 - 300 + 250250 - 250 + 200000 + 500000);
  EXPECT_EQ(get(costs.of(a), Metric::params), get(model_costs(config, net_space(), 1).of(a), Metric::params));
  table.stems.pop_back();
  expect_contains(message_of([&] { with_latency(costs, table); }), "of another search space");
}

// Depth, width and ratio change the time severalfold, far beyond what other work on the machine does to the fastest of
// many runs.
TEST(Timed, LatencyPredictionOrdersCutOutSubnets) {
  SupernetConfig config = small_config();
  config.image_size = 24, config.embed_dim = 96, config.depth = 4, config.head_dim = 16, config.num_heads = 6;
  const SearchSpace space = {{1, 2, 4}, {32, 96}, {0.5, 2}, {1, 6}};
  const Supernet net(config, 1);
  const CostTable costs = with_latency(model_costs(config, space, 8), measure_latency(net, space, 8));
  const std::vector<Architecture> subnets = {space.smallest(), Architecture::uniform(2, 32, 6, 2),
                                             Architecture::uniform(2, 96, 6, 2), space.largest()};
  std::vector<double> predicted, measured;
  for (const Architecture& a : subnets) predicted.push_back(static_cast<double>(get(costs.of(a), Metric::latency)));
  for (const int64_t ns : measure_subnets(net, subnets, 8)) measured.push_back(static_cast<double>(ns));
  EXPECT_DOUBLE_EQ(rank_correlation(predicted, measured), 1);
  EXPECT_LT(mean_relative_error(predicted, measured), 0.5);
}

TEST(SearchReport, FrontAndComparisonAreTables) {
  Candidate small, large;
  small.architecture = Architecture::uniform(1, 8, 1, 1), small.accuracy = 0.5, small.costs = {10, 100, 1000, 1500000};
  large.architecture = Architecture::uniform(2, 8, 1, 1), large.accuracy = 0.75, large.costs = {20, 200, 2000, 2500000};
  small.images = 100, large.images = 60;
  const std::vector<Metric> objectives = {Metric::params, Metric::latency};
  EXPECT_EQ(front_table({small, large}, objectives, 9),
            "| top-1 | params | latency | architecture |\n|---|---|---|---|\n"
            "| 50.00 % | 10 | 1.5 ms | `" +
                small.architecture.to_json() +
                "` |\n"
                "| 75.00 % | 20 | 2.5 ms | `" +
                large.architecture.to_json() + "` |\n");
  EXPECT_EQ(front_json({small}),
            "[\n {\"accuracy\":0.5,\"params\":10,\"macs\":100,\"activation_bytes\":1000,\"latency_ns\":1500000,"
            "\"architecture\":" +
                small.architecture.to_json() + "}\n]\n");
  EXPECT_EQ(front_json({}), "[\n]\n");
  EXPECT_EQ(front_table({}, {}, 5), "| top-1 | architecture |\n|---|---|\n");
  const std::vector<NamedResult> searches = {{"one", {{small, large}, large, true}}, {"two", {{small}, small, true}}};
  const std::string table = comparison_table(searches, {Metric::params}, {{0, 40}});
  EXPECT_NE(table.find("| one | 2 | 160 | 75.00 % | 20 | 2 | 0.5000 |\n"), std::string::npos) << table;
  EXPECT_NE(table.find("| two | 1 | 100 | 50.00 % | 10 | 1 | 0.0000 |\n"), std::string::npos) << table;
}

}  // namespace
}  // namespace entangle
