// A search small enough to know everything about, for the tests of the search and of its log.
#pragma once

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "search/search.h"
#include "search/search_log.h"
#include "tools/common/model_costs.h"

namespace entangle {
namespace small_search {

// 3 * (6 + 36 + 216) = 774 architectures.
inline SearchSpace small_space() { return {{1, 2, 3}, {8, 16, 24}, {1, 2, 3}, {1, 2}}; }

// The published space T, counted exactly: too large to enumerate.
inline SearchSpace space_t() { return {{12, 13, 14}, {192, 216, 240}, {3.5, 4}, {3, 4}}; }
inline CostTable table_t() { return model_costs(SupernetConfig(), space_t(), 1); }

inline int64_t small_params(const Architecture& a) {
  int64_t sum = 10 * a.embed_dim;
  for (size_t i = 0; i < a.num_heads.size(); ++i)
    sum += a.embed_dim * (a.num_heads[i] + hidden_width(4, a.mlp_ratio[i]));
  return sum;
}

// The same, layer by layer, with multiply-accumulates that reward other genes, and a latency that no formula gives.
inline CostTable small_table(const SearchSpace& space = small_space()) {
  return CostTable(
      space,
      [](int width) {
        return Costs{10 * width, 7 * width * width, 100 + width, 5000};
      },
      [](int width, int heads, double ratio) {
        const int64_t hidden = hidden_width(4, ratio);
        return Costs{width * (heads + hidden), width * (heads * heads + 3 * hidden), width * heads,
                     1000 + 977 * heads + 131 * hidden + 17 * (width * heads * hidden % 7)};
      });
}

// Every architecture of a space, by recursion over its genes.
inline void each_block(const SearchSpace& space, Architecture& a, size_t block, std::vector<Architecture>& out) {
  if (block == a.num_heads.size()) {
    out.push_back(a);
    return;
  }
  for (const int heads : space.num_heads) {
    for (const double ratio : space.mlp_ratio) {
      a.num_heads[block] = heads, a.mlp_ratio[block] = ratio;
      each_block(space, a, block + 1, out);
    }
  }
}

inline std::vector<Architecture> every_architecture(const SearchSpace& space) {
  std::vector<Architecture> out;
  for (const int depth : space.depth) {
    for (const int width : space.embed_dim) {
      Architecture a = Architecture::uniform(depth, width, 1, 1);
      each_block(space, a, 0, out);
    }
  }
  return out;
}

// Smooth, largest for the largest, and different for different architectures.
inline double small_fitness(const Architecture& a) {
  double sum = 0.1 * a.depth + 0.011 * a.embed_dim;
  for (size_t i = 0; i < a.num_heads.size(); ++i) {
    sum += 0.01 * std::sqrt(a.mlp_ratio[i] * static_cast<double>(i + 2)) +
           0.013 * a.num_heads[i] / static_cast<double>(i + 1);
  }
  return sum;
}

inline SearchOptions small_options() {
  SearchOptions options;
  options.population = 8, options.generations = 4, options.top = 4;
  options.mutations = 3, options.crossovers = 3;
  options.seed = 11;
  return options;
}

inline SearchOptions within(int64_t min_params, int64_t max_params, SearchOptions options = small_options()) {
  options.min_params = min_params, options.max_params = max_params;
  return options;
}

inline std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

inline void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" is not in: " << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

inline void expect_same(const SearchResult& a, const SearchResult& b) {
  ASSERT_EQ(a.candidates.size(), b.candidates.size());
  for (size_t i = 0; i < a.candidates.size(); ++i) {
    EXPECT_EQ(a.candidates[i].architecture, b.candidates[i].architecture) << i;
    EXPECT_EQ(a.candidates[i].costs, b.candidates[i].costs) << i;
    EXPECT_EQ(a.candidates[i].images, b.candidates[i].images) << i;
    EXPECT_EQ(a.candidates[i].stopped, b.candidates[i].stopped) << i;
    EXPECT_EQ(a.candidates[i].accuracy, b.candidates[i].accuracy) << i;
    EXPECT_EQ(a.candidates[i].generation, b.candidates[i].generation) << i;
  }
  EXPECT_EQ(a.best.architecture, b.best.architecture);
}

// `log` names a file; empty: none.
inline SearchResult run(const CostTable& table, const SearchOptions& options, const Fitness& fitness,
                        const std::string& log = "", const SearchProgress& progress = nullptr) {
  FitnessEvaluator evaluator(fitness);
  SearchLog file(log);
  return search(table, options, evaluator, file, progress);
}

inline SearchResult run_small(const SearchOptions& options, const std::string& log = "") {
  return run(small_table(), options, small_fitness, log);
}

}  // namespace small_search
}  // namespace entangle
