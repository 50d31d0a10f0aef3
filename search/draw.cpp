#include "search/draw.h"

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

}  // namespace entangle
