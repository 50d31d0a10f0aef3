#include "search/draw.h"

#include <algorithm>

#include "engine/check.h"

namespace entangle {
namespace {

template <class Number>
Number draw(const std::vector<Number>& choices, Rng& rng) {
  return choices[static_cast<size_t>(rng.below(static_cast<int64_t>(choices.size())))];
}

template <class Number>
void redraw_each(std::vector<Number>& genes, const std::vector<Number>& choices, double probability, Rng& rng) {
  for (Number& gene : genes) {
    if (rng.chance(probability)) gene = draw(choices, rng);
  }
}

template <class Number>
std::vector<Number> either(const std::vector<Number>& a, const std::vector<Number>& b, Rng& rng) {
  std::vector<Number> out;
  for (size_t i = 0; i < a.size(); ++i) out.push_back(rng.chance(0.5) ? a[i] : b[i]);
  return out;
}

// The choice next to `value` in a sorted list, or the last one on that side.
template <class Number>
Number neighbour(const std::vector<Number>& choices, Number value, int direction) {
  if (direction > 0) {
    const auto above = std::upper_bound(choices.begin(), choices.end(), value);
    return above == choices.end() ? choices.back() : *above;
  }
  const auto not_below = std::lower_bound(choices.begin(), choices.end(), value);
  return not_below == choices.begin() ? choices.front() : *(not_below - 1);
}

// Takes the lowest digit, of a base as large as the list, off `index`: the choice that it names.
template <class Number>
Number take_digit(const std::vector<Number>& choices, int64_t& index) {
  const int64_t base = static_cast<int64_t>(choices.size());
  const Number choice = choices[static_cast<size_t>(index % base)];
  index /= base;
  return choice;
}

void set_depth(Architecture& a, int depth, double ratio, int heads) {
  a.depth = depth;
  a.mlp_ratio.resize(static_cast<size_t>(depth), ratio);
  a.num_heads.resize(static_cast<size_t>(depth), heads);
}

}  // namespace

Architecture mutate(const SearchSpace& space, const Architecture& parent, double block, double shape, Rng& rng) {
  Architecture child = parent;
  if (rng.chance(shape)) {
    const int depth = draw(space.depth, rng);
    for (int i = child.depth; i < depth; ++i) child.mlp_ratio.push_back(draw(space.mlp_ratio, rng));
    for (int i = child.depth; i < depth; ++i) child.num_heads.push_back(draw(space.num_heads, rng));
    set_depth(child, depth, 0, 0);
  }
  redraw_each(child.mlp_ratio, space.mlp_ratio, block, rng);
  redraw_each(child.num_heads, space.num_heads, block, rng);
  if (rng.chance(shape)) child.embed_dim = draw(space.embed_dim, rng);
  return child;
}

Architecture cross(const Architecture& a, const Architecture& b, Rng& rng) {
  CHECK(a.depth == b.depth, "cross: parents of depth ", a.depth, " and ", b.depth, " have different genes");
  Architecture child;
  child.depth = a.depth;
  child.mlp_ratio = either(a.mlp_ratio, b.mlp_ratio, rng);
  child.num_heads = either(a.num_heads, b.num_heads, rng);
  child.embed_dim = rng.chance(0.5) ? a.embed_dim : b.embed_dim;
  return child;
}

Architecture step_gene(const SearchSpace& space, const Architecture& from, int direction, Rng& rng) {
  Architecture to = from;
  const int64_t gene = rng.below(2 + 2 * from.depth);
  const size_t block = static_cast<size_t>(std::max<int64_t>(gene - 2, 0) / 2);
  if (gene == 0) {
    set_depth(to, neighbour(space.depth, from.depth, direction), space.mlp_ratio.front(), space.num_heads.front());
  } else if (gene == 1) {
    to.embed_dim = neighbour(space.embed_dim, from.embed_dim, direction);
  } else if (gene % 2 == 0) {
    to.mlp_ratio[block] = neighbour(space.mlp_ratio, from.mlp_ratio[block], direction);
  } else {
    to.num_heads[block] = neighbour(space.num_heads, from.num_heads[block], direction);
  }
  return to;
}

Architecture architecture_at(const SearchSpace& space, int64_t index) {
  CHECK(index >= 0 && static_cast<double>(index) < space.count(), "architecture number ", index, " of a space with ",
        space.count());
  Architecture out;
  for (const int depth : space.depth) {
    // Whole numbers up to the index are exact in double: an index beyond 2^53 is beyond what anybody enumerates.
    const double count = SearchSpace{{depth}, space.embed_dim, space.mlp_ratio, space.num_heads}.count();
    if (static_cast<double>(index) >= count) {
      index -= static_cast<int64_t>(count);
      continue;
    }
    out.depth = depth;
    out.embed_dim = take_digit(space.embed_dim, index);
    for (int i = 0; i < depth; ++i) out.mlp_ratio.push_back(take_digit(space.mlp_ratio, index));
    for (int i = 0; i < depth; ++i) out.num_heads.push_back(take_digit(space.num_heads, index));
    break;
  }
  return out;
}

}  // namespace entangle
