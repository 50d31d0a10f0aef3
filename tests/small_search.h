// A search small enough to know everything about, for the tests of the search and of its log.
#pragma once

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

#include "search/search.h"

namespace entangle {
namespace small_search {

// 3 * (6 + 36 + 216) = 774 architectures.
inline SearchSpace small_space() { return {{1, 2, 3}, {8, 16, 24}, {1, 2, 3}, {1, 2}}; }

inline int64_t small_params(const Architecture& a) {
  int64_t sum = 10 * a.embed_dim;
  for (size_t i = 0; i < a.num_heads.size(); ++i)
    sum += a.embed_dim * (a.num_heads[i] + hidden_width(4, a.mlp_ratio[i]));
  return sum;
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
    EXPECT_EQ(a.candidates[i].params, b.candidates[i].params) << i;
    EXPECT_EQ(a.candidates[i].accuracy, b.candidates[i].accuracy) << i;
    EXPECT_EQ(a.candidates[i].generation, b.candidates[i].generation) << i;
  }
  EXPECT_EQ(a.best.architecture, b.best.architecture);
}

inline SearchResult run_small(const SearchOptions& options, const std::string& log = "") {
  return search(small_space(), options, small_fitness, small_params, log);
}

}  // namespace small_search
}  // namespace entangle
