// Searches of one supernet side by side, over seeds: how good their winners and their fronts are at an equal number of
// candidates.
#pragma once

#include <string>
#include <vector>

#include "tools/common/plot.h"

namespace entangle {

// The searches of one label: directories with search.jsonl and config.yaml, one of each seed.
struct SearchGroup {
  std::string label;
  std::vector<std::string> directories;
};

struct SearchComparison {
  std::string text;  // Markdown
  std::vector<Plot> panels;
};

// Best accuracy and covered share of the front's box (FrontScale over all searches of a seed, the i-th of each label)
// after each candidate. A given-up candidate counts as one and covers nothing: compare fronts of searches that give up
// none, or none of the front's. Throws Error when a search is missing, is not finished or is of other images or limits
// than the first, or the labels have different numbers of seeds.
SearchComparison compare_searches(const std::vector<SearchGroup>& groups);

}  // namespace entangle
